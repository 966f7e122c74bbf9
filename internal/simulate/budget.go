package simulate

import (
	"container/heap"
	"time"

	"eproxy/internal/predict"
)

// Budgeted is what became of functions that share a node's memory.
type Budgeted struct {
	Arrivals, Cold, Evicted int
	// Short is how often an arrival was served beyond the budget, because all
	// other instances were at work.
	Short int
	Held  float64 // MB-seconds without work
}

// Budget plays functions to a policy on a node with the given memory, MB. It
// counts from the split on.
func Budget(functions []*Function, p *Policy, memory float64, victims predict.Victims) Budgeted {
	b := &budget{p: p, free: memory, victims: victims, byName: make(map[string]*tenant)}
	for _, f := range functions {
		t := &tenant{f: f, policy: p.New(f)}
		b.byName[f.Name] = t
		if len(f.Arrivals) > 0 {
			heap.Push(&b.events, event{f.Arrivals[0], t, arrival})
		}
	}
	for b.events.Len() > 0 {
		e := heap.Pop(&b.events).(event)
		switch {
		case e.plan == arrival:
			b.arrive(e.t, e.at)
		case e.plan == e.t.next: // no arrival since
			b.follow(e.t, e.at)
		}
	}
	return b.r
}

type budget struct {
	p       *Policy
	free    float64
	victims predict.Victims
	byName  map[string]*tenant
	events  events
	r       Budgeted
}

// tenant is a function of the node.
type tenant struct {
	f        *Function
	policy   predict.Policy
	plan     predict.Plan
	next     int // arrival
	last     time.Duration
	ready    time.Duration
	done     time.Duration
	resident bool
	since    time.Duration // it is without work
}

// arrival is the plan of events that are arrivals.
const arrival = -1

// event is an arrival, or a change by the plan that was made after as many.
type event struct {
	at   time.Duration
	t    *tenant
	plan int
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}

func (b *budget) arrive(t *tenant, at time.Duration) {
	cold := !t.resident || at < t.ready
	if !t.resident {
		b.start(t, at, true)
		t.ready = at + b.p.Start
	} else {
		b.hold(t, at)
	}
	if at >= t.f.Split {
		b.r.Arrivals++
		if cold {
			b.r.Cold++
		}
	}
	b.victims.Use(t.f.Name, b.p.Start.Seconds(), t.f.Memory)
	t.policy.Observe(at, t.done)
	t.done = max(t.done, max(at, t.ready)+t.f.Work)
	t.since, t.last, t.plan = t.done, at, t.policy.Plan()
	if t.next++; t.next < len(t.f.Arrivals) {
		heap.Push(&b.events, event{t.f.Arrivals[t.next], t, arrival})
	}
	heap.Push(&b.events, event{min(t.done, t.f.End), t, t.next})
}

// hold counts memory without work up to a time.
func (b *budget) hold(t *tenant, at time.Duration) {
	b.r.Held += max(0, (at-max(t.since, t.f.Split)).Seconds()) * t.f.Memory
	t.since = max(t.since, at)
}

// follow does what the plan says at a time at which there is no work.
func (b *budget) follow(t *tenant, at time.Duration) {
	awake, until := t.plan.At(at-t.last, t.done-t.last, b.p.Start)
	if t.resident {
		b.hold(t, at)
	}
	if at == t.f.End {
		return
	}
	switch {
	case awake && !t.resident && at > t.done:
		if b.start(t, at, false) {
			t.ready, t.since = at+b.p.Start, at
			b.victims.Use(t.f.Name, b.p.Start.Seconds(), t.f.Memory)
		}
	case !awake && t.resident:
		b.stop(t, at)
		b.victims.Remove(t.f.Name)
	}
	heap.Push(&b.events, event{min(t.last+min(until, t.f.End), t.f.End), t, t.next})
}

// start makes room and takes it. What must start does so beyond the budget.
func (b *budget) start(t *tenant, at time.Duration, must bool) bool {
	idle := func(key string) bool { return b.byName[key].done <= at }
	given, ok := predict.Room(b.victims, t.f.Memory, b.free, idle, func(key string) float64 { return b.byName[key].f.Memory })
	for _, key := range given {
		b.stop(b.byName[key], at)
		if at >= t.f.Split {
			b.r.Evicted++
		}
	}
	if !ok {
		if !must {
			return false
		}
		if at >= t.f.Split {
			b.r.Short++
		}
	}
	b.free -= t.f.Memory
	t.resident = true
	return true
}

func (b *budget) stop(t *tenant, at time.Duration) {
	b.hold(t, at)
	b.free += t.f.Memory
	t.resident = false
}

// LongestUnused is the order of a cache that knows no costs.
type LongestUnused struct {
	order map[string]int
	uses  int
}

// NewLongestUnused makes an empty one.
func NewLongestUnused() *LongestUnused { return &LongestUnused{order: make(map[string]int)} }

// Use tells that an instance has been used.
func (l *LongestUnused) Use(key string, _, _ float64) {
	l.uses++
	l.order[key] = l.uses
}

// Evict gives up the longest unused one of those that may be.
func (l *LongestUnused) Evict(may func(key string) bool) (key string, ok bool) {
	for k, order := range l.order {
		if may(k) && (!ok || order < l.order[key]) {
			key, ok = k, true
		}
	}
	delete(l.order, key)
	return key, ok
}

// Remove forgets an instance that has gone by itself.
func (l *LongestUnused) Remove(key string) { delete(l.order, key) }
