package mochi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"

	"eproxy/internal/config"
	"eproxy/internal/transport"
)

// listener accepts connections for the mochi server.
type listener struct {
	address   string
	net       *net.TCPListener
	transport atomic.Pointer[transport.Listener] // of the connections that come from now on
	server    *Server

	cfg      config.Listener    // Server.relisten's
	unfollow context.CancelFunc // ends following its files; nil: nobody does; Server.relisten's
}

var _ listeners.Listener = (*listener)(nil)

// listen opens the address.
func listen(ctx context.Context, cfg *config.Listener, s *Server) (*listener, error) {
	t, err := s.transport(cfg)
	if err != nil {
		return nil, err
	}
	l, err := transport.Listen(ctx, cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", cfg.Address, err)
	}
	out := &listener{address: cfg.Address, net: l, cfg: *cfg, server: s}
	out.transport.Store(t)
	return out, nil
}

// transport is what a listener's connections are read through.
func (s *Server) transport(cfg *config.Listener) (*transport.Listener, error) {
	t, err := transport.New(cfg, func(message string, args ...any) { s.log.Warn(message, append(args, "listener", cfg.Address)...) })
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", cfg.Address, err)
	}
	return t, nil
}

func (l *listener) Init(*slog.Logger) error { return nil }
func (l *listener) ID() string              { return l.address }
func (l *listener) Address() string         { return l.net.Addr().String() }
func (l *listener) Protocol() string        { return "mqtt" }

// Pauses after a connection could not be accepted, as those of net/http: without
// file descriptors, accept fails at once until one is free.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// pause waits after a failure of accept, until the server ends, and returns how long
// the next pause is.
func (l *listener) pause(d time.Duration) time.Duration {
	select {
	case <-time.After(d):
	case <-l.server.ctx.Done():
	}
	return min(2*d, maxPause)
}

// Serve accepts until the listener is closed.
func (l *listener) Serve(listeners.EstablishFn) {
	pause := minPause
	for {
		c, err := l.net.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.server.often.Warn("accept", l.address, "listener", l.address, "error", err)
			pause = l.pause(pause)
			continue
		}
		pause = minPause
		if !l.admit(c) {
			_ = c.Close()
			continue
		}
		if !l.server.places.Enter() {
			l.server.broker.NoRoom(l.server.places.Most())
			_ = c.SetLinger(0) // with RST: it is to learn that now
			_ = c.Close()
			continue
		}
		go l.server.serve(c, l)
	}
}

// admit says whether somebody may connect from there.
func (l *listener) admit(c *net.TCPConn) bool {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return true
	}
	peer := a.AddrPort().Addr().Unmap()
	if !l.transport.Load().Trusts(peer) {
		l.server.broker.Refused("denied_proxy", "connection refused: it comes from no address of proxy_protocol", a.AddrPort(), "listener", l.address)
		return false
	}
	return l.server.broker.Admit(peer)
}

// Close stops accepting. Server.Close has ended the clients by then. The library's own way to that is not gone: it takes the read lock of
// its clients twice, and waits for ever if one of them is just leaving.
func (l *listener) Close(listeners.CloseFn) { _ = l.net.Close() }
