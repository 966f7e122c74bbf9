package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"

	"eproxy/internal/broker"
	"eproxy/internal/codec"
	"eproxy/internal/config"
	"eproxy/internal/lograte"
	"eproxy/internal/openfiles"
	"eproxy/internal/request"
	"eproxy/internal/turns"
)

// Server relays clients to brokers.
type Server struct {
	broker    *broker.Server
	cfg       *config.Config
	log       *slog.Logger
	often     *lograte.Logger
	listeners []*listener
	backends  *backends
	room      *openfiles.Room
	turns     turns.Turns
	exact     exact
	ctx       context.Context
	cancel    context.CancelFunc

	mu      sync.Mutex
	conns   map[*conn]struct{}
	clients map[string]*conn // those with a session, by client identifier
	closed  bool
}

var (
	_ broker.Frontend = (*Server)(nil)
	_ broker.Behind   = (*Server)(nil)
)

// New opens the listeners of the broker's configuration.
func New(b *broker.Server) (broker.Frontend, error) {
	s := &Server{broker: b, cfg: b.Config(), log: b.Logger(), often: lograte.New(b.Logger()),
		conns: make(map[*conn]struct{}), clients: make(map[string]*conn)}
	var err error
	if s.room, err = openfiles.For(s.cfg, s.log); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.backends, err = newBackends(s.ctx, &s.cfg.Broker, s.log); err != nil {
		s.cancel()
		return nil, err
	}
	for i := range s.cfg.Listeners {
		l, err := s.listen(&s.cfg.Listeners[i])
		if err != nil {
			s.Close()
			return nil, err
		}
		s.listeners = append(s.listeners, l)
	}
	return s, nil
}

// Serve serves until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	for _, l := range s.listeners {
		go l.serve()
		go l.transport.Follow(ctx, s.recheck)
	}
	<-ctx.Done()
	return nil
}

// Addresses are those that it listens on.
func (s *Server) Addresses() []net.Addr {
	var out []net.Addr
	for _, l := range s.listeners {
		out = append(out, l.net.Addr())
	}
	return out
}

// EachBroker tells of those that clients are taken to; broker.Behind.
func (s *Server) EachBroker(each func(address string, up bool, clients int)) {
	for _, n := range s.backends.all {
		each(n.Address, !n.down.Load(), int(n.clients.Load()))
	}
}

// errNoClient: a message cannot be published on its client's connection, which is gone.
var errNoClient = errors.New("the client is gone")

// Publish gives a message to the broker: on its client's connection, as a copy of what the client has published, or in
// its name.
func (s *Server) Publish(m *request.Message) error {
	c := s.find(m.ClientID)
	if c == nil || m.QoS > 0 && m.PacketID == 0 { // a will has no identifier, and its client is gone
		return fmt.Errorf("%w: %s", errNoClient, m.ClientID)
	}
	return c.publish(m)
}

// Copy is Publish.
func (s *Server) Copy(m *request.Message) error { return s.Publish(m) }

// Message reads a PUBLISH packet.
func (s *Server) Message(version byte, packet []byte) (*request.Message, error) {
	return codec.Publish(version, packet)
}

// Retain does nothing: a broker keeps nothing that it does not hand to its subscribers, too.
func (s *Server) Retain(*request.Message) {}

// Close ends all connections, those of MQTT 5 clients with the reason.
func (s *Server) Close() {
	s.cancel()
	for _, l := range s.listeners {
		_ = l.net.Close()
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range s.all() {
		wg.Go(func() { c.end(codeShuttingDown, "server is shutting down") })
	}
	wg.Wait() // none takes longer than lastWords
	s.backends.wg.Wait()
	s.often.Close()
}

func (s *Server) find(client string) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients[client]
}

// enter notes a connection's session and returns the one that it takes over; nil: none. present: the broker has gone on
// with the session of before.
func (s *Server) enter(c *conn, client string, present bool) (old *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old = s.clients[client]
	s.clients[client] = c
	if c.exchanges = s.exact.begin(client, present); old != nil && present {
		c.exchanges = old.exchanges
	}
	return old
}

// leave forgets a connection's session, if no other has taken it over.
func (s *Server) leave(c *conn, client string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[client] == c {
		delete(s.clients, client)
		s.exact.keep(client, c.exchanges, c.expiry)
	}
}

// add enters a connection; false if no more are served.
func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.conns[c] = struct{}{}
	}
	return !s.closed
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}

// recheck ends the sessions of clients whose certificates are not valid any more.
func (s *Server) recheck() {
	for _, c := range s.all() {
		x, certificate := c.session.Load(), c.certificate.Load()
		if x == nil || certificate == nil {
			continue
		}
		if err := certificate.Verify(); err != nil {
			s.broker.Refused("certificate_invalid", "client disconnected: "+err.Error(), x.Remote, "client", x.ClientID)
			x.Revoke("the certificate is not valid any more")
		}
	}
}
