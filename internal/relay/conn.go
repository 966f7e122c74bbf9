package relay

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"eproxy/internal/broker"
	"eproxy/internal/codec"
	"eproxy/internal/mqtt"
	"eproxy/internal/outbox"
	"eproxy/internal/progress"
	"eproxy/internal/readbuf"
	"eproxy/internal/transport"
)

const (
	// connectTimeout is how long a client may take to send CONNECT, and a broker to answer it.
	connectTimeout = 30 * time.Second
	// connectSize is the largest CONNECT in bytes: 64 KiB for who the client is and 64 KiB for the payload of its will.
	connectSize = 128 << 10
	// lastWords is how long the reason why a connection ends may take to be written, and a broker to take a goodbye.
	lastWords = time.Second
	// acksWaiting is how many bytes of acknowledgements may wait for a client; nothing is read from it beyond.
	acksWaiting = 4 << 10
)

// codeShuttingDown and others are reason codes of DISCONNECT (MQTT 5 section 3.14.2.1).
const (
	codeShuttingDown = 0x8b
	codeKeepAlive    = 0x8d
	codeTakenOver    = 0x8e
)

// conn is a client's connection with the one to its broker.
type conn struct {
	server *Server
	tcp    *net.TCPConn
	raw    syscall.RawConn
	from   transport.Stream // from.Conn is where packets travel: TLS, WebSocket; nil: the TCP connection itself

	decoder mqtt.Decoder
	in      readbuf.Buffer // of what the client sends
	aliases aliases
	client  sink       // to the client
	acks    outbox.Box // acknowledgements to the client

	mu        sync.Mutex // of broker and closed
	broker    net.Conn   // nil before CONNECT has got there
	backend   *backend   // whose it is
	brokerRaw syscall.RawConn
	started   bool           // downlink is running, or has ended
	out       readbuf.Buffer // of what the broker sends
	upstream  sink           // to the broker
	copies    copies
	exchanges *exchanges
	pings     pings
	packetMax int // bytes of the largest packet that the broker takes; 0: any

	version     byte // of the protocol: 3, 4 or 5
	progress    progress.Progress
	heard       atomic.Int64 // when something of the client's was read last, in nanoseconds since 1970
	goodbye     atomic.Bool  // the client has sent DISCONNECT
	expiry      time.Duration
	session     atomic.Pointer[broker.Session]
	certificate atomic.Pointer[transport.Certificate]
	keepAlive   time.Duration              // 0: none
	timer       atomic.Pointer[time.Timer] // of the keep-alive; nil: none

	ending sync.Once
	closed atomic.Bool
	done   chan struct{} // closed when the broker sends nothing more
}

func newConn(s *Server, tcp *net.TCPConn) *conn {
	c := &conn{server: s, tcp: tcp, done: make(chan struct{})}
	c.raw, _ = tcp.SyscallConn() // nil only if closed, which reading will say
	c.decoder.MaxPacket = s.cfg.Limits.MaxPacketSize
	c.decoder.MaxConnect = min(connectSize, c.decoder.MaxPacket)
	c.client.write = c.writeClient
	c.collect()
	_ = tcp.SetReadDeadline(time.Now().Add(connectTimeout))
	return c
}

// serve runs a connection to its end. A panic in it ends this connection and nothing else.
func (c *conn) serve(l *listener) {
	s := c.server
	if !s.add(c) {
		c.close()
		return
	}
	defer s.remove(c)
	defer c.ended()
	defer c.contain()
	err := c.handshake(l)
	if err == nil {
		err = c.relay()
	}
	s.log.Debug("client ended", "remote", c.tcp.RemoteAddr(), "error", err)
}

// contain, deferred, counts and logs a panic in what is done for the client, and ends its connection.
func (c *conn) contain() {
	if cause := recover(); cause != nil {
		id := ""
		if x := c.session.Load(); x != nil {
			id = x.ClientID
		}
		c.server.broker.Fault(id, cause)
		c.close()
	}
}

// ended closes what is open and tells the broker of the sessions.
func (c *conn) ended() {
	c.close()
	c.upstream.release()
	x := c.session.Load()
	if x == nil {
		return
	}
	if c.started {
		<-c.done
	}
	x.Closed()
	c.backend.clients.Add(-1)
	c.server.leave(c, x.ClientID)
	c.server.broker.Ended(x)
}

// close closes both connections. The broker then publishes the client's will, unless the client has said goodbye.
func (c *conn) close() {
	c.mu.Lock()
	was, b := c.closed.Swap(true), c.broker
	c.mu.Unlock()
	if was {
		return
	}
	if x := c.session.Load(); x != nil {
		x.Stop()
	}
	if t := c.timer.Load(); t != nil {
		t.Stop()
	}
	c.progress.End()
	c.acks.End()
	_ = c.tcp.Close()
	if b != nil {
		_ = b.Close()
	}
}

// abort closes the client's connection with RST.
func (c *conn) abort() {
	_ = c.tcp.SetLinger(0)
	c.close()
}

// end ends the connection; an MQTT 5 client gets DISCONNECT with the reason before, unless the broker has said why.
func (c *conn) end(code byte, reason string) {
	if x := c.session.Load(); x != nil {
		x.Stop() // before the client hears of it
		if c.version == 5 {
			c.ending.Do(func() {
				defer time.AfterFunc(lastWords, c.abort).Stop()
				_ = c.client.packet(codec.Disconnect(code, reason))
				c.finish()
			})
		}
	}
	c.close()
}

// finish tells the client that nothing more follows.
func (c *conn) finish() {
	if c.from.Conn != nil {
		c.from.Conn.Finish()
	}
	_ = c.tcp.CloseWrite()
}

// remote is the client's address: what a proxy has said, or the connection's.
func (c *conn) remote() netip.AddrPort {
	if c.from.Remote.IsValid() {
		return c.from.Remote
	}
	a, _ := netip.ParseAddrPort(c.tcp.RemoteAddr().String())
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// writeClient writes to the client, and waits for it.
func (c *conn) writeClient(b []byte) (int, error) {
	if c.from.Conn != nil {
		return c.from.Conn.Write(b)
	}
	return c.tcp.Write(b)
}

// dialled notes the connection to a broker; false: the client's is closed by now.
func (c *conn) dialled(n *backend, b net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backend, c.broker, c.brokerRaw = n, b, nil
	if tcp, ok := b.(*net.TCPConn); ok {
		c.brokerRaw, _ = tcp.SyscallConn()
	}
	c.upstream.write = b.Write
	return !c.closed.Load()
}

// errClosed: reading from a connection that was closed meanwhile.
var errClosed = net.ErrClosed

// plainSize is how much is read at once from a stream that is not a TCP connection itself, in bytes. The buffer is there
// while nothing comes, too.
const plainSize = 2 << 10

// readStream reads from a stream.
func readStream(r io.Reader, plain []byte, u *readbuf.Buffer) (int, error) {
	n, err := r.Read(plain)
	for b := plain[:n]; len(b) > 0; {
		m := copy(u.Room(), b)
		u.Added(m)
		b = b[m:]
	}
	if n > 0 {
		return n, nil // an error comes again
	}
	return 0, err
}

// reader reads into a buffer from a socket, or from a stream over it; idle is called before it waits.
func reader(raw syscall.RawConn, stream io.Reader, u *readbuf.Buffer, idle func()) func() (int, error) {
	if raw == nil || stream != nil {
		plain := make([]byte, plainSize)
		return func() (int, error) {
			idle()
			return readStream(stream, plain, u)
		}
	}
	return func() (int, error) {
		u.Idle() // there may be no room behind what is left
		n, err := readbuf.Read(raw, u.Room, idle)
		u.Added(n)
		return n, err
	}
}

// wire is the TCP connection under a client's stream. Its deadlines are the server's: those that the stream's
// protocols set do not count.
type wire struct{ c *conn }

func (w wire) Read(p []byte) (int, error) {
	w.c.progress.Use()
	n, err := w.c.tcp.Read(p)
	w.c.progress.Read.Add(uint64(max(n, 0)))
	return n, err
}

func (w wire) Write(p []byte) (int, error)      { return w.c.tcp.Write(p) }
func (w wire) Close() error                     { return w.c.tcp.Close() }
func (w wire) LocalAddr() net.Addr              { return w.c.tcp.LocalAddr() }
func (w wire) RemoteAddr() net.Addr             { return w.c.tcp.RemoteAddr() }
func (w wire) SetDeadline(time.Time) error      { return nil }
func (w wire) SetReadDeadline(time.Time) error  { return nil }
func (w wire) SetWriteDeadline(time.Time) error { return nil }
