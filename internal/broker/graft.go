package broker

import (
	"net"
	"time"

	"eproxy/internal/abi"
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
	Conn       *net.TCPConn
	ClientID   string
	Username   string // whose password was checked; empty: anonymous
	Version    byte   // MQTT protocol level: 3, 4 or 5
	Read       uint64 // bytes read from the socket so far
	AtBoundary bool   // they end exactly at a packet boundary
	Clear      bool   // messages of ordered and also_broker routes that follow may be taken (Graft.Clear)
	Rights     uint32 // what the client may publish, as the programs know it: a version, and enum right
	// Complete acknowledges a message that the kernel path took, or does what
	// its failure demands. It is for QoS 1; for QoS 0 it does nothing. It never
	// waits for the client; one that leaves too many unread is disconnected.
	Complete func(packetID uint16, h Hold, o delivery.Outcome)
	// Copy gives subscribers a message that the kernel path took, a whole PUBLISH packet, which remains the caller's. It is called in the
	// order of the client's stream, and waits while too many copies, of all clients, wait for subscribers.
	Copy  func(packet []byte)
	Abort func() // closes with RST
}

// Hold is what a QoS 1 message under way has on its packet identifier. It is void
// as soon as the client uses the identifier for another message.
type Hold uint32

// NoHold is that of a message on a connection that is not armed, or gone.
const NoHold Hold = abi.HoldNone

// Orderer is a Grafter that takes messages of ordered routes, too. Until it is told that it may (Graft.Clear) it leaves a connection's to the
// server; then it has them in line by client and route, and the server stands in those lines with what it gets itself.
type Orderer interface {
	// Hold has the server stand in front in the line of a client and route: what the programs take of it from now on waits until
	// Release. ok false: they have messages of it in front; again is called once, in a goroutine of its own, when that may have changed.
	Hold(client, filter string, again func()) (f Front, ok bool)
	Release(f Front)
}

// Front is the server's place in front in a line. Number 0: it has none, because there is no room: nothing that follows must be taken.
type Front struct {
	Line   uint64
	Number uint32
}

// Graft is an armed connection.
type Graft interface {
	// Boundary is called when all bytes read so far ended at a packet boundary
	// and the server is about to wait for more.
	Boundary(read uint64)
	// Clear is called like Boundary, when the server stands in front in the line of each message of an ordered route that it has not
	// finished: what follows of those routes, and of also_broker ones, may be taken. It returns whether it may: false if more has been passed to the socket meanwhile.
	Clear(read uint64) bool
	// Behind ends that, until Clear is called again.
	Behind()
	// Copies is how many messages of also_broker routes the kernel path has taken, modulo 2^32.
	Copies() uint32
	// LastReceive is when the kernel path last took a message.
	LastReceive() time.Time
	// Granted says that the client was allowed to publish to this routed topic
	// under these rights.
	Granted(topic string, rights uint32)
	// Alias says what a topic alias of the client, from 1 to 16, stands for: a topic of a route, or, empty, none. What is passed behind a PUBLISH that may change
	// that the programs take only when it has been said, and then Boundary.
	Alias(alias uint16, topic string)
	// Authorize gives the client other rights: when it returns, nothing is taken
	// that was allowed only under those of before.
	Authorize(rights uint32)
	// Hold enters a QoS 1 message that the server has got among those of the
	// connection that are under way, on either path. repeated: with DUP, it
	// repeats one that is, and is not entered.
	Hold(packetID uint16, dup bool) (h Hold, repeated bool)
	// Release ends a message, of either path, and says whether it may be
	// acknowledged: its packet identifier was still its own.
	Release(h Hold) bool
	// Stop ends taking: when it returns, nothing more is taken.
	Stop()
	// Close is called when the socket is closed.
	Close()
}
