// Package demand measures how much functions have to do, a second at a time, over the windows that
// Knative's autoscaler looks at: for those that scale by the same rules.
package demand

import (
	"sync"
	"time"

	"eproxy/internal/predict"
	"eproxy/internal/traffic"
)

// Source knows what functions have had to do.
type Source interface {
	// Loads is what the programs have had to do for some functions.
	Loads(wanted func(function string) bool, now time.Duration) (traffic.Loads, error)
	// Userspace is what userspace has.
	Userspace(function string, now time.Duration) traffic.Sum
	// Busy is how many messages wait or are under way at this moment, on both paths.
	Busy(function string) int
}

// Meters measure functions.
type Meters struct {
	source Source

	mu sync.Mutex
	m  map[string]*meter
}

// meter is a function's.
type meter struct {
	traffic.Meter
	kpa  *predict.KPA
	any  bool          // there was something to do
	last time.Duration // the latest Tick that saw some
}

// New makes Meters that measure nothing yet.
func New(source Source) *Meters { return &Meters{source: source, m: make(map[string]*meter)} }

// Begin has a function measured, if it is not yet, from the next Tick on.
func (d *Meters) Begin(function string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.m[function] == nil {
		d.m[function] = &meter{kpa: predict.NewKPA(1)}
	}
}

// Keep has only those functions measured that are wanted.
func (d *Meters) Keep(wanted func(function string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.m {
		if !wanted(name) {
			delete(d.m, name)
		}
	}
}

// Tick measures what has happened since the one before: it is meant to be called each second.
func (d *Meters) Tick(now time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.m) == 0 {
		return nil
	}
	loads, err := d.source.Loads(func(name string) bool { return d.m[name] != nil }, now)
	if err != nil {
		return err
	}
	for name, m := range d.m {
		rate := m.Rate(loads.Functions[name].Plus(d.source.Userspace(name, now)), now)
		m.kpa.Record(now, rate.Concurrency) // also 0: an average leaves out what follows the last record
		if rate.Concurrency > 0 || rate.Arrived > 0 {
			m.any, m.last = true, now
		}
	}
	return nil
}

// Concurrency is how many messages a function had waiting or under way at a time: on average over the longer one of the
// autoscaler's windows, or over the shorter one if that is more, as after a burst.
func (d *Meters) Concurrency(function string, now time.Duration) float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if m := d.m[function]; m != nil {
		return m.kpa.Concurrency(now)
	}
	return 0
}

// Scale is how many pods a function needs by Knative's rules, of which so many are ready and take so many requests at a time;
// as many as there are where it is not measured.
func (d *Meters) Scale(function string, now time.Duration, ready, concurrency int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.m[function]
	if m == nil {
		return ready
	}
	m.kpa.Target = predict.TargetOf(concurrency)
	return m.kpa.Scale(now, ready)
}

// Active says whether a function has something to do, or had within the longer window.
func (d *Meters) Active(function string, now time.Duration) bool {
	if d.source.Busy(function) > 0 {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	m := d.m[function]
	return m != nil && m.any && now-m.last < predict.StableWindow
}
