package keda

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"eproxy/internal/config"
	"eproxy/internal/demand"
	"eproxy/internal/lograte"
	"eproxy/internal/predict"
)

// Bounds of what clients can have here.
const (
	connections = 64
	streams     = 1024 // of all connections
	maxHeader   = 16 << 10
	handshake   = 5 * time.Second
)

// A connection says nothing by itself while nothing happens, and who is between may forget it. KEDA's client sends
// no pings, so the server does, and notices by them that a client is gone.
const (
	pingEvery  = 30 * time.Second
	pongWithin = 10 * time.Second
)

const (
	second = time.Second
	// forgotten is how long after it was last asked for a function is measured: longer than any operator polls.
	forgotten = 10 * time.Minute
	// goodbye is how long the end waits for streams to be ended in order.
	goodbye = time.Second
)

// Options of New.
type Options struct {
	Source demand.Source
	Now    func() time.Duration
	TLS    *tls.Config // nil: none
	Logger *slog.Logger
}

// Server answers KEDA.
type Server struct {
	Options
	often  *lograte.Logger
	server *grpc.Server
	meters *demand.Meters
	live   atomic.Pointer[config.Config]
	ending chan struct{}
	some   chan struct{} // a function is asked for, for measure

	mu        sync.Mutex
	functions map[string]*function // that are asked for, or were lately
	open      int                  // streams
}

// function is one that is asked for.
type function struct {
	asked   time.Duration // latest
	active  bool          // in the second before
	streams map[chan struct{}]bool
}

// New makes a Server of the functions of a configuration.
func New(live *config.Config, o Options) *Server {
	s := &Server{Options: o, often: lograte.New(o.Logger), meters: demand.New(o.Source), ending: make(chan struct{}), some: make(chan struct{}, 1), functions: make(map[string]*function)}
	s.live.Store(live)
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}), grpc.MaxRecvMsgSize(maxRequest), grpc.MaxHeaderListSize(maxHeader),
		grpc.MaxConcurrentStreams(streams), grpc.ConnectionTimeout(handshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pongWithin}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pongWithin, PermitWithoutStream: true}),
	}
	if o.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(o.TLS)))
	}
	s.server = grpc.NewServer(options...)
	s.server.RegisterService(&description, s)
	return s
}

// Follow has the functions of a configuration asked for, with the pods that they have now.
func (s *Server) Follow(live *config.Config) {
	s.live.Store(live)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.functions {
		f.poke()
	}
}

// Activate tells at once that a message waits for a function without pods.
func (s *Server) Activate(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.functions[name]; f != nil {
		f.poke()
	}
}

// poke has the streams of a function look at it; s.mu is held.
func (f *function) poke() {
	for c := range f.streams {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Run serves at a listener until ctx ends. Then streams are ended in order: KEDA asks again 2 s after such an
// end, and ever later after others.
func (s *Server) Run(ctx context.Context, l net.Listener) {
	go func() {
		if err := s.server.Serve(netutil.LimitListener(l, connections)); err != nil {
			s.Logger.Error("KEDA is not answered any more", "error", err)
		}
	}()
	s.measure(ctx)
	close(s.ending)
	late := time.AfterFunc(goodbye, s.server.Stop)
	s.server.GracefulStop()
	late.Stop()
	s.often.Close()
}

// measure measures functions until ctx ends.
func (s *Server) measure(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.some:
		}
		t := time.NewTicker(second)
		for more := true; more; {
			select {
			case <-ctx.Done():
				t.Stop()
				return
			case <-t.C:
				more = s.Tick()
			}
		}
		t.Stop()
	}
}

// Tick ends a second; false: no function is asked for. Run does so.
func (s *Server) Tick() bool {
	now, live := s.Now(), s.live.Load()
	if err := s.meters.Tick(now); err != nil {
		s.often.Warn("KEDA is not told of a second", "", "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, f := range s.functions {
		if len(f.streams) == 0 && now-f.asked > forgotten {
			delete(s.functions, name)
			continue
		}
		if live.Function(name) == nil {
			continue
		}
		s.meters.Begin(name)
		before := f.active
		if f.active = s.meters.Active(name, now); f.active && !before {
			f.poke()
		}
	}
	s.meters.Keep(func(name string) bool { return s.functions[name] != nil && live.Function(name) != nil })
	return len(s.functions) > 0
}

// ask notes that a function is asked for, which is measured from now on; s.mu is held.
func (s *Server) ask(name string) *function {
	f := s.functions[name]
	if f == nil {
		f = &function{streams: make(map[chan struct{}]bool)}
		s.functions[name] = f
	}
	f.asked = s.Now()
	select {
	case s.some <- struct{}{}:
	default:
	}
	return f
}

// functionKey and targetKey are the keys of a trigger's metadata that are the server's.
const (
	functionKey = "function"
	targetKey   = "target"
)

// function is the one that a trigger names. One whose pods are those of a Service belongs to the Service's
// namespace: elsewhere nobody is told of it.
func (s *Server) function(r *reference) (*config.Function, error) {
	name := r.metadata[functionKey]
	if name == "" {
		return nil, status.Errorf(codes.InvalidArgument, "the trigger's metadata has no %s: it names a function of eproxy's configuration", functionKey)
	}
	fn := s.live.Load().Function(name)
	if fn == nil || fn.Discover.Service.Namespace != "" && fn.Discover.Service.Namespace != r.namespace {
		s.often.Warn("KEDA asks for a function that there is not", r.namespace+"/"+r.name, "function", name, "scaledobject", r.namespace+"/"+r.name)
		return nil, status.Errorf(codes.NotFound, "eproxy has no function %q for the namespace %q", name, r.namespace)
	}
	return fn, nil
}

// target is how many messages at a time a pod is meant to have.
func (s *Server) target(r *reference) (metric, error) {
	fn, err := s.function(r)
	if err != nil {
		return 0, err
	}
	text := r.metadata[targetKey]
	if text == "" {
		return metric(predict.TargetOf(fn.Concurrency)), nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0 && n <= maxTarget) {
		return 0, status.Errorf(codes.InvalidArgument, "the trigger's metadata has %s %q: it must be a number above 0, up to %d", targetKey, text, maxTarget)
	}
	return metric(n), nil
}

const maxTarget = 1_000_000

// isActive answers IsActive.
func (s *Server) isActive(r *reference) (activity, error) {
	fn, err := s.asked(r)
	if err != nil {
		return false, err
	}
	return activity(s.meters.Active(fn.Name, s.Now())), nil
}

// asked is the function that a trigger asks for, which is measured from now on.
func (s *Server) asked(r *reference) (*config.Function, error) {
	fn, err := s.function(r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ask(fn.Name)
	s.meters.Begin(fn.Name)
	return fn, nil
}

// metricSpec answers GetMetricSpec.
func (s *Server) metricSpec(r *reference) (metric, error) { return s.target(r) }

// metrics answers GetMetrics.
func (s *Server) metrics(q *query) (metric, error) {
	fn, err := s.asked(&q.reference)
	if err != nil {
		return 0, err
	}
	return metric(s.meters.Concurrency(fn.Name, s.Now())), nil
}
