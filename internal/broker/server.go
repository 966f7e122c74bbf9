// Package broker decides what becomes of clients and their messages: who may
// connect, who may publish and subscribe, which message goes to which function,
// and how it is acknowledged. It owns the sessions, and asks a Grafter to take
// their messages in the kernel. Speaking MQTT is a Frontend's business.
package broker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/auth"
	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/lograte"
	"eproxy/internal/request"
	"eproxy/internal/spans"
	"eproxy/internal/trace"
)

// ReceiveMaximum is how many QoS 1 and 2 messages of one client may be under
// way here (MQTT 5 section 3.2.2.3.3); more wait in its connection.
const ReceiveMaximum = 1024

// drainInterval is how often Drain looks whether anything is still under way.
const drainInterval = 5 * time.Millisecond

// Recorder counts messages.
type Recorder interface {
	Message(route, function string, qos byte, outcome string, took time.Duration)
	Refused(reason string)
}

// Options of New.
type Options struct {
	Config   *config.Config
	Engine   *delivery.Engine
	Grafter  Grafter // nil: no kernel path
	Logger   *slog.Logger
	Recorder Recorder        // may be nil
	Tracer   *trace.Hub      // may be nil
	Spans    *spans.Exporter // nil: nobody gets spans
	// Frontend makes the MQTT server that will ask this one. It opens the
	// listeners; clients are served from Serve on.
	Frontend func(*Server) (Frontend, error)
	Compare  auth.Compare // nil: passhash.Compare
}

// Server is what decides.
type Server struct {
	opts     Options
	log      *slog.Logger
	often    *lograte.Logger // what anybody can bring about any number of times
	front    Frontend
	rules    atomic.Pointer[rules]
	sessions sessions
	refusals refusals
	wills    wills
	// willsUnderWay are the wills that are being published.
	willsUnderWay atomic.Int64
	pending       pendings
	keeper        Keeper // nil: nothing outlives the program
	lines         lines
	queued        atomic.Int64  // acknowledgements of the kernel path that wait for their client
	copying       chan struct{} // has one for each copy of the kernel path that waits for subscribers
	drained       atomic.Bool
	logins        *auth.Checker
	changing      sync.Mutex // held while rules are replaced
	unfollow      func()     // ends following the files of accounts
	closed        sync.Once
	ctx           context.Context // of deliveries
	cancel        context.CancelFunc
}

// New makes a server with its frontend.
func New(opts Options) (*Server, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: opts, log: opts.Logger, often: lograte.New(opts.Logger), logins: auth.New(opts.Compare)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.copying = make(chan struct{}, copiesMax)
	s.pending.init()
	s.lines.programs, _ = opts.Grafter.(Orderer)
	if err := s.Reload(opts.Config); err != nil {
		return nil, err
	}
	if opts.Config.Auth.Open() && !opts.Config.Broker.Relay() {
		s.log.Warn("every client may connect without a password and publish and subscribe to everything: auth is not configured")
	}
	var err error
	if s.front, err = opts.Frontend(s); err != nil {
		s.cancel()
		return nil, err
	}
	if opts.Engine != nil {
		opts.Engine.PublishWith(s.publishLetter)
	}
	return s, nil
}

// errNotKept: a dead letter stays where it is.
var errNotKept = errors.New("the server was closed before the dead letter was on disk")

// publishLetter publishes a dead letter, and waits until it is on disk for the sessions that get it, if they outlive the program.
func (s *Server) publishLetter(m *request.Message) error {
	if err := s.front.Publish(m); err != nil {
		return err
	}
	if s.keeper != nil && !s.keeper.Settled() {
		return errNotKept
	}
	return nil
}

// Serve serves until ctx ends.
func (s *Server) Serve(ctx context.Context) error { return s.front.Serve(ctx) }

// Addresses are those that clients connect to.
func (s *Server) Addresses() []net.Addr { return s.front.Addresses() }

// Config is the configuration that the server was started with.
func (s *Server) Config() *config.Config { return s.opts.Config }

// Logger is where the server and its frontend log.
func (s *Server) Logger() *slog.Logger { return s.log }

// Reload is Prepare, Restrict and Commit.
func (s *Server) Reload(cfg *config.Config) error {
	c, err := s.Prepare(cfg)
	if err != nil {
		return err
	}
	c.Restrict()
	c.Commit()
	return nil
}

// Admit says whether somebody may connect from an address.
func (s *Server) Admit(remote netip.Addr) bool {
	if !s.rules.Load().deniedAddress(remote) {
		return true
	}
	s.Refused("denied_address", "connection refused: the address is denied", netip.AddrPortFrom(remote, 0))
	return false
}

// Authenticate says who a client is, or why it is refused, as an MQTT 5 reason
// code. It may take seconds, and a reload may come in between: Open judges by what
// holds then.
func (s *Server) Authenticate(c *Connect) (Identity, byte) {
	r := s.rules.Load()
	id := Identity{ClientID: c.ClientID, Username: c.Username, Remote: c.Remote, Until: c.Until}
	if r.denied(id) {
		s.Refused("denied_client", "client refused: it is denied", c.Remote, "client", c.ClientID, "user", c.Username)
		return id, CodeBanned
	}
	var code byte
	if id.Account, code = s.login(r, c); code != CodeSuccess {
		return id, code
	}
	if w := c.Will; w != nil && !r.rights(id).mayPublish(w.Message.Topic) {
		s.Refused("will_not_authorized", "client refused: it may not publish its will", c.Remote, "client", c.ClientID, "topic", w.Message.Topic)
		return id, CodeNotAuthorized
	}
	return id, CodeSuccess
}

// Open begins a client's session, before CONNACK: an earlier one of the same
// client identifier is over when it returns, and the connection is offered to the
// kernel path. t is nil where that is impossible.
func (s *Server) Open(id Identity, c *Connect, p Peer, t *Transport) *Session {
	x := &Session{
		Identity: id, Version: c.Version, Since: time.Now(), server: s, peer: p, will: c.Will, expiry: c.SessionExpiry, clean: c.Clean,
		gone: make(chan struct{}),
	}
	x.queued = s.opts.Engine.NewPublisher(min(s.opts.Config.Limits.InflightPerClient, config.UserspaceInflight), patience(c.KeepAlive), x.gone)
	x.acks = &ackQueue{
		limit:  ReceiveMaximum,
		queued: &s.queued,
		write: func(a ack) {
			defer s.contain(x.ClientID)
			if x.release(a.hold) {
				s.acknowledge(x, a.id, 1, a.outcome, nil)
			}
		},
		overflow: func() {
			s.log.Info("client disconnected, it does not read its acknowledgements", "client", x.ClientID)
			p.Abort()
		},
	}
	if old := s.sessions.swap(x, s.rules.Load); old != nil {
		old.yield(x)
	}
	if x.clean {
		s.Forget(x.ClientID)
	}
	s.returned(x)
	if !x.valid() { // a reload came in between
		x.Stop()
		p.Abort() // before CONNACK there is no DISCONNECT [MQTT-3.14.0-1]
		return x
	}
	x.limit()
	x.arm(s.opts.Grafter, t)
	return x
}

// defaultPatience is that of a client without keep-alive.
const defaultPatience = 30 * time.Second

// patience is how long a client may be left unread: it may expect an answer to
// PINGREQ within its keep-alive.
func patience(keepAlive time.Duration) time.Duration {
	if keepAlive == 0 {
		return defaultPatience
	}
	return keepAlive / 2
}

// Ended is called once when a client's connection has ended, after which the
// client is gone or has another session.
func (s *Server) Ended(x *Session) {
	x.Stop()
	x.settleCopies(s.ctx)
	s.sessions.remove(x)
	s.settleWill(x)
}

// Drain takes no more routed messages and waits for those under way, and for the
// acknowledgements and copies of those that the kernel path took, until ctx ends.
func (s *Server) Drain(ctx context.Context) {
	s.drained.Store(true)
	for _, x := range s.sessions.list() {
		x.settleCopies(ctx)
	}
	t := time.NewTicker(drainInterval)
	defer t.Stop()
	for s.pending.open.Load()+s.queued.Load()+int64(len(s.copying)) > 0 && ctx.Err() == nil {
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
}

// Close ends all clients and deliveries; once.
func (s *Server) Close() { s.closed.Do(s.close) }

func (s *Server) close() {
	s.cancel()
	s.drained.Store(true)
	s.logins.Close()
	s.wills.close()
	if s.front != nil {
		s.front.Close()
	}
	s.often.Close()
}
