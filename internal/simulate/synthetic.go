package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	syntheticFunctions = 20
	syntheticDays      = 6
	day                = 24 * time.Hour
)

// Synthetic are loads as devices make them, decided by the seed.
func Synthetic(seed uint64) []*Function {
	var all []*Function
	add := func(class string, stream uint64, make func(i int, r *rand.Rand) []time.Duration) {
		for i := range syntheticFunctions {
			f := &Function{Name: fmt.Sprintf("%s %d", class, i), Class: class, Work: 10 * time.Millisecond, Memory: defaultMemory,
				Split: syntheticDays * day / 2, End: syntheticDays * day}
			f.Arrivals = make(i, rand.New(rand.NewPCG(seed, stream<<32+uint64(i))))
			slices.Sort(f.Arrivals)
			all = append(all, f)
		}
	}
	add("periodic", 1, periodic)
	add("event-driven", 2, eventDriven)
	bursts := rand.New(rand.NewPCG(seed, 3<<32-1))
	common := poisson(bursts, func(time.Duration) float64 { return 1. / 7200 }, 1./7200)
	add("synchronised bursts", 3, func(_ int, r *rand.Rand) []time.Duration { return burst(common, r) })
	add("diurnal", 4, diurnal)
	add("change of period", 5, changing)
	return all
}

// between two values, evenly on a logarithmic scale, seconds.
func between(low, high float64, r *rand.Rand) float64 {
	return low * math.Pow(high/low, r.Float64())
}

// ticks are those of a device that sends every period, seconds, of which each is
// off by jitter times it, and loses one message in fifty.
func ticks(from, to time.Duration, period, jitter float64, r *rand.Rand) (at []time.Duration) {
	for t := from.Seconds() + period*r.Float64(); t < to.Seconds(); t += period {
		if off := t + jitter*period*r.NormFloat64(); r.IntN(50) > 0 && off > from.Seconds() && off < to.Seconds() {
			at = append(at, time.Duration(off*float64(time.Second)))
		}
	}
	return at
}

func periodic(_ int, r *rand.Rand) []time.Duration {
	return ticks(0, syntheticDays*day, between(30, 7200, r), between(0.0005, 0.1, r), r)
}

// changing devices get another period at a random moment of the test half.
func changing(_ int, r *rand.Rand) []time.Duration {
	at := syntheticDays*day/2 + time.Duration(r.Int64N(int64(syntheticDays*day/2)))
	jitter := between(0.0005, 0.02, r)
	return append(ticks(0, at, between(30, 7200, r), jitter, r), ticks(at, syntheticDays*day, between(30, 7200, r), jitter, r)...)
}

// poisson are the events of a process whose rate per second changes with time
// and is most at most.
func poisson(r *rand.Rand, rate func(time.Duration) float64, most float64) (at []time.Duration) {
	for t := 0.0; ; {
		t += r.ExpFloat64() / most
		d := time.Duration(t * float64(time.Second))
		if d >= syntheticDays*day {
			return at
		}
		if r.Float64()*most < rate(d) {
			at = append(at, d)
		}
	}
}

// eventDriven are events of which every other function's come in flurries.
func eventDriven(i int, r *rand.Rand) []time.Duration {
	rate := 1 / between(30, 7200, r)
	at := poisson(r, func(time.Duration) float64 { return rate }, rate)
	if i%2 == 0 {
		return at
	}
	var all []time.Duration
	for _, t := range at {
		for n := 1 + r.IntN(5); n > 0 && t < syntheticDays*day; n-- {
			all = append(all, t)
			t += time.Duration(20 * r.ExpFloat64() * float64(time.Second))
		}
	}
	return all
}

// burst: after each common event, such as an outage that ends, a fleet of
// devices sends within seconds.
func burst(common []time.Duration, r *rand.Rand) (at []time.Duration) {
	for _, t := range common {
		for range 20 + r.IntN(60) {
			if d := t + time.Duration(2*r.ExpFloat64()*float64(time.Second)); d < syntheticDays*day {
				at = append(at, d)
			}
		}
	}
	return at
}

// diurnal events are frequent for some hours of the day and rare else.
func diurnal(_ int, r *rand.Rand) []time.Duration {
	most := 1 / between(60, 1200, r)
	begin, length := day.Seconds()*r.Float64(), 3600*(4+8*r.Float64())
	return poisson(r, func(t time.Duration) float64 {
		if math.Mod(t.Seconds()-begin+2*day.Seconds(), day.Seconds()) < length {
			return most
		}
		return most / 50
	}, most)
}

// SyntheticConcurrent are loads that one instance cannot carry: fleets whose
// messages take half a second each, over six hours.
func SyntheticConcurrent(seed uint64) (all []*Function) {
	const span = 6 * time.Hour
	for i, load := range []struct {
		name string
		rate func(t time.Duration) float64 // messages per second, at most 40
	}{
		{"steady fleet", func(time.Duration) float64 { return 20 }},
		{"fleet by day", func(t time.Duration) float64 { return 20 + 18*math.Sin(2*math.Pi*t.Hours()) }},
		{"fleet with bursts", func(t time.Duration) float64 {
			if t%(7*time.Minute) < 15*time.Second {
				return 40
			}
			return 4
		}},
	} {
		r := rand.New(rand.NewPCG(seed, uint64(6<<32+i)))
		f := &Function{Name: load.name, Class: load.name, Work: 500 * time.Millisecond, Memory: defaultMemory, Split: span / 2, End: span}
		for t := 0.0; ; {
			t += r.ExpFloat64() / 40
			at := time.Duration(t * float64(time.Second))
			if at >= span {
				break
			}
			if r.Float64()*40 < load.rate(at) {
				f.Calls = append(f.Calls, at)
			}
		}
		all = append(all, f)
	}
	return all
}
