package simulate

import (
	"time"

	"eproxy/internal/predict"
)

// Policy is one under test: how it is made for each function, and what is
// special about its wake-ups.
type Policy struct {
	Name string
	New  func(f *Function) predict.Policy
	// Start is how long a wake-up takes.
	Start time.Duration
	// Delay is what passes before the start begins of an instance for an arrival
	// at a time; nil: nothing.
	Delay func(at time.Duration) time.Duration
	// Frozen says that its memory is held while it sleeps.
	Frozen bool
	// Reference says that it is a line to compare with, not a rival.
	Reference bool
}

// Result is what a policy did with one function in the test half.
type Result struct {
	Function string
	Arrivals int
	Cold     int
	Warm     int
	Starts   int
	Idle     time.Duration // running without work
	Held     float64       // MB-seconds of memory without work
	Waits    []time.Duration
	Expected Coverage
}

// Coverage of prediction intervals.
type Coverage struct{ Judged, Covered int }

// expecter is a policy that says when the next arrival will come.
type expecter interface {
	Expected() (from, to time.Duration, ok bool)
}

// Sleep plays a function's arrivals to a policy that starts and stops one
// instance, which serves any number of requests at once.
func Sleep(f *Function, p *Policy) Result {
	s := &sleeper{f: f, p: p, policy: p.New(f), r: Result{Function: f.Name}}
	for _, at := range f.Arrivals {
		s.arrive(at)
	}
	if s.seen {
		s.pass(f.End)
	}
	if p.Frozen {
		s.r.Held = f.Memory * (f.End - f.Split - s.busy).Seconds()
	}
	return s.r
}

type sleeper struct {
	f      *Function
	p      *Policy
	policy predict.Policy
	plan   predict.Plan
	last   time.Duration
	ready  time.Duration // when the start is through that the last cold arrival began
	done   time.Duration // when all work is
	seen   bool
	busy   time.Duration // in the test half
	r      Result
}

// outcome of the present plan at a time.
func (s *sleeper) outcome(at time.Duration) predict.Outcome {
	if at < s.done { // still at work, or still being started for it
		return predict.Outcome{Cold: at < s.ready, Wait: max(0, s.ready-at)}
	}
	return s.plan.Outcome(at-s.last, s.done-s.last, s.p.Start)
}

// pass settles the time since the last arrival. Of an interval in which the
// split lies, only what comes after it counts.
func (s *sleeper) pass(at time.Duration) predict.Outcome {
	o := s.outcome(at)
	if at < s.f.Split {
		return o
	}
	idle, starts := o.Idle, o.Starts
	if s.last < s.f.Split {
		before := s.outcome(s.f.Split)
		idle -= before.Idle
		starts -= before.Starts
	}
	s.r.Idle += idle
	s.r.Held += idle.Seconds() * s.f.Memory
	s.r.Starts += starts
	return o
}

func (s *sleeper) arrive(at time.Duration) {
	o := predict.Outcome{Cold: true, Wait: s.p.Start, OnDemand: true}
	counted := at >= s.f.Split
	if s.seen {
		o = s.pass(at)
		s.expect(at, counted)
	}
	if o.OnDemand && s.p.Delay != nil {
		o.Wait += s.p.Delay(at)
	}
	if o.Cold {
		s.ready = at + o.Wait
	}
	s.policy.Observe(at, s.done)
	done := max(s.done, at+o.Wait+s.f.Work)
	if counted {
		s.count(o)
		s.busy += done - max(s.done, at)
	}
	s.done = done
	s.plan = s.policy.Plan()
	s.last, s.seen = at, true
}

// expect judges the interval in which the arrival was expected.
func (s *sleeper) expect(at time.Duration, counted bool) {
	e, ok := s.policy.(expecter)
	if !ok || !counted {
		return
	}
	if from, to, ok := e.Expected(); ok {
		s.r.Expected.Judged++
		if age := at - s.last; age >= from && age <= to {
			s.r.Expected.Covered++
		}
	}
}

func (s *sleeper) count(o predict.Outcome) {
	s.r.Arrivals++
	if !o.Cold {
		s.r.Warm++
		return
	}
	if o.OnDemand {
		s.r.Starts++
	}
	s.r.Cold++
	s.r.Waits = append(s.r.Waits, o.Wait)
}
