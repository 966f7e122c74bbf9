package mochi

import (
	"errors"
	"net"

	mochi "github.com/mochi-mqtt/server/v2"
)

// errFault ends a connection whose goroutine panicked.
var errFault = errors.New("fault of the server")

// serve runs a connection to its end. A panic in it is a fault of the server's or
// of the library's: it ends this connection and nothing else.
func (s *Server) serve(tcp *net.TCPConn, l *listener) {
	defer s.places.Leave()
	c := newConn(s, tcp)
	c.accepted = l
	if !s.live.add(c) {
		_ = c.Close()
		return
	}
	defer s.live.remove(c)
	defer c.endTurn()
	defer func() { _ = c.Close() }()
	err := c.run()
	s.left(c, err)
	if err != nil {
		s.log.Debug("client ended", "remote", tcp.RemoteAddr(), "error", err)
	}
}

// run reads what comes until the connection ends.
func (c *conn) run() (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			c.server.fault(c.client, cause)
			err = errFault
		}
	}()
	if err := c.handshake(c.server.ctx, c.accepted); err != nil {
		return err
	}
	if err := c.server.attach(c); err != nil {
		return err
	}
	return c.listen()
}

// endOnPanic, deferred, ends a client's connection if the goroutine panics, and
// the panic with it. It is for everything that is done for a client in another
// goroutine than its connection's.
func (s *Server) endOnPanic(cl *mochi.Client) {
	if cause := recover(); cause != nil {
		s.fault(cl, cause)
		cl.Stop(errFault)
	}
}

// fault counts and logs a panic.
func (s *Server) fault(cl *mochi.Client, cause any) {
	client := ""
	if cl != nil {
		client = cl.ID
	}
	s.broker.Fault(client, cause)
}
