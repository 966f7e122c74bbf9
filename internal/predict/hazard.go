package predict

import (
	"math"
	"time"
)

// Hazard is awake in a bin of the time since the last arrival if and only if
//
//	P(arrival in the bin | none so far) × lambda > width of the bin.
//
// The bins are not fixed: each run of a few neighbours among the remembered
// intervals is one, so that they are narrow where arrivals are regular.
type Hazard struct {
	costs     Costs
	last      time.Duration
	seen      bool
	intervals sample
	lower     adaptive
	upper     adaptive
}

// NewHazard makes one that knows nothing yet.
func NewHazard(c Costs) *Hazard {
	return &Hazard{costs: c, lower: adaptive(expectedMiss / 2), upper: adaptive(expectedMiss / 2)}
}

// Observe learns an interval.
func (h *Hazard) Observe(at, _ time.Duration) {
	if h.seen {
		interval := at - h.last
		if from, to, ok := h.Expected(); ok {
			h.lower.correct(interval < from, expectedMiss/2)
			h.upper.correct(interval > to, expectedMiss/2)
		}
		h.intervals.add(interval.Seconds())
	}
	h.last, h.seen = at, true
}

// expectedMiss is the share of arrivals that Expected may miss.
const expectedMiss = 0.1

// Expected is when the next arrival will come, since the last one: nine times
// in ten, whatever the process, because its width follows its misses. It is
// not ok before there is anything to go by.
func (h *Hazard) Expected() (from, to time.Duration, ok bool) {
	if h.intervals.n < enough {
		return 0, 0, false
	}
	// From below, the sample is looked at as from above: one value more.
	lower := -1
	if h.lower > 0 {
		lower = int(float64(h.lower)*float64(h.intervals.n+1)) - 1
	}
	if lower >= 0 {
		from = seconds(h.intervals.sorted[min(lower, h.intervals.n-1)])
	}
	return from, max(from, seconds(h.intervals.quantile(1-float64(h.upper)))), true
}

// Plan is KeepAlive's until there are intervals to learn from.
func (h *Hazard) Plan() Plan {
	if h.intervals.n < enough {
		return KeepAlive(h.costs.Lambda).Plan()
	}
	return PlanOf(worthwhile(&h.intervals, 0, h.costs), h.costs.Start)
}

// Forget keeps only what was seen last.
func (h *Hazard) Forget() { h.intervals.trim(enough) }

// enough intervals to begin to believe in them.
const enough = 4

// LastValue expects the last interval again, more or less: Hazard's rule for
// by how much intervals differ from the one before. It knows alternating and
// slowly changing ones.
type LastValue struct {
	costs       Costs
	last        time.Duration
	lastSeconds float64
	arrivals    int
	differences sample
}

// NewLastValue makes one that knows nothing yet.
func NewLastValue(c Costs) *LastValue { return &LastValue{costs: c} }

// Observe learns a difference.
func (l *LastValue) Observe(at, _ time.Duration) {
	interval := (at - l.last).Seconds()
	if l.arrivals >= 2 {
		l.differences.add(interval - l.lastSeconds)
	}
	l.arrivals = min(l.arrivals+1, 2)
	l.last, l.lastSeconds = at, interval
}

// Plan is KeepAlive's until there are differences to learn from.
func (l *LastValue) Plan() Plan {
	if l.differences.n < enough {
		return KeepAlive(l.costs.Lambda).Plan()
	}
	return PlanOf(worthwhile(&l.differences, l.lastSeconds, l.costs), l.costs.Start)
}

// Forget keeps only what was seen last.
func (l *LastValue) Forget() { l.differences.trim(enough) }

// worthwhile are the windows for which the rule holds if the next interval is
// shift plus a value of the sample.
func worthwhile(s *sample, shift float64, c Costs) []Window {
	values := s.values()
	n := float64(len(values))
	run := max(1, int(math.Sqrt(n)/2)) // neighbours: their spacing is known to one in the root of it
	lambda, start := c.Lambda.Seconds(), c.Start.Seconds()
	windows := make([]Window, 0, maxWindows)
	for i := 0; i+run < len(values); i++ {
		from, to := values[i]+shift, values[i+run]+shift
		// As far as the values seen are apart, and not less than a part of what a
		// start costs in any case.
		margin := max((to-from)/float64(run), start/2)
		from, to = max(0, from-margin), to+margin
		// Between any two neighbours the next value lies with a probability of
		// 1/(n+1).
		alive := (n - float64(i)) / (n + 1)
		if float64(run+1)/(n+1)/alive*lambda > to-from && to > 0 {
			windows = join(windows, Window{seconds(from), seconds(to)})
		}
	}
	return windows
}

// join adds a window to others, and makes one of it and the last if they overlap.
func join(ws []Window, w Window) []Window {
	if last := len(ws) - 1; last >= 0 && w.From <= ws[last].To {
		ws[last] = Window{min(ws[last].From, w.From), max(ws[last].To, w.To)}
		return ws
	}
	return append(ws, w)
}
