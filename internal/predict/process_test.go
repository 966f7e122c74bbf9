package predict

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"
)

// tally is what a policy did with a process.
type tally struct {
	arrivals, cold, starts int
	idle                   time.Duration
	cost                   float64
}

// play gives a policy arrivals without work, and counts from the given one on.
func play(p Policy, c Costs, arrivals []time.Duration, from int) (t tally) {
	for i, at := range arrivals {
		if i > 0 {
			plan := p.Plan()
			o := plan.Outcome(at-arrivals[i-1], 0, c.Start)
			if i >= from {
				t.arrivals++
				t.idle += o.Idle
				t.starts += o.Starts
				t.cost += c.of(o)
				if o.Cold {
					t.cold++
				}
			}
		}
		done := time.Duration(0)
		if i > 0 {
			done = arrivals[i-1]
		}
		p.Observe(at, done)
	}
	return t
}

// process has n intervals, seconds, as f gives them.
func process(n int, f func(i int) float64) []time.Duration {
	at := []time.Duration{0}
	for i := range n {
		at = append(at, at[i]+time.Duration(f(i)*float64(time.Second)))
	}
	return at
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

var costs = Costs{Lambda: 10 * time.Minute, Start: start}

// An exact period costs one start and next to no idle time for each arrival.
func TestPeriodicIsForeseen(t *testing.T) {
	at := process(300, func(int) float64 { return 3600 })
	for name, p := range map[string]Policy{"hazard": NewHazard(costs), "last value": NewLastValue(costs), "selector": NewSelector(costs)} {
		got := play(p, costs, at, 50)
		if got.cold != 0 || got.starts != got.arrivals || got.idle > time.Duration(got.arrivals)*2*start {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := play(KeepAlive(costs.Lambda), costs, at, 50); got.cold != got.arrivals || got.idle != time.Duration(got.arrivals)*costs.Lambda {
		t.Errorf("keep-alive: %+v", got)
	}
}

// With jitter, what is awake is about as wide as the jitter.
func TestJitterWidensTheWindow(t *testing.T) {
	r := random(1)
	at := process(1000, func(int) float64 { return 3600 + 20*r.Float64() })
	got := play(NewHazard(costs), costs, at, 300)
	if rate := float64(got.cold) / float64(got.arrivals); rate > 0.03 {
		t.Errorf("%.3f cold", rate)
	}
	if idle := got.idle.Seconds() / float64(got.arrivals); idle < 8 || idle > 20 {
		t.Errorf("idle for %.1f s an arrival, the jitter's mean is 10", idle)
	}
}

// What is off by less than a start takes costs nothing more to catch.
func TestSmallJitterIsNeverCold(t *testing.T) {
	r := random(12)
	at := process(600, func(int) float64 { return 3600 + 0.4*r.Float64() })
	got := play(NewHazard(costs), costs, at, 20)
	if got.cold != 0 {
		t.Errorf("%+v", got)
	}
}

// A Poisson process has the same hazard at all times: it is worth being awake
// always if rate × lambda > 1, and never if less.
func TestPoissonIsAllOrNothing(t *testing.T) {
	for _, c := range []struct {
		mean      float64 // seconds
		low, high float64 // share of arrivals that are cold
	}{
		{mean: costs.Lambda.Seconds() / 6, low: 0, high: 0.05},
		{mean: costs.Lambda.Seconds() * 6, low: 0.9, high: 1},
	} {
		r := random(2)
		at := process(3000, func(int) float64 { return c.mean * r.ExpFloat64() })
		got := play(NewHazard(costs), costs, at, 500)
		if rate := float64(got.cold) / float64(got.arrivals); rate < c.low || rate > c.high {
			t.Errorf("mean of %v s: %.3f cold, want %v to %v", c.mean, rate, c.low, c.high)
		}
	}
}

// Two periods by turns: only who looks at the last interval's place in the
// order of things is exact, but both know the two places.
func TestTwoPeriodsAreTwoWindows(t *testing.T) {
	at := process(400, func(i int) float64 { return []float64{900, 5400}[i%2] })
	h := NewHazard(costs)
	if got := play(h, costs, at, 50); got.cold != 0 {
		t.Errorf("hazard: %+v", got)
	}
	if plan := h.Plan(); len(plan.Windows()) != 2 || plan.Keep != 0 {
		t.Errorf("the plan is %+v", plan)
	}
	l := NewLastValue(costs)
	if got := play(l, costs, at, 50); got.cold != 0 {
		t.Errorf("last value: %+v", got)
	}
}

// Within a burst it stays, between bursts it does not.
func TestBurstsAreKeptThrough(t *testing.T) {
	r := random(3)
	at := process(4000, func(i int) float64 {
		if i%40 == 39 {
			return 7200 * (1 + 9*r.Float64())
		}
		return r.ExpFloat64()
	})
	got := play(NewHazard(costs), costs, at, 800)
	bursts := got.arrivals / 40
	if got.cold < bursts || got.cold > bursts*3/2 || got.idle > time.Duration(bursts)*2*time.Minute {
		t.Errorf("%d bursts: %+v", bursts, got)
	}
}

// What happens only by day is waited for only by day.
func TestTimeOfDayIsLearnt(t *testing.T) {
	r := random(4)
	var at []time.Duration
	for d := range 20 {
		for s := 0.0; s < 8*3600; s += 120 * r.ExpFloat64() {
			at = append(at, time.Duration(d)*day+9*time.Hour+time.Duration(s*float64(time.Second)))
		}
	}
	s := NewSeasonal(costs)
	got := play(s, costs, at, len(at)/2)
	if rate := float64(got.cold) / float64(got.arrivals); rate > 0.01 {
		t.Errorf("%.3f cold", rate)
	}
	if perDay := got.idle / 10; perDay < 7*time.Hour || perDay > 9*time.Hour {
		t.Errorf("idle for %v a day of which eight hours are busy", perDay)
	}
}

// The histogram of Shahrad et al.: from the head to the tail, with margins; as
// wide as itself where it has no peaks; by the mean where it does not reach.
func TestHybridIsThePapers(t *testing.T) {
	for name, c := range map[string]struct {
		interval func(i int) float64
		keep     time.Duration
		windows  []Window
	}{
		"peak at 30 min": {func(int) float64 { return 30.5 * 60 }, 0, []Window{{27 * time.Minute, 34*time.Minute + 6*time.Second}}},
		"rarely longer":  {func(i int) float64 { return []float64{30.5, 100.5}[min(i%40, 1)^1] * 60 }, 0, []Window{{27 * time.Minute, 111*time.Minute + 6*time.Second}}},
		"within minutes": {func(int) float64 { return 30 }, 66 * time.Second, nil},
		"no peaks":       {func(i int) float64 { return float64(i%240)*60 + 30 }, 4 * time.Hour, nil},
		"beyond 4 h":     {func(int) float64 { return 10 * 3600 }, 0, []Window{{8*time.Hour + 30*time.Minute, 11*time.Hour + 30*time.Minute}}},
	} {
		h := NewHybrid()
		play(h, costs, process(480, c.interval), 0)
		p := h.Plan()
		if p.Keep != c.keep || len(p.Windows()) != len(c.windows) {
			t.Errorf("%s: %+v", name, p)
			continue
		}
		for i, w := range p.Windows() {
			if (w.From-c.windows[i].From).Abs() > time.Second || (w.To-c.windows[i].To).Abs() > time.Second {
				t.Errorf("%s: %v, want %v", name, w, c.windows[i])
			}
		}
	}
}

// Of each process the best is chosen, and not for chance.
func TestSelectorFollowsTheCheapest(t *testing.T) {
	for name, c := range map[string]struct {
		interval func(r *rand.Rand, i int) float64
		want     map[string]bool
	}{
		"periodic":    {func(_ *rand.Rand, i int) float64 { return 3600 }, map[string]bool{"hazard": true, "last value": true}},
		"ever longer": {func(_ *rand.Rand, i int) float64 { return 900 + 20*float64(i) }, map[string]bool{"last value": true}},
	} {
		r := random(5)
		s := NewSelector(costs)
		play(s, costs, process(220, func(i int) float64 { return c.interval(r, i) }), 0)
		if !c.want[s.Current()] {
			t.Errorf("%s: follows %s", name, s.Current())
		}
	}
	// Two that are as good: the choice does not go to and fro.
	s := NewSelector(costs)
	r := random(6)
	changes, last := 0, s.Current()
	done := time.Duration(0)
	for _, at := range process(2000, func(int) float64 { return costs.Lambda.Seconds() * r.ExpFloat64() }) {
		s.Observe(at, done)
		done = at
		if s.Current() != last {
			changes++
			last = s.Current()
		}
	}
	if changes > 5 {
		t.Errorf("%d changes of mind", changes)
	}
}

// When a regular function becomes an irregular one, the keep-alive takes over
// within some arrivals; when it becomes regular again, that is learnt.
func TestDriftFallsBack(t *testing.T) {
	const n = 300
	r := random(11)
	at := process(3*n, func(i int) float64 {
		return []float64{400, 300 * r.Float64(), 1000}[i/n]
	})
	s := NewSelector(costs)
	fell := 0
	for i, a := range at {
		s.Observe(a, at[max(0, i-1)])
		if i <= n && s.Drifts() != 0 {
			t.Fatal("a drift where there was none")
		}
		if fell == 0 && s.Drifts() > 0 {
			fell = i - n
			if s.Current() != "keep-alive" {
				t.Errorf("falls back to %s", s.Current())
			}
			if n := s.shadows[hazardShadow].policy.(*Hazard).intervals.n; n > enough+1 {
				t.Errorf("%d intervals are remembered", n)
			}
		}
	}
	if fell == 0 || fell > 30 {
		t.Errorf("fell back after %d arrivals", fell)
	}
	if got := play(NewSelector(costs), costs, at, 2*n+100); got.cold != 0 || got.idle > time.Duration(got.arrivals)*time.Minute {
		t.Errorf("the new period is not learnt: %+v", got)
	}
}

// Whatever comes, the keep-alive of lambda costs at most twice what is possible,
// and starts.
func TestKeepAliveOfLambdaIsSafe(t *testing.T) {
	r := random(7)
	at := process(3000, func(int) float64 { return math.Exp(r.NormFloat64()*3 + 5) })
	got := play(KeepAlive(costs.Lambda), costs, at, 1)
	best := 0.0
	for i := range at[1:] {
		best += min((at[i+1] - at[i]).Seconds(), costs.Lambda.Seconds()+start.Seconds())
	}
	if got.cost > 2*best {
		t.Errorf("cost %.0f, possible with keep or stop %.0f", got.cost, best)
	}
}

// Nine arrivals in ten come when they are expected, also when the process
// changes all the time.
func TestExpectedCoversNineInTen(t *testing.T) {
	r := random(8)
	for name, f := range map[string]func(i int) float64{
		"constant":    func(int) float64 { return 60 },
		"exponential": func(int) float64 { return 60 * r.ExpFloat64() },
		"growing":     func(i int) float64 { return (60 + float64(i)/10) * (0.5 + r.Float64()) },
		"switching":   func(i int) float64 { return []float64{10, 1000}[i/100%2] * (0.5 + r.Float64()) },
	} {
		h := NewHazard(costs)
		judged, covered, last := 0, 0, time.Duration(0)
		for _, at := range process(4000, f) {
			if from, to, ok := h.Expected(); ok {
				judged++
				if from <= at-last && at-last <= to {
					covered++
				}
			}
			h.Observe(at, at)
			last = at
		}
		if share := float64(covered) / float64(judged); share < 0.88 || name != "constant" && share > 0.92 {
			t.Errorf("%s: %.3f", name, share)
		}
	}
}

// size of all that a function costs, by what it points to.
func TestMemoryPerFunction(t *testing.T) {
	selector := unsafe.Sizeof(Selector{}) + unsafe.Sizeof(Hazard{}) + unsafe.Sizeof(LastValue{}) + unsafe.Sizeof(Seasonal{}) + unsafe.Sizeof(Hybrid{})
	concurrency := unsafe.Sizeof(Concurrency{}) + unsafe.Sizeof(KPA{})
	t.Logf("selector %d bytes, forecast of concurrency and KPA %d", selector, concurrency)
	if selector+concurrency > 16<<10 {
		t.Errorf("%d bytes for a function", selector+concurrency)
	}
	// And nothing grows.
	s := NewSelector(costs)
	r := random(9)
	at := time.Duration(0)
	observe := func() {
		done := at
		at += time.Duration(r.ExpFloat64() * float64(time.Minute))
		s.Observe(at, done)
	}
	for range 2 * intervalsKept {
		observe()
	}
	if n := testing.AllocsPerRun(100, observe); n > 30 {
		t.Errorf("%.0f allocations an arrival", n)
	}
}

func TestCostsAreChecked(t *testing.T) {
	for _, c := range []Costs{{-1, 1}, {1, -1}, {0, 0}, {Forever, 1}, {1, Forever}} {
		if c.Check() == nil {
			t.Errorf("%+v passes", c)
		}
	}
	if err := (Costs{DefaultLambda, time.Second}).Check(); err != nil {
		t.Error(err)
	}
}

// BenchmarkObserve is what an arrival costs, decisions of all policies included.
func BenchmarkObserve(b *testing.B) {
	for name, f := range map[string]func(r *rand.Rand) float64{
		"regular":   func(r *rand.Rand) float64 { return 600 + r.Float64() },
		"irregular": func(r *rand.Rand) float64 { return math.Exp(5 + 3*r.NormFloat64()) },
	} {
		b.Run(name, func(b *testing.B) {
			r := random(10)
			s := NewSelector(costs)
			at := time.Duration(0)
			observe := func() {
				done := at
				at += time.Duration(f(r) * float64(time.Second))
				s.Observe(at, done)
			}
			for range 2 * intervalsKept {
				observe()
			}
			b.ResetTimer()
			for range b.N {
				observe()
			}
		})
	}
}
