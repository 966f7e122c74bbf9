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
func (s *Server) serve(tcp *net.TCPConn, l *listener, establish func(net.Conn) error) {
	c := newConn(s, tcp)
	c.accepted = l
	if !s.live.add(c) {
		_ = c.Close()
		return
	}
	defer s.live.remove(c)
	defer c.endTurn()
	defer func() { _ = c.Close() }()
	defer func() {
		if cause := recover(); cause != nil {
			s.fault(c.client, cause)
			s.abandon(c)
		}
	}()
	err := c.handshake(s.ctx, l)
	if err == nil {
		err = establish(c)
	}
	if !c.ended {
		s.abandon(c)
	}
	if err != nil {
		s.log.Debug("client ended", "remote", tcp.RemoteAddr(), "error", err)
	}
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

// abandon does what the library does when a connection ends, and has not done
// because of a panic, or because CONNACK or what waited for the client could not be
// written: the broker hears of it, a session that ends with its connection is
// forgotten.
func (s *Server) abandon(c *conn) {
	cl := c.client
	if cl == nil || !c.established {
		return
	}
	defer s.endOnPanic(cl) // the same may be wrong here
	c.flush()
	if x := c.session.Load(); x != nil {
		s.broker.Ended(x)
	}
	c.beginTurn()
	s.left(cl)
	if !lasts(cl) && !cl.IsTakenOver() {
		cl.ClearInflights()
		s.mqtt.UnsubscribeClient(cl)
		s.mqtt.Clients.Delete(cl.ID)
		return
	}
	s.clock.leave(cl)
}

// left sees to what is kept of a client whose connection has ended.
func (s *Server) left(cl *mochi.Client) {
	if !lasts(cl) && !cl.IsTakenOver() {
		s.broker.Forget(cl.ID)
	}
	s.keep.left(cl)
}
