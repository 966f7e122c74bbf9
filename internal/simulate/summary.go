package simulate

import (
	"cmp"
	"math"
	"slices"
	"time"

	"eproxy/internal/predict"
)

// ranked is how many arrivals a function must have in the test half for its own
// cold rate to count among functions': of one arrival it is nothing or all.
const ranked = 10

// Summary is what a policy did with all functions of a class.
type Summary struct {
	Class, Policy string
	Reference     bool
	Functions     int
	Arrivals      int
	Cold          int
	Starts        int
	Idle          time.Duration
	Held          float64 // MB-seconds
	// P75, P90 and Worst are cold rates of functions with enough arrivals.
	P75, P90, Worst float64
	// Wait is what 99 of 100 arrivals stay below.
	Wait     time.Duration
	Expected Coverage
	// Cost is idle time, starts, and lambda for each cold start of the usual
	// length, in seconds; one that takes less is worth less.
	Cost float64
}

// ColdRate is the share of arrivals that waited.
func (s *Summary) ColdRate() float64 { return float64(s.Cold) / float64(max(1, s.Arrivals)) }

// Summarise adds up results.
func Summarise(class, policy string, results []Result, c predict.Costs) *Summary {
	s := &Summary{Class: class, Policy: policy, Functions: len(results)}
	var rates []float64
	var waits []time.Duration
	for _, r := range results {
		s.Arrivals += r.Arrivals
		s.Cold += r.Cold
		s.Starts += r.Starts
		s.Idle += r.Idle
		s.Held += r.Held
		s.Expected.Judged += r.Expected.Judged
		s.Expected.Covered += r.Expected.Covered
		waits = append(waits, r.Waits...)
		if r.Arrivals >= ranked {
			rates = append(rates, float64(r.Cold)/float64(r.Arrivals))
		}
	}
	slices.Sort(rates)
	s.P75, s.P90, s.Worst = rank(rates, 0.75), rank(rates, 0.9), rank(rates, 1)
	slices.Sort(waits)
	if i := int(math.Ceil(0.99*float64(s.Arrivals))) - 1 - (s.Arrivals - len(waits)); i >= 0 && i < len(waits) {
		s.Wait = waits[i]
	}
	s.Cost = s.Idle.Seconds() + float64(s.Starts)*c.Start.Seconds()
	for _, w := range waits {
		s.Cost += c.Lambda.Seconds() * w.Seconds() / c.Start.Seconds()
	}
	return s
}

// rank is the value that a share q of the sorted values does not exceed.
func rank[T cmp.Ordered](sorted []T, q float64) (v T) {
	if len(sorted) == 0 {
		return v
	}
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// Dominators are the policies of the same class that have both fewer cold starts
// and less idle time than s.
func (s *Summary) Dominators(all []*Summary) (names []string) {
	for _, o := range all {
		if o.Class == s.Class && !o.Reference && o.ColdRate() < s.ColdRate() && o.Idle < s.Idle {
			names = append(names, o.Policy)
		}
	}
	return names
}
