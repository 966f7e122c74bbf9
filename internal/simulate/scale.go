package simulate

import (
	"container/heap"
	"math"
	"slices"
	"time"

	"eproxy/internal/predict"
)

// Autoscaler decides how many instances a function has.
type Autoscaler interface {
	// Record tells of the second that begins at at: average and highest number
	// of requests in progress, those that wait included.
	Record(at time.Duration, average, highest float64)
	// Scale is how many instances there should be, of which ready are now.
	Scale(at time.Duration, ready int) int
	// Quiet says that Scale stays at 0 until something is recorded.
	Quiet(at time.Duration) bool
}

// Knative's intervals: between decisions, and for which a function has been
// active before its last instance goes.
const (
	scaleInterval = 2 * time.Second
	activeAtLeast = 60 * time.Second
)

// maxInstances of a function.
const maxInstances = 1000

// Setup of instances.
type Setup struct {
	// PerInstance is how many requests an instance takes at once.
	PerInstance int
	Start       time.Duration
}

// Scale plays a function's calls to an autoscaler that starts and stops
// instances. Calls for which there is no room wait in order.
func Scale(f *Function, calls []time.Duration, a Autoscaler, setup Setup) Result {
	s := &scaler{f: f, a: a, setup: setup, r: Result{Function: f.Name}, active: -1}
	for _, at := range calls {
		s.until(at)
		s.arrive(at)
	}
	s.until(f.End)
	return s.r
}

type scaler struct {
	f        *Function
	a        Autoscaler
	setup    Setup
	now      time.Duration
	ready    int
	starting []time.Duration // when each will be ready, in order
	working  times           // when each request in progress is done
	waiting  []time.Duration // when each that waits came
	active   time.Duration   // since when there is an instance; -1: there is none
	// Of the present second:
	area    float64 // requests × seconds
	highest int
	poked   float64 // recorded already
	r       Result
}

// times is a heap, earliest first.
type times []time.Duration

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i] < t[j] }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *times) Push(x any)        { *t = append(*t, x.(time.Duration)) }
func (t *times) Pop() any {
	last := len(*t) - 1
	x := (*t)[last]
	*t = (*t)[:last]
	return x
}

func (s *scaler) total() int    { return s.ready + len(s.starting) }
func (s *scaler) requests() int { return len(s.working) + len(s.waiting) }

// until plays what happens before a time: ends of work, instances that become
// ready, and the end of each second.
func (s *scaler) until(end time.Duration) {
	for {
		if s.total() == 0 && s.requests() == 0 && s.highest == 0 && s.a.Quiet(s.now) {
			s.now = max(s.now, end)
			return
		}
		second := s.now.Truncate(time.Second) + time.Second
		next := min(end, second)
		if len(s.working) > 0 {
			next = min(next, s.working[0])
		}
		if len(s.starting) > 0 {
			next = min(next, s.starting[0])
		}
		s.pass(next)
		for len(s.working) > 0 && s.working[0] <= next {
			heap.Pop(&s.working)
		}
		for len(s.starting) > 0 && s.starting[0] <= next {
			s.starting = s.starting[1:]
			s.ready++
		}
		s.serve()
		if next == second {
			s.tick()
		}
		if next == end {
			return
		}
	}
}

// pass lets time go by in which nothing happens.
func (s *scaler) pass(to time.Duration) {
	s.area += float64(s.requests()) * (to - s.now).Seconds()
	if counted := to - max(s.now, min(s.f.Split, to)); counted > 0 {
		busy := (s.requests() + s.setup.PerInstance - 1) / s.setup.PerInstance
		idle := time.Duration(max(0, s.total()-busy)) * counted
		s.r.Idle += idle
		s.r.Held += idle.Seconds() * s.f.Memory
	}
	s.now = to
}

func (s *scaler) arrive(at time.Duration) {
	counted := at >= s.f.Split
	if counted {
		s.r.Arrivals++
	}
	s.waiting = append(s.waiting, at)
	s.highest = max(s.highest, s.requests())
	s.serve()
	if len(s.waiting) > 0 && counted {
		s.r.Cold++
	} else if counted {
		s.r.Warm++
	}
	if s.total() == 0 { // the activator tells the autoscaler at once
		s.poked = 1
		s.a.Record(at, 1, float64(s.requests()))
		s.resize(s.a.Scale(at, 0))
	}
}

// serve gives waiting requests to instances with room.
func (s *scaler) serve() {
	for len(s.waiting) > 0 && len(s.working) < s.ready*s.setup.PerInstance {
		came := s.waiting[0]
		s.waiting = s.waiting[1:]
		if came >= s.f.Split && s.now > came {
			s.r.Waits = append(s.r.Waits, s.now-came)
		}
		heap.Push(&s.working, s.now+s.f.Work)
	}
	s.highest = max(s.highest, s.requests())
}

func (s *scaler) tick() {
	if s.total() > 0 || s.highest > 0 { // of nothing there is nothing to tell
		s.a.Record(s.now-time.Second, max(0, s.area-s.poked), float64(s.highest))
	}
	s.area, s.poked, s.highest = 0, 0, s.requests()
	if s.now%scaleInterval == 0 {
		s.resize(s.a.Scale(s.now, s.ready))
	}
}

// resize starts instances, or stops idle ones.
func (s *scaler) resize(desired int) {
	if s.active >= 0 && s.now-s.active < activeAtLeast {
		desired = max(desired, 1)
	}
	desired = min(desired, maxInstances)
	for s.total() < desired {
		s.starting = append(s.starting, s.now+s.setup.Start)
		if s.now >= s.f.Split {
			s.r.Starts++
		}
	}
	busy := int(math.Ceil(float64(len(s.working)) / float64(s.setup.PerInstance)))
	s.starting = s.starting[:len(s.starting)-min(len(s.starting), max(0, s.total()-max(desired, busy)))]
	s.ready = max(min(s.ready, max(desired, busy)), s.ready-max(0, s.total()-desired))
	switch {
	case s.total() == 0:
		s.active = -1
	case s.active < 0:
		s.active = s.now
	}
}

// Reactive is predict.KPA by itself.
type Reactive struct{ *predict.KPA }

// Record tells of a second.
func (r Reactive) Record(at time.Duration, average, _ float64) { r.KPA.Record(at, average) }

// Floored is predict.KPA above the floor of a forecast of concurrency.
type Floored struct {
	*predict.KPA
	Forecast    *predict.Concurrency
	PerInstance float64
}

// NewFloored makes one that looks as far ahead as a start that is decided next
// takes.
func NewFloored(setup Setup) Floored {
	horizon := int((setup.Start + scaleInterval + time.Second - 1) / time.Second)
	forecast, err := predict.NewConcurrency(min(horizon, predict.MaxHorizon))
	if err != nil {
		panic(err) // the horizon is neither too short nor too long
	}
	return Floored{predict.NewKPA(predict.TargetUtilisation * float64(setup.PerInstance)), forecast, float64(setup.PerInstance)}
}

// Coverage of the forecasts.
func (f Floored) Coverage() Coverage {
	return Coverage{Judged: f.Forecast.Judged, Covered: f.Forecast.Judged - f.Forecast.Missed}
}

// Record tells of a second.
func (f Floored) Record(at time.Duration, average, highest float64) {
	f.KPA.Record(at, average)
	f.Forecast.Observe(highest)
}

// Scale is the larger of the two.
func (f Floored) Scale(at time.Duration, ready int) int {
	return max(f.KPA.Scale(at, ready), f.Forecast.Floor(f.PerInstance))
}

// Concurrent are functions with more than a few calls in progress at times,
// where one instance would not do.
func Concurrent(all []*Function) (some []*Function) {
	for _, f := range all {
		at, _ := slices.BinarySearch(f.Calls, f.Split)
		calls := len(f.Calls) - at
		if float64(calls)*f.Work.Seconds() > 0.5*(f.End-f.Split).Seconds() {
			some = append(some, f)
		}
	}
	return some
}
