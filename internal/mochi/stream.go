package mochi

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"eproxy/internal/outbox"
	"eproxy/internal/transport"
)

// plainSize is how much is read at once from a stream that is not the TCP connection itself, in bytes. The
// buffer is there while the client sends nothing, too.
const plainSize = 2 << 10

// farewell is how long the last words to a client may take: that nothing more follows.
const farewell = 100 * time.Millisecond

// open reads what comes before the client's packets on its listener.
func (c *conn) open(l *listener) error {
	s, err := l.transport.Load().Open(wire{c})
	if err != nil {
		return err
	}
	c.from = *s
	if s.Certificate != nil {
		c.certificate.Store(s.Certificate)
		if err := s.Certificate.Verify(); err != nil { // files have changed meanwhile
			return fmt.Errorf("%w: %w", transport.ErrHandshake, err)
		}
	}
	if a := s.Remote; a.IsValid() && !c.server.broker.Admit(a.Addr()) {
		return errDenied
	}
	if s.Conn != nil {
		c.stream, c.plain = s.Conn, make([]byte, plainSize)
	}
	for early := s.Early; len(early) > 0; {
		n := copy(c.gate.Room(), early)
		c.gate.Added(n)
		early = early[n:]
	}
	return nil
}

// recheck ends the sessions of clients whose certificates are not valid any more.
func (s *Server) recheck() {
	for _, c := range s.live.all() {
		certificate := c.certificate.Load()
		if certificate == nil {
			continue
		}
		if err := certificate.Verify(); err != nil {
			c.revoke(err)
		}
	}
}

// revoke ends a connection for what has become of the client's certificate.
func (c *conn) revoke(err error) {
	x := c.session.Load()
	if x == nil { // nobody has said anything yet
		c.abort()
		return
	}
	c.server.broker.Refused("certificate_invalid", "client disconnected: "+err.Error(), x.Remote, "client", x.ClientID)
	x.Revoke("the certificate is not valid any more")
}

// errDenied ends a connection of a client whose address a proxy named, and which is kept out.
var errDenied = errors.New("the client's address is denied")

// unopened counts and logs why a connection has not come to its first packet: some are the client's, or a
// certificate's, fault, which nobody would find otherwise. One that just ends is none.
func (c *conn) unopened(err error) error {
	for _, w := range []struct {
		why    error
		reason string
	}{{transport.ErrHeader, "proxy_header"}, {transport.ErrHandshake, "tls_handshake"}, {transport.ErrUpgrade, "websocket_upgrade"}} {
		if errors.Is(err, w.why) && !errors.Is(err, io.EOF) {
			remote, _ := netip.ParseAddrPort(c.RemoteAddr().String())
			c.server.broker.Refused(w.reason, "connection ended: "+err.Error(), remote)
		}
	}
	return err
}

// decode reads from the stream.
func (c *conn) decode() error {
	n, err := c.stream.Read(c.plain)
	for b := c.plain[:n]; len(b) > 0; {
		m := copy(c.gate.Room(), b)
		c.gate.Added(m)
		b = b[m:]
	}
	if n > 0 {
		return nil // an error comes again
	}
	return err
}

// farewell tells the client that nothing more follows, where the stream has words for it.
func (c *conn) farewell() {
	if c.stream != nil && c.leaving.CompareAndSwap(false, true) {
		_ = c.SetWriteDeadline(time.Now().Add(farewell))
		c.stream.Finish()
	}
}

// try writes of b what can be written without waiting.
func (c *conn) try(b []byte) (int, error) {
	if c.stream != nil {
		return 0, nil // it may have to wait for any byte of it
	}
	return outbox.Try(c.raw, b)
}

// RemoteAddr is the client's address: what a proxy has said, or the connection's.
func (c *conn) RemoteAddr() net.Addr {
	if c.from.Remote.IsValid() {
		return net.TCPAddrFromAddrPort(c.from.Remote)
	}
	return c.TCPConn.RemoteAddr()
}

// wire is the TCP connection under a stream. Its deadlines are the server's: those that the stream's
// protocols set do not count.
type wire struct{ c *conn }

// Read reads from the socket: whoever asks has used all that it had got.
func (w wire) Read(p []byte) (int, error) {
	w.c.progress.Use()
	return w.c.readSocket(func() []byte { return p }, func() {})
}

func (w wire) Write(p []byte) (int, error)      { return w.c.writeSocket(p) }
func (w wire) Close() error                     { return w.c.TCPConn.Close() }
func (w wire) LocalAddr() net.Addr              { return w.c.LocalAddr() }
func (w wire) RemoteAddr() net.Addr             { return w.c.TCPConn.RemoteAddr() }
func (w wire) SetDeadline(time.Time) error      { return nil }
func (w wire) SetReadDeadline(time.Time) error  { return nil }
func (w wire) SetWriteDeadline(time.Time) error { return nil }
