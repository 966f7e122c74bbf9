package broker

import (
	"context"
	"net"
	"net/netip"
	"time"

	"eproxy/internal/delivery"
	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// Frontend is an MQTT server: it owns the clients' connections, speaks MQTT with
// them, and keeps subscriptions, retained messages and what outlives a
// connection. Who may do what, and where a message goes, it asks a Server.
type Frontend interface {
	// Serve accepts clients until ctx ends.
	Serve(ctx context.Context) error
	// Addresses are those that it listens on.
	Addresses() []net.Addr
	// Publish hands a message to the subscribers, and keeps it if it is to be
	// retained. Nobody's permission is asked.
	Publish(m *request.Message) error
	// Copy is Publish of what a client has published: those that want nothing of their own do not get it.
	Copy(m *request.Message) error
	// Message reads a PUBLISH packet of a client of this protocol level, which the kernel path has judged. The message may have parts of it.
	Message(version byte, packet []byte) (*request.Message, error)
	// Retain keeps a message for later subscribers (an empty one ends that), and
	// hands it to nobody.
	Retain(m *request.Message)
	// Close ends all connections.
	Close()
}

// Peer is one client's connection, as its frontend has it. The methods may be
// called at any time, by any goroutine, and do nothing after the connection's end.
type Peer interface {
	// Acknowledge writes PUBACK, or PUBREC for QoS 2, with this MQTT 5 reason
	// code, which older clients do not see. With a batch PUBACK is written when that is
	// flushed, along with others, and the client is not waited for.
	Acknowledge(packetID uint16, qos, code byte, b *pool.Batch) error
	// Settle waits until the server has done with what the client had sent when it
	// was called, for a second at most.
	Settle()
	// Disconnect ends the connection; an MQTT 5 client gets DISCONNECT with the
	// reason before.
	Disconnect(code byte, reason string)
	// Abort ends the connection with RST.
	Abort()
	// Closed says whether the connection has ended.
	Closed() bool
}

// Connect is a client's CONNECT packet.
type Connect struct {
	ClientID      string
	Username      string
	Certified     bool // the user name is that of the client's certificate, which was verified
	Password      []byte
	Version       byte          // MQTT protocol level: 3, 4 or 5
	Clean         bool          // Clean Start, Clean Session
	KeepAlive     time.Duration // 0: none
	SessionExpiry time.Duration
	Remote        netip.AddrPort
	Until         time.Time // when the client's certificate is out of date; zero: it has none
	Will          *Will     // nil: none
}

// Will is what is published for a client whose connection ends otherwise than by
// its DISCONNECT (MQTT 5 section 3.1.2.5).
type Will struct {
	Message request.Message
	Delay   time.Duration // MQTT 5 section 3.1.3.2.2
}

// Transport is a TCP connection without encryption, which the kernel path can
// graft.
type Transport struct {
	Conn       *net.TCPConn
	Read       uint64 // bytes read from the socket so far
	AtBoundary bool   // they end exactly at a packet boundary
}

// MQTT 5 reason codes (section 2.4) with which a session is refused or ends.
const (
	CodeSuccess        = delivery.CodeSuccess
	CodeUnspecified    = delivery.CodeUnspecified
	CodeQuotaExceeded  = delivery.CodeQuotaExceeded
	CodeBadCredentials = 0x86
	CodeNotAuthorized  = 0x87
	CodeUnavailable    = 0x88
	CodeBusy           = 0x89
	CodeBanned         = 0x8a
	CodeAdministrative = 0x98
)
