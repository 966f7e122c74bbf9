// Package broker is the MQTT server: a mochi server whose routed messages go to
// functions, and whose connections the kernel path may graft.
package broker

import (
	"net"
	"time"

	"eproxy/internal/delivery"
)

// Grafter arms connections for the kernel path.
type Grafter interface {
	// Established is called when a client is authenticated, before CONNACK. It
	// returns nil if the connection stays with this server.
	Established(ConnInfo) Graft
}

// ConnInfo describes a client's connection.
type ConnInfo struct {
	Conn          *net.TCPConn
	ClientID      string
	Version       byte   // MQTT protocol level: 3, 4 or 5
	Read          uint64 // bytes read from the socket so far
	AtBoundary    bool   // they end exactly at a packet boundary
	MayPublishAll bool   // no topic is forbidden to the client
	// Complete acknowledges a message that the kernel path took, or does what
	// its failure demands. It is for QoS 1; for QoS 0 it does nothing. It never
	// waits for the client; one that leaves too many unread is disconnected.
	Complete func(packetID uint16, o delivery.Outcome)
	Abort    func() // closes with RST
}

// Graft is an armed connection.
type Graft interface {
	// Boundary is called when all bytes read so far ended at a packet boundary
	// and the server is about to wait for more.
	Boundary(read uint64)
	// LastReceive is when the kernel path last took a message.
	LastReceive() time.Time
	// Granted says that the client was allowed to publish to this routed topic.
	Granted(topic string)
	// Close is called when the socket is closed.
	Close()
}
