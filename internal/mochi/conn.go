package mochi

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sys/unix"

	"eproxy/internal/broker"
	"eproxy/internal/mqtt"
	"eproxy/internal/outbox"
	"eproxy/internal/progress"
	"eproxy/internal/readbuf"
	"eproxy/internal/transport"
)

// connectTimeout is how long a client may take to send CONNECT.
const connectTimeout = 30 * time.Second

// conn stands in front of the server: it hands over only packets that its gate
// lets through, knows packet boundaries, and lets the kernel path's messages
// count for the keep-alive.
type conn struct {
	*net.TCPConn
	stream      transport.Conn // where MQTT packets travel: TLS, WebSocket; nil: the TCP connection itself
	accepted    *listener      // that it came by
	plain       []byte         // what was read of it at once
	from        transport.Stream
	certificate atomic.Pointer[transport.Certificate] // of from, for other goroutines
	leaving     atomic.Bool                           // what is written now must not wait
	parted      atomic.Bool                           // the client has sent DISCONNECT: it gets no message any more
	gate        gate
	server      *Server
	client      *mochi.Client // from CONNECT on
	expiry      atomic.Uint32 // the Session Expiry Interval, which DISCONNECT may change
	established bool          // the client's session is established
	left        int           // bytes of the packet that the library reads that it has not got
	turn        func()        // ends the connection's turn; nil: it has none
	bridge      bool          // the client says that it is a bridge
	running     atomic.Bool   // the session has been taken up where it was
	resumed     bool          // what waited is being written: messages of QoS 1 and 2 come behind it; guarded by the server's numbering
	quota       quota
	acks        outbox.Box // PUBACKs of the broker, and what waited for the disk
	out         outgoing   // messages
	together    []byte     // packets that are written with what follows; guarded by the client's lock
	asked       uint16     // packet identifier of the UNSUBSCRIBE that is being answered
	progress    progress.Progress
	boundary    uint64          // how much of the stream was read when it last was at a boundary
	named       time.Time       // when one was named
	connect     *broker.Connect // until the session begins
	identity    broker.Identity
	session     atomic.Pointer[broker.Session]
	span        atomic.Int64 // keep-alive in nanoseconds, 0: none
	heard       time.Time    // when the client's last packet came
	timed       bool         // the deadline of reading is that of the keep-alive
	topic       string       // its topic
	once        sync.Once
	raw         syscall.RawConn
}

func newConn(s *Server, c *net.TCPConn) *conn {
	w := &conn{TCPConn: c, server: s}
	w.gate.MaxPacket = s.cfg.Limits.MaxPacketSize
	w.gate.MaxConnect = min(connectSize, w.gate.MaxPacket)
	w.gate.TopicAlias = topicAliases
	w.raw, _ = c.SyscallConn() // nil only if closed, which Read will say
	_ = c.SetReadDeadline(time.Now().Add(s.begin))
	return w
}

// handshake reads until there is a valid CONNECT. Until then the server knows
// nothing of the connection and spends nothing on it.
func (c *conn) handshake(ctx context.Context, l *listener) error {
	stop := context.AfterFunc(ctx, func() { _ = c.TCPConn.Close() })
	defer stop()
	if err := c.open(l); err != nil {
		return c.unopened(err)
	}
	for {
		c.gate.advance(nil) // something may have come with a PROXY header
		switch {
		case c.gate.Open():
			return nil
		case c.gate.violation != nil:
			return c.refuse(c.gate.violation)
		}
		if err := c.receive(); err != nil {
			return err
		}
	}
}

// listen reads what the client sends until its connection ends. What it waits in is not deep: the stacks of thousands of idle
// connections are most of what these have.
func (c *conn) listen() error {
	for !c.client.Closed() {
		c.refresh()
		if err := c.await(); err != nil {
			return err
		}
		if err := c.process(); err != nil {
			return err
		}
	}
	return nil
}

// process has the library do with the next packet what is to be done.
func (c *conn) process() error {
	pk, err := c.next(c.client)
	if err != nil {
		return err
	}
	if err := c.server.mqtt.InjectPacket(c.client, pk); err != nil {
		var code packets.Code
		if errors.As(err, &code) && c.client.Properties.ProtocolVersion == 5 && code.Code >= packets.ErrUnspecifiedError.Code {
			_ = c.server.mqtt.DisconnectClient(c.client, code)
		}
		return err
	}
	atomic.AddInt64(&c.server.mqtt.Info.PacketsReceived, -1) // it was counted when it was read
	return nil
}

// next is the next packet, which await has waited for.
func (c *conn) next(cl *mochi.Client) (packets.Packet, error) {
	_, c.left, _, _ = mqtt.ReadHeader(c.gate.Held[c.gate.From:c.gate.ready])
	var h packets.FixedHeader
	if err := cl.ReadFixedHeader(&h); err != nil {
		return packets.Packet{}, err
	}
	return cl.ReadPacket(&h)
}

// Read hands over the packet that the library reads, and no byte of the one behind it.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.await(); err != nil {
		return 0, err
	}
	n := c.gate.pass(p[:min(len(p), c.left)])
	c.left -= n
	return n, nil
}

// await waits until there is something for the library: a packet that is valid and that the broker does not take, or the beginning, or more, of a
// large one. The library has used up what it got: a packet boundary now is the one that it stands at. A violation ends the connection when the library has seen
// all that came before it.
func (c *conn) await() error {
	for c.gate.From == c.gate.ready {
		c.gate.advance(c.take)
		c.flush() // whatever follows may be waited for
		switch {
		case c.gate.From < c.gate.ready:
		case c.gate.violation != nil:
			return c.refuse(c.gate.violation)
		default:
			if err := c.more(); err != nil {
				c.stop() // there is a will and more to see to before it is closed
				return err
			}
		}
	}
	return nil
}

// flush writes what messages of the client have put together.
func (c *conn) flush() {
	if x := c.session.Load(); x != nil {
		x.Flush()
		c.acks.Flush()
	}
}

// more reads more from the socket. The server has done with all that came before, but for a packet
// that goes on.
func (c *conn) more() error {
	c.gate.unused()
	if c.stream == nil {
		c.progress.Use()
	}
	if x := c.session.Load(); x != nil {
		if c.gate.atBoundary() {
			c.name(x)
		} else {
			c.acknowledge()
		}
		if x.Behind() && c.unread() == 0 {
			x.CaughtUp()
		}
	}
	if full := c.acks.Full(acksWaiting); full != nil {
		<-full // or the client is disconnected, because it does not read
	}
	return c.receive()
}

// name names the boundary that the server stands at, unless nobody is likely to need it: each costs a system call. One is not named behind a PINGREQ, the only
// packet of so few bytes that others follow, of a client that has sent nothing else for a while, and no message of an ordered route, nor within a
// while behind the one before where the client has published nothing to functions. If the programs have lost track meanwhile, they are told where they are behind the next
// packet, or the first message to a function, which they pass on.
func (c *conn) name(x *broker.Session) {
	read, now := c.progress.Read.Load(), time.Now()
	lately := now.Sub(c.named) < c.server.rest
	if lately && x.Routes() || !lately && read-c.boundary != pingSize || x.Orders() {
		x.Boundary(read)
		c.named = now
	}
	c.boundary = read
}

const (
	// pingSize is how long PINGREQ is (MQTT 5 section 3.12).
	pingSize = 2
	// restTime is how long ago a client's boundary was named that sends nothing but PINGREQ, or nothing to functions.
	restTime = time.Second
)

// receive reads from the socket, or from the stream in it.
func (c *conn) receive() error {
	if c.stream != nil {
		return c.decode()
	}
	n, err := c.readSocket(c.gate.Room, c.gate.unused)
	c.gate.Added(n)
	return err
}

// readSocket reads into room once there is something to read; before it waits it calls idle. Each waiting ends
// with the keep-alive's deadline.
func (c *conn) readSocket(room func() []byte, idle func()) (int, error) {
	for {
		n, err := readbuf.Read(c.raw, room, idle)
		var errno syscall.Errno
		switch {
		case err == nil:
			c.progress.Read.Add(uint64(n))
			return n, nil
		case errors.As(err, &errno):
			return 0, &net.OpError{Op: "read", Net: "tcp", Addr: c.TCPConn.RemoteAddr(), Err: os.NewSyscallError("read", errno)}
		case !errors.Is(err, os.ErrDeadlineExceeded) || !c.extend():
			return 0, err
		}
	}
}

// acknowledge acknowledges to the client's TCP at once what was read of a packet that goes
// on: a client that recovers from a loss may send one segment at a time, and each
// would wait for the delayed acknowledgement.
func (c *conn) acknowledge() {
	if c.raw != nil {
		_ = c.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	}
}

// extend moves the deadline if something has been heard of the client since, here or in the kernel path.
func (c *conn) extend() bool {
	x, span := c.session.Load(), time.Duration(c.span.Load())
	if x == nil || span == 0 {
		return false
	}
	heard := x.LastReceive()
	if c.heard.After(heard) {
		heard = c.heard
	}
	until := heard.Add(span)
	if !until.After(time.Now()) {
		return false
	}
	return c.TCPConn.SetReadDeadline(until) == nil
}

// refresh enforces the keep-alive [MQTT-3.1.2-22]: the deadline of reading is one and a half times that from now. The
// socket's own is moved when it passes (see extend), not with each
// packet: of a node's many idle connections each would wake the process for it.
func (c *conn) refresh() {
	span := time.Duration(c.client.State.Keepalive) * time.Second * 3 / 2
	c.heard = time.Now()
	if c.span.Swap(int64(span)) == int64(span) && c.timed {
		return
	}
	c.timed = true
	var until time.Time
	if span > 0 {
		until = c.heard.Add(span)
	}
	_ = c.SetReadDeadline(until) // fails if the connection is closed, which reading says
}

// Bounds of the time that one packet may take to be written: it must get on within
// writeStall, or the time of the keep-alive if that is less, and be done writeStall
// after it would be at writeRate.
const (
	writeStall = 30 * time.Second
	writeRate  = 1 << 10 // bytes per second
)

func (c *conn) write(p []byte) (int, error) {
	if c.stream != nil {
		return c.stream.Write(p)
	}
	return c.writeSocket(p)
}

// writeSocket writes at once what the socket has room for, and waits with the rest: a deadline that nobody
// needs is a timer that wakes the process later.
func (c *conn) writeSocket(p []byte) (n int, err error) {
	if n, err = outbox.Try(c.raw, p); n == len(p) || err != nil {
		return n, err
	}
	limit := time.Now().Add(c.server.stall + time.Duration(len(p))*time.Second/writeRate)
	for more := true; more; {
		stall := c.server.stall
		if span := time.Duration(c.span.Load()); span > 0 {
			stall = min(stall, span)
		}
		if c.leaving.Load() {
			stall = min(stall, farewell)
		}
		until := time.Now().Add(stall)
		if until.After(limit) {
			until = limit
		}
		_ = c.SetWriteDeadline(until)
		if c.leaving.Load() && stall > farewell { // just now: farewell's deadline came before this one
			_ = c.SetWriteDeadline(time.Now().Add(farewell))
		}
		var m int
		m, err = c.TCPConn.Write(p[n:])
		n += m
		more = m > 0 && errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(limit) && !c.leaving.Load()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.leaving.Load() {
		c.abort()
	}
	return n, err
}

// beginTurn waits until no other connection of the client's identifier comes or goes.
func (c *conn) beginTurn() {
	if c.turn == nil {
		c.turn = c.server.turns.Begin(c.client.ID)
	}
}

// endTurn lets the next one.
func (c *conn) endTurn() {
	if c.turn != nil {
		c.turn()
		c.turn = nil
	}
}

// stop ends the session, if there is one: nothing more is taken from this client.
func (c *conn) stop() {
	if x := c.session.Load(); x != nil {
		x.Stop()
	}
}

// Close ends the session, then closes the socket. The connection may be closed while
// its session is being opened: serve closes it once more in the end.
func (c *conn) Close() error {
	c.stop()
	c.progress.End()
	c.farewell()
	err := c.TCPConn.Close()
	if x := c.session.Load(); x != nil {
		c.once.Do(x.Closed)
	}
	return err
}

// abort closes with RST.
func (c *conn) abort() {
	c.leaving.Store(true) // no words: whoever writes holds what they would need
	_ = c.SetLinger(0)
	_ = c.Close()
}
