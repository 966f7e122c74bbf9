package mochi

import (
	"context"
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/transport"
)

var _ broker.Relistener = (*Server)(nil)

// relisten is a change of the listeners that is prepared.
type relisten struct {
	server  *Server
	opened  []*listener // new ones: their sockets are open, nobody accepts yet
	changed map[*listener]change
	gone    []*listener
}

// change is another way to read the connections of a listener.
type change struct {
	cfg       config.Listener
	transport *transport.Listener
}

// Relisten opens what is new of these listeners; those that go on keep their sockets. Nothing has changed for any client when it
// returns.
func (s *Server) Relisten(want []config.Listener) (broker.Relistening, error) {
	s.listening.Lock()
	defer s.listening.Unlock()
	r := &relisten{server: s, changed: make(map[*listener]change)}
	for i := range want {
		if err := r.plan(&want[i]); err != nil {
			r.Cancel()
			return nil, err
		}
	}
	for _, l := range s.listeners {
		if !slices.ContainsFunc(want, func(w config.Listener) bool { return w.Address == l.address }) {
			r.gone = append(r.gone, l)
		}
	}
	return r, nil
}

// plan sees to one listener; s.listening is held.
func (r *relisten) plan(want *config.Listener) error {
	s := r.server
	at := slices.IndexFunc(s.listeners, func(l *listener) bool { return l.address == want.Address })
	switch {
	case at < 0:
		l, err := listen(s.ctx, want, s)
		if err == nil {
			r.opened = append(r.opened, l)
		}
		return err
	case s.listeners[at].cfg.Equal(want):
		return nil
	}
	t, err := s.transport(want)
	if err == nil {
		r.changed[s.listeners[at]] = change{*want, t}
	}
	return err
}

// Cancel closes what was opened; broker.Relistening.
func (r *relisten) Cancel() {
	for _, l := range r.opened {
		_ = l.net.Close()
	}
}

// Commit puts the change in force: connections of listeners that are gone end, all others go on; broker.Relistening.
func (r *relisten) Commit() {
	s := r.server
	s.listening.Lock()
	defer s.listening.Unlock()
	for l, c := range r.changed {
		l.cfg = c.cfg
		l.transport.Store(c.transport)
		s.follow(l)
	}
	for _, l := range r.opened {
		s.listeners = append(s.listeners, l)
		s.mqtt.Listeners.Add(l)
		if s.serving != nil {
			s.serveListener(l)
		}
	}
	for _, l := range r.gone {
		s.listeners = slices.DeleteFunc(s.listeners, func(x *listener) bool { return x == l })
		s.mqtt.Listeners.Delete(l.ID())
		s.unlisten(l)
	}
}

// serveListener accepts what comes; s.listening is held.
func (s *Server) serveListener(l *listener) {
	go l.Serve(nil)
	s.follow(l)
}

// follow follows the files of a listener; s.listening is held.
func (s *Server) follow(l *listener) {
	if s.serving == nil {
		return
	}
	if l.unfollow != nil {
		l.unfollow()
	}
	var ctx context.Context
	ctx, l.unfollow = context.WithCancel(s.serving)
	go l.transport.Load().Follow(ctx, s.recheck)
}

// unlisten closes a listener, and ends its connections.
func (s *Server) unlisten(l *listener) {
	_ = l.net.Close()
	if l.unfollow != nil {
		l.unfollow()
	}
	for _, c := range s.live.all() {
		if c.accepted == l {
			go s.leave(c) // it may wait for the client
		}
	}
}

// leave ends a connection whose listener is gone; an MQTT 5 client is told why.
func (s *Server) leave(c *conn) {
	x := c.session.Load()
	if x == nil {
		_ = c.Close()
		return
	}
	cl := c.client
	defer s.endOnPanic(cl)
	x.Stop()
	_ = s.mqtt.DisconnectClient(cl, packets.ErrServerShuttingDown)
}
