package knative

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/traffic"
)

const (
	// second is what a Stat is about.
	second = time.Second
	// looks is how often in a second it is looked what waits.
	looks = 10
)

// Source knows what functions and pods have had to do.
type Source interface {
	// Loads is what the programs have had to do for some functions.
	Loads(wanted func(function string) bool, now time.Duration) (traffic.Loads, error)
	// Userspace is what userspace has.
	Userspace(function string, now time.Duration) traffic.Sum
	// Waiting is how many messages wait for a place at a pod, on all paths.
	Waiting(function string) int
	// HTTP is what a pod got from anybody; false if that is not known.
	HTTP(pod netip.AddrPort) (traffic.HTTP, bool)
	// Listen listens in the network namespace of a pod.
	Listen(ctx context.Context, pod netip.AddrPort, port uint16) (net.Listener, error)
}

// Options of New.
type Options struct {
	Source Source
	Name   string               // who pushes
	Push   func(message []byte) // sends a WireStatMessages, without waiting; nil: nothing is pushed
	Now    func() time.Duration
	Logger *slog.Logger
}

// Reporter tells Knative's autoscaler of the functions that are to be told of.
type Reporter struct {
	Options

	mu        sync.Mutex
	functions map[string]*function
	some      chan struct{} // there are functions, for Run
}

// function is one that the autoscaler is told of.
type function struct {
	cfg    config.Knative
	name   string
	meter  traffic.Meter
	told   float64 // messages that it was told of at once, in this second
	busy   bool    // it was told of some in the second before
	waited int     // messages that waited, at all looks of this second together
	pods   map[netip.AddrPort]*pod
}

// New makes a Reporter that tells of nothing yet.
func New(o Options) *Reporter {
	return &Reporter{Options: o, functions: make(map[string]*function), some: make(chan struct{}, 1)}
}

// Follow has the functions of a configuration told of, with the pods that they have now.
func (r *Reporter) Follow(cfg *config.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := make(map[string]bool)
	for _, fn := range cfg.Functions {
		k := fn.Autoscaling.Knative
		if k == (config.Knative{}) {
			continue
		}
		wanted[fn.Name] = true
		f := r.functions[fn.Name]
		if f == nil {
			f = &function{name: fn.Name, pods: make(map[netip.AddrPort]*pod)}
			r.functions[fn.Name] = f
		}
		if f.cfg.Port != k.Port {
			f.follow(nil, nil)
		}
		f.cfg = k
		if k.Port != 0 {
			f.follow(fn.Pods, fn.Identities)
		}
	}
	for name, f := range r.functions {
		if !wanted[name] {
			f.follow(nil, nil)
			delete(r.functions, name)
		}
	}
	if len(r.functions) > 0 {
		select {
		case r.some <- struct{}{}:
		default:
		}
	}
}

// Activate tells at once of the first message for a function without pods.
func (r *Reporter) Activate(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.functions[name]
	if f == nil || f.cfg.Revision == "" || r.Push == nil || f.busy || f.told > 0 {
		return
	}
	f.told = 1
	r.Push(AppendMessages(nil, []Message{f.message(r.Name, traffic.Rate{Concurrency: 1, Arrived: 1})}))
}

// Run tells of each second until ctx ends.
func (r *Reporter) Run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-r.some:
			r.seconds(ctx)
		}
	}
	r.close()
}

// seconds tells of each second until there are no functions, or ctx ends.
func (r *Reporter) seconds(ctx context.Context) {
	r.begin(ctx)
	t := time.NewTicker(second / looks)
	defer t.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-r.some:
			r.begin(ctx)
			continue
		case <-t.C:
		}
		r.Look()
		if n%looks == 0 && !r.Tick(ctx) {
			return
		}
	}
}

func (r *Reporter) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.functions {
		f.follow(nil, nil)
	}
}

// begin has what is new told of from now on.
func (r *Reporter) begin(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.Now()
	loads, err := r.Source.Loads(r.tells, now)
	if err != nil {
		return // the next second begins it
	}
	for _, f := range r.functions {
		f.meter.Begin(r.sum(f, loads, now), now)
		for _, p := range f.pods {
			if all, proxied, ok := r.sums(f, p, loads); ok && p.since == 0 {
				p.since = now
				p.all.Begin(all, now)
				p.proxied.Begin(proxied, now)
				r.open(ctx, f, p, now)
			}
		}
	}
}

// tells says whether a function is told of; r.mu is held.
func (r *Reporter) tells(name string) bool { return r.functions[name] != nil }

// sum is what a function has had to do.
func (r *Reporter) sum(f *function, loads traffic.Loads, now time.Duration) traffic.Sum {
	return loads.Functions[f.name].Plus(r.Source.Userspace(f.name, now))
}

// Look counts what waits: ten times in a second. Run does so.
func (r *Reporter) Look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.functions {
		if f.waits() {
			f.waited += r.Source.Waiting(f.name)
		}
	}
}

// Tick ends a second; false: there are no functions. Run does so.
func (r *Reporter) Tick(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.functions) == 0 {
		return false
	}
	now := r.Now()
	loads, err := r.Source.Loads(r.tells, now)
	if err != nil {
		r.Logger.Warn("Knative's autoscaler is not told of a second", "error", err)
		return true
	}
	var pushed []Message
	for _, f := range r.functions {
		rate := f.meter.Rate(r.sum(f, loads, now), now)
		if m, ok := f.second(r.Name, rate); ok {
			pushed = append(pushed, m)
		}
		r.tickPods(ctx, f, loads, now)
		f.waited = 0
	}
	if r.Push != nil && len(pushed) > 0 {
		r.Push(AppendMessages(nil, pushed))
	}
	return true
}

// second is what is pushed of a second; false: nothing happened. What was told of at once is taken off.
func (f *function) second(who string, rate traffic.Rate) (Message, bool) {
	rate.Concurrency, rate.Arrived = max(0, rate.Concurrency-f.told), max(0, rate.Arrived-f.told)
	before, told := f.busy, f.told > 0
	f.told, f.busy = 0, rate != (traffic.Rate{}) || told
	return f.message(who, rate), f.cfg.Revision != "" && (f.busy || before)
}

func (f *function) message(who string, rate traffic.Rate) Message {
	return Message{f.cfg.Namespace, f.cfg.Revision, Stat{PodName: who, Concurrency: rate.Concurrency, Requests: rate.Arrived}}
}

// waits says whether the pods tell of what waits for them: nobody else does.
func (f *function) waits() bool { return f.cfg.Port != 0 && f.cfg.Revision == "" }
