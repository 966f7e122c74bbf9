package predict

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Forever is later than any time.
const Forever = time.Duration(math.MaxInt64)

// maxWindows bounds a plan. Beyond it those windows become one that have the
// least time between them.
const maxWindows = 16

// Window is a time to be awake, since the last arrival. The instance is ready
// at From: it is started earlier.
type Window struct{ From, To time.Duration }

// Plan says when an instance is awake between two arrivals.
type Plan struct {
	// Keep is for how long it stays awake after the last work is done.
	Keep time.Duration
	// n of the windows are used. They are in order and do not touch.
	n       int
	windows [maxWindows]Window
}

// Windows are the times to be awake beside Keep.
func (p *Plan) Windows() []Window { return p.windows[:p.n] }

// PlanOf makes a plan of windows in any order. Windows between which sleeping
// would not be worth a start become one, and one that begins before a start
// would be through is Keep. What the slice holds afterwards is undefined.
func PlanOf(windows []Window, start time.Duration) (p Plan) {
	slices.SortFunc(windows, func(a, b Window) int { return cmp.Compare(a.From, b.From) })
	merged := windows[:0]
	for _, w := range windows {
		switch last := len(merged) - 1; {
		case w.To <= w.From:
		case last >= 0 && w.From <= merged[last].To+start:
			merged[last].To = max(merged[last].To, w.To)
		default:
			merged = append(merged, w)
		}
	}
	if len(merged) > 0 && merged[0].From <= start {
		p.Keep = merged[0].To
		merged = merged[1:]
	}
	for len(merged) > maxWindows {
		merged = joinClosest(merged)
	}
	p.n = copy(p.windows[:], merged)
	return p
}

// joinClosest makes one of the two windows that have the least time between them.
func joinClosest(ws []Window) []Window {
	at, least := 1, Forever
	for i := 1; i < len(ws); i++ {
		if gap := ws[i].From - ws[i-1].To; gap < least {
			at, least = i, gap
		}
	}
	ws[at-1].To = ws[at].To
	return slices.Delete(ws, at, at+1)
}

// awake is when the plan has the instance running, in order: starts included,
// as ages since the last arrival, whose work is done at age done.
func (p *Plan) awake(done, start time.Duration, yield func(from, ready, to time.Duration) bool) {
	from, ready, to := time.Duration(0), time.Duration(0), sum(done, p.Keep)
	for _, w := range p.Windows() {
		if w.From-start <= to { // it would be started while it runs
			to = max(to, w.To)
			continue
		}
		if !yield(from, ready, to) {
			return
		}
		from, ready, to = w.From-start, w.From, w.To
	}
	yield(from, ready, to)
}

// sum of two times, of which Forever is larger than any.
func sum(a, b time.Duration) time.Duration {
	if a > Forever-b {
		return Forever
	}
	return a + b
}

// At is whether the instance runs or is being started at an age since the last
// arrival, whose work is done at age done, and until which age that holds.
// start is as in Costs.
func (p *Plan) At(age, done, start time.Duration) (awake bool, until time.Duration) {
	until = Forever
	p.awake(done, start, func(from, _, to time.Duration) bool {
		switch {
		case age < from:
			until = from
		case age < to:
			awake, until = true, to
		default:
			return true
		}
		return false
	})
	return awake, until
}

// Outcome is what a plan has led to when the next arrival comes.
type Outcome struct {
	// Cold says that no instance was ready; then the arrival waits.
	Cold bool
	Wait time.Duration
	// Idle is the time for which an instance ran, or was being started by the
	// plan, without work.
	Idle time.Duration
	// Starts are those by the plan. OnDemand says that the arrival itself began
	// one more.
	Starts   int
	OnDemand bool
}

// Outcome at age next, when the next arrival comes.
func (p *Plan) Outcome(next, done, start time.Duration) Outcome {
	o := Outcome{Cold: true, Wait: start, OnDemand: true}
	p.awake(done, start, func(from, ready, to time.Duration) bool {
		if from > next {
			return false
		}
		if from > 0 {
			o.Starts++
		}
		o.Idle += max(0, min(to, next)-max(from, done))
		if next <= to {
			o.Wait = max(0, ready-next)
			o.Cold, o.OnDemand = o.Wait > 0, false
			return false
		}
		return true
	})
	return o
}
