package page

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eproxy/internal/config"
	"eproxy/internal/top"
)

// The time line: its length, and the time between two readings. They go on while nobody looks.
const (
	span   = 15 * time.Minute
	every  = 3 * time.Second
	points = int(span / every)
)

// feed reads the metrics, and has the latest view and the time line for all viewers.
type feed struct {
	metrics prometheus.Gatherer
	routes  atomic.Pointer[[]*config.Route]
	states  atomic.Pointer[func() []State] // nil: no function has one
	before  *top.Snapshot                  // nil: none yet
	ended   chan struct{}                  // closed when run ends

	mu   sync.Mutex
	line []point // the latest points, in the order of time
	now  []byte  // the latest view; nil: none yet
	next chan struct{}
}

func newFeed(metrics prometheus.Gatherer) *feed {
	return &feed{metrics: metrics, ended: make(chan struct{}), next: make(chan struct{}), line: make([]point, 0, points)}
}

// run reads until ctx ends.
func (f *feed) run(ctx context.Context, every time.Duration) {
	defer close(f.ended)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for at := time.Now(); ; {
		f.read(at)
		select {
		case <-ctx.Done():
			return
		case at = <-tick.C:
		}
	}
}

// read takes one reading. One that fails is left out: the next one compares with the one before.
func (f *feed) read(at time.Time) {
	s, err := top.Gather(f.metrics, at)
	if err != nil {
		return
	}
	if f.before != nil && at.After(f.before.At) {
		var routes []*config.Route
		if r := f.routes.Load(); r != nil {
			routes = *r
		}
		var states []State
		if of := f.states.Load(); of != nil {
			states = (*of)()
		}
		f.publish(look(f.before, s, routes, states))
	}
	f.before = s
}

// publish makes a view the latest one.
func (f *feed) publish(v *view) {
	b, err := json.Marshal(v)
	if err != nil { // numbers, texts and lists of them: there is nothing that cannot be written
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.line) == points {
		copy(f.line, f.line[1:])
		f.line = f.line[:points-1]
	}
	f.line = append(f.line, v.All)
	f.now = b
	close(f.next)
	f.next = make(chan struct{})
}

// latest is the time line, the latest view (nil: none yet), and what is closed when there is a later one.
func (f *feed) latest() (history, now []byte, next <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	line := f.line
	if n := len(line); n > 0 { // its last point is the view's
		line = line[:n-1]
	}
	history, err := json.Marshal(map[string]any{"span": span.Milliseconds(), "points": line})
	if err != nil {
		history = []byte("{}")
	}
	return history, f.now, f.next
}
