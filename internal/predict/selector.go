package predict

import "time"

const (
	// slowHalf and fastHalf are after how many arrivals a cost counts half.
	slowHalf, fastHalf = 64, 8
	// better a policy must be than the present one to take its place: a
	// difference of chance does not.
	better = 0.9
	// probation is how many arrivals must have been seen since the start, or since
	// a drift, before anything but the keep-alive decides.
	probation = 8
	// The function is no longer what it was when the present policy does this
	// much worse than its own record, and than the keep-alive.
	thanRecord, thanKeepAlive = 3, 1.5
)

// average with exponential forgetting, without bias towards 0 at the start.
type average struct{ sum, weight float64 }

func (a *average) add(v, forget float64) {
	a.sum += forget * (v - a.sum)
	a.weight += forget * (1 - a.weight)
}

func (a average) value() float64 {
	if a.weight == 0 {
		return 0
	}
	return a.sum / a.weight
}

// shadow is a policy that is only followed on paper.
type shadow struct {
	name       string
	policy     Policy
	plan       Plan
	slow, fast average // cost of an interval
}

// hazardShadow is the hazard rule among the shadows.
const hazardShadow = 2

// Selector runs several policies side by side and follows the one that would
// have cost least. Where it does badly of late, it falls back to the keep-alive.
type Selector struct {
	costs   Costs
	shadows [5]shadow // the first is the keep-alive
	current int
	last    time.Duration
	seen    bool
	since   int // arrivals since the start or a drift
	drifts  int
}

// forgetter is a policy that can leave behind what no longer holds.
type forgetter interface{ Forget() }

// NewSelector makes one with the keep-alive of lambda, the hybrid histogram,
// the hazard rule, the time of day, and the last value.
func NewSelector(c Costs) *Selector {
	s := &Selector{costs: c, shadows: [5]shadow{
		{name: "keep-alive", policy: KeepAlive(c.Lambda)},
		{name: "hybrid", policy: NewHybrid()},
		{name: "hazard", policy: NewHazard(c)},
		{name: "seasonal", policy: NewSeasonal(c)},
		{name: "last value", policy: NewLastValue(c)},
	}}
	return s
}

// Observe settles what each policy would have cost since the last arrival.
func (s *Selector) Observe(at, done time.Duration) {
	if s.seen {
		s.settle(at-s.last, done-s.last)
		s.choose()
	}
	for i := range s.shadows {
		s.shadows[i].policy.Observe(at, done)
		s.shadows[i].plan = s.shadows[i].policy.Plan()
	}
	s.last, s.seen = at, true
}

// halfLife is the weight of a new value such that it counts half after n others.
func halfLife(n int) float64 { return 0.69 / float64(n) }

func (s *Selector) settle(interval, done time.Duration) {
	s.since++
	for i := range s.shadows {
		sh := &s.shadows[i]
		cost := 0.0
		if interval > done {
			cost = s.costs.of(sh.plan.Outcome(interval, max(0, done), s.costs.Start))
		}
		sh.slow.add(cost, halfLife(slowHalf))
		sh.fast.add(cost, halfLife(fastHalf))
	}
}

func (s *Selector) choose() {
	now, safe := &s.shadows[s.current], &s.shadows[0]
	if s.current != 0 && now.fast.value() > max(thanRecord*now.slow.value(), thanKeepAlive*safe.fast.value()) {
		s.drift()
		return
	}
	if s.since < probation {
		return
	}
	best := s.current
	for i := range s.shadows {
		if s.shadows[i].slow.value() < s.shadows[best].slow.value() {
			best = i
		}
	}
	if s.shadows[best].slow.value() < better*now.slow.value() {
		s.current = best
	}
}

// drift falls back, and begins to learn anew.
func (s *Selector) drift() {
	s.current, s.since = 0, 0
	s.drifts++
	for i := range s.shadows {
		s.shadows[i].slow = average{}
		if f, ok := s.shadows[i].policy.(forgetter); ok {
			f.Forget()
		}
	}
}

// Plan is that of the policy which is followed.
func (s *Selector) Plan() Plan {
	if !s.seen {
		return Plan{}
	}
	return s.shadows[s.current].plan
}

// Current is the name of the policy that is followed.
func (s *Selector) Current() string { return s.shadows[s.current].name }

// Drifts is how often it fell back.
func (s *Selector) Drifts() int { return s.drifts }

// Expected is when the next arrival will come, as Hazard.Expected says it.
func (s *Selector) Expected() (from, to time.Duration, ok bool) {
	return s.shadows[hazardShadow].policy.(*Hazard).Expected()
}
