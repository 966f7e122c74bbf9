package broker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"eproxy/internal/config"
	"eproxy/internal/delivery"
)

// receiveMaximum is how many QoS 1 and 2 messages of one client may be under
// way here (MQTT 5 section 3.2.2.3.3); more wait in its connection.
const receiveMaximum = 1024

// drainInterval is how often Drain looks whether acknowledgements still wait.
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
	Recorder Recorder // may be nil
}

// Server is the MQTT server.
type Server struct {
	opts    Options
	log     *slog.Logger
	mqtt    *mqtt.Server
	inline  *mqtt.Client
	rules   atomic.Pointer[rules]
	ctx     context.Context // of deliveries
	cancel  context.CancelFunc
	pending pendings
	queued  atomic.Int64 // acknowledgements of the kernel path that wait for their client
	flights sync.Map     // *mqtt.Client -> chan struct{}, its messages in flight
	drained atomic.Bool
	logged  sync.Map // *mqtt.Error -> struct{}, violations that were logged
}

// New opens the listeners; clients are served from Serve on.
func New(opts Options) (*Server, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: opts, log: opts.Logger}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.pending.init()
	if err := s.Reload(opts.Config); err != nil {
		return nil, err
	}
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumPacketSize = uint32(opts.Config.Limits.MaxPacketSize)
	caps.ReceiveMaximum = receiveMaximum
	caps.TopicAliasMaximum = topicAliases
	s.mqtt = mqtt.New(&mqtt.Options{Capabilities: caps, InlineClient: true, Logger: quiet(opts.Logger), SysTopicResendInterval: sysInterval})
	s.inline = s.mqtt.NewClient(nil, mqtt.LocalListener, "eproxy", true)
	if err := s.mqtt.AddHook(&hook{s: s}, nil); err != nil {
		return nil, fmt.Errorf("add hook: %w", err)
	}
	for _, l := range opts.Config.Listeners {
		nl, err := listen(s.ctx, l.Address, s)
		if err == nil {
			err = s.mqtt.AddListener(nl)
		}
		if err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// sysInterval is seconds between two updates of $SYS topics, as mosquitto's.
// Each stops all goroutines for a moment to read memory statistics.
const sysInterval = 10

// Serve serves until ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.mqtt.Serve(); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	<-ctx.Done()
	return nil
}

// Reload takes over changed routes and permissions.
func (s *Server) Reload(cfg *config.Config) error {
	r, err := newRules(cfg)
	if err != nil {
		return err
	}
	s.rules.Store(r)
	return nil
}

// Drain takes no more routed messages and waits for those under way, and for the
// acknowledgements of those that the kernel path took, until ctx ends.
func (s *Server) Drain(ctx context.Context) {
	s.drained.Store(true)
	done := make(chan struct{})
	go func() {
		s.pending.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	t := time.NewTicker(drainInterval)
	defer t.Stop()
	for s.queued.Load() > 0 && ctx.Err() == nil {
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
}

// Close ends all clients and deliveries.
func (s *Server) Close() {
	s.cancel()
	s.drained.Store(true)
	if s.mqtt != nil {
		_ = s.mqtt.Close()
	}
}

// quiet keeps the library's own chatter out of the log.
func quiet(l *slog.Logger) *slog.Logger {
	return slog.New(levelFloor{l.Handler()})
}

// levelFloor passes warnings and errors only.
type levelFloor struct{ slog.Handler }

func (h levelFloor) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && h.Handler.Enabled(ctx, l)
}

// pendings are routed messages under way, by client and packet identifier: a
// repetition must not be delivered at the same time as its original.
type pendings struct {
	mu sync.Mutex
	m  map[pendingKey]*pending
	wg sync.WaitGroup
}

type pendingKey struct {
	client string
	id     uint16
}

type pending struct{ client *mqtt.Client }

func (p *pendings) init() { p.m = make(map[pendingKey]*pending) }

// begin notes a message; false means that this repeats one under way, whose
// acknowledgement then goes to the new connection.
func (p *pendings) begin(cl *mqtt.Client, id uint16, dup bool) (*pending, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := pendingKey{cl.ID, id}
	if old := p.m[key]; old != nil && id != 0 && (dup || old.client == cl) {
		old.client = cl
		return old, false
	}
	x := &pending{client: cl}
	if id != 0 {
		p.m[key] = x
	}
	p.wg.Add(1)
	return x, true
}

// end forgets a message and says where its acknowledgement goes.
func (p *pendings) end(x *pending, id uint16) *mqtt.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := pendingKey{x.client.ID, id}
	if p.m[key] == x {
		delete(p.m, key)
	}
	p.wg.Done()
	return x.client
}
