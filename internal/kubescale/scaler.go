package kubescale

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/demand"
	"eproxy/internal/kube"
	"eproxy/internal/lograte"
)

// API is what is asked of Kubernetes; *kube.Cluster.
type API interface {
	Scale(ctx context.Context, w config.Workload) (kube.Scale, error)
	SetScale(ctx context.Context, w config.Workload, was kube.Scale, replicas int) (kube.Scale, error)
}

var _ API = (*kube.Cluster)(nil)

// Options of New.
type Options struct {
	API    API
	Source demand.Source
	Now    func() time.Duration
	Logger *slog.Logger
}

// Scaler scales functions.
type Scaler struct {
	Options
	often  *lograte.Logger
	meters *demand.Meters
	ctx    context.Context // of Run
	end    context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	functions map[string]*function
}

// New makes a Scaler that scales nothing yet.
func New(o Options) *Scaler {
	s := &Scaler{Options: o, often: lograte.New(o.Logger), meters: demand.New(o.Source), functions: make(map[string]*function)}
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

// Follow scales the functions of a configuration that say so, with the pods that they have now.
func (s *Scaler) Follow(live *config.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[string]bool)
	for _, fn := range live.Functions {
		w := fn.Autoscaling.Kubernetes
		if w.Name == "" {
			continue
		}
		wanted[fn.Name] = true
		f := s.functions[fn.Name]
		if f == nil || f.workload != w {
			if f != nil {
				f.stop()
			}
			f = s.begin(fn.Name, w)
		}
		f.know(len(fn.Pods), fn.Concurrency)
	}
	for name, f := range s.functions {
		if !wanted[name] {
			f.stop()
			delete(s.functions, name)
		}
	}
	s.meters.Keep(func(name string) bool { return wanted[name] })
}

// begin has a function scaled; s.mu is held.
func (s *Scaler) begin(name string, w config.Workload) *function {
	ctx, stop := context.WithCancel(s.ctx)
	f := &function{s: s, name: name, workload: w, stop: stop, began: s.Now(), news: make(chan struct{}, 1)}
	s.functions[name] = f
	s.meters.Begin(name)
	s.wg.Go(func() { f.run(ctx) })
	return f
}

// Activate begins a pod at once: a message waits for a function without any. It does not wait.
func (s *Scaler) Activate(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.functions[name]; f != nil {
		f.poke()
	}
}

// Run measures functions until ctx ends, and returns when nothing is asked any more.
func (s *Scaler) Run(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	defer s.often.Close()
	defer s.wg.Wait()
	defer s.end()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := s.meters.Tick(s.Now()); err != nil {
				s.often.Warn("load of functions cannot be measured, they are scaled by what it was", "meters", "error", err)
			}
		}
	}
}

// Status is a function as it is shown.
type Status struct {
	Function string
	Pods     int // that get messages
	Replicas int // that there are to be; 0 also if that is not known
	Min, Max int
	Reason   string // what hinders it to be scaled; empty: nothing does
}

// Functions are those that are scaled, by name.
func (s *Scaler) Functions() (out []Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.functions {
		out = append(out, f.status())
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Compare(a.Function, b.Function) })
	return out
}
