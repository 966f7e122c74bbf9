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
	"golang.org/x/sys/unix"

	"eproxy/internal/broker"
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
	established bool          // the client's session is established
	ended       bool          // the library has said that it is over
	turn        func()        // ends the connection's turn; nil: it has none
	bridge      bool          // the client says that it is a bridge
	running     atomic.Bool   // the session has been taken up where it was
	quota       quota
	acks        outbox.Box   // PUBACKs of the broker, and what waited for the disk
	omitted     atomic.Int32 // packets that are left out when the library writes
	asked       uint16       // packet identifier of the SUBSCRIBE or UNSUBSCRIBE that is being answered
	queued      []uint16     // identifiers of messages that the client's own goroutine has queued since its latest packet
	lost        bool         // some message of these was dropped, or one of QoS 0
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

// Read hands over what the client sent, as far as it is valid, and the broker does not take it. The
// server asks for more only when it has used up what it got: a packet boundary now is the
// one that it stands at. A violation ends the connection when the server has seen
// all that came before it.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if n := c.gate.pass(p); n > 0 {
			return n, nil
		}
		c.gate.advance(c.take)
		c.flush() // whatever follows may be waited for
		switch {
		case c.gate.From < c.gate.ready:
		case c.gate.violation != nil:
			return 0, c.refuse(c.gate.violation)
		default:
			if err := c.more(); err != nil {
				c.stop() // the library has a will and more to see to before it closes
				return 0, err
			}
		}
	}
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

// SetDeadline is called by the library to enforce the keep-alive [MQTT-3.1.2-22];
// before CONNECT it is not called. The deadline is that of reading, one and a half
// times the keep-alive from now. What the library asks for overflows 16 bits from
// 43,691 s on. The socket's own deadline is moved when it passes (see extend), not with each
// packet: of a node's many idle connections each would wake the process for it.
func (c *conn) SetDeadline(time.Time) error {
	span := time.Duration(c.client.State.Keepalive) * time.Second * 3 / 2
	c.heard = time.Now()
	if c.span.Swap(int64(span)) == int64(span) && c.timed {
		return nil
	}
	c.timed = true
	if span == 0 {
		return c.SetReadDeadline(time.Time{})
	}
	return c.SetReadDeadline(c.heard.Add(span))
}

// Bounds of the time that one packet may take to be written: it must get on within
// writeStall, or the time of the keep-alive if that is less, and be done writeStall
// after it would be at writeRate.
const (
	writeStall = 30 * time.Second
	writeRate  = 1 << 10 // bytes per second
)

// Write writes whole packets; the library holds the client's lock, and whoever has
// a message of QoS 1 or 2 for the client waits for it. A client that is too slow is
// disconnected, with RST: half a packet may have been written, so nothing can follow.
func (c *conn) Write(p []byte) (int, error) {
	if c.postpone(p) {
		return len(p), nil
	}
	rest := c.without(p)
	if len(rest) == 0 {
		return len(p), nil
	}
	n, err := c.write(rest)
	return n + len(p) - len(rest), err
}

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
