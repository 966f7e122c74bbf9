package relay

import (
	"errors"
	"fmt"
	"net"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/transport"
)

// listener accepts clients.
type listener struct {
	server    *Server
	net       *net.TCPListener
	transport *transport.Listener
	address   string
}

func (s *Server) listen(cfg *config.Listener) (*listener, error) {
	t, err := transport.New(cfg, func(message string, args ...any) { s.log.Warn(message, append(args, "listener", cfg.Address)...) })
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", cfg.Address, err)
	}
	l, err := transport.Listen(s.ctx, cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", cfg.Address, err)
	}
	return &listener{server: s, net: l, transport: t, address: cfg.Address}, nil
}

// Pauses after a connection could not be accepted, as those of net/http: without
// file descriptors, accept fails at once until one is free.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// serve accepts until the listener is closed.
func (l *listener) serve() {
	pause := minPause
	for {
		tcp, err := l.net.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			l.server.often.Warn("accept", l.address, "listener", l.address, "error", err)
			select {
			case <-time.After(pause):
			case <-l.server.ctx.Done():
			}
			pause = min(2*pause, maxPause)
			continue
		}
		pause = minPause
		if !l.admit(tcp) {
			_ = tcp.Close()
			continue
		}
		if !l.server.room.Enter() {
			l.server.broker.NoRoom(l.server.room.Most())
			_ = tcp.SetLinger(0) // with RST: it is to learn that now
			_ = tcp.Close()
			continue
		}
		go func() {
			defer l.server.room.Leave()
			newConn(l.server, tcp).serve(l)
		}()
	}
}

// admit says whether somebody may connect from there.
func (l *listener) admit(c *net.TCPConn) bool {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return true
	}
	peer := a.AddrPort().Addr().Unmap()
	if !l.transport.Trusts(peer) {
		l.server.broker.Refused("denied_proxy", "connection refused: it comes from no address of proxy_protocol", a.AddrPort(), "listener", l.address)
		return false
	}
	return l.server.broker.Admit(peer)
}
