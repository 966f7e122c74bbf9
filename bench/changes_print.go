package main

import (
	"fmt"
	"slices"
	"time"
)

// half is a half of a round: without changes of pods, or with them.
type half struct {
	steady, moving []time.Duration // what acknowledgements took: of functions whose pods stay, and of the others
	spent          time.Duration   // the loader's processor time
}

// round is one after the other: [0] without changes, [1] with them.
type round [2]half

// late is how long an acknowledgement may take without being counted as delayed.
const late = 10 * time.Millisecond

// print says how long things took.
func (x *changes) print() {
	w := x.c.App.Writer
	fmt.Fprintf(w, "%d pods, %d routes, %d rounds of %s without and %s with changes, %d a second; %d changes\n",
		x.steady*steadyPods+x.moving, x.c.Int("routes"), len(x.rounds), x.c.Duration("duration"), x.c.Duration("duration"), x.moving, len(x.first))
	fmt.Fprintf(w, "from naming a pod to its first message: %s\n", quantiles(x.first))
	steady := func(p half) []time.Duration { return p.steady }
	moving := func(p half) []time.Duration { return p.moving }
	fmt.Fprintf(w, "acknowledgements of functions whose pods stay, without changes: %s\n", quantiles(x.all(0, steady)))
	fmt.Fprintf(w, "                                               and with them: %s\n", quantiles(x.all(1, steady)))
	fmt.Fprintf(w, "what changes add to their p99.9, by round: %s\n", x.paired(func(p half) float64 {
		return float64(quantile(p.steady, 0.999)) / float64(time.Millisecond)
	}, "ms"))
	fmt.Fprintf(w, "of them later than %s: %s without changes, %s with them\n", late, delayed(x.all(0, steady)), delayed(x.all(1, steady)))
	fmt.Fprintf(w, "acknowledgements of functions whose pods are replaced, without changes: %s\n", quantiles(x.all(0, moving)))
	fmt.Fprintf(w, "                                                       and with them: %s\n", quantiles(x.all(1, moving)))
	perChange := float64(len(x.first)) / float64(max(len(x.rounds), 1)) * float64(time.Millisecond)
	fmt.Fprintf(w, "the loader's processor time for a change, by round: %s\n", x.paired(func(p half) float64 { return float64(p.spent) / max(perChange, 1) }, "ms"))
}

// all are what acknowledgements took in all rounds, without changes (0) or with them (1).
func (x *changes) all(changing int, of func(half) []time.Duration) (all []time.Duration) {
	for _, r := range x.rounds {
		all = append(all, of(r[changing])...)
	}
	return all
}

// paired is how much more a figure was with changes than without in the same round: the median with its extremes.
func (x *changes) paired(figure func(half) float64, unit string) string {
	s := spreadOf(x.rounds, func(r round) float64 { return figure(r[1]) - figure(r[0]) })
	return fmt.Sprintf("%.2f %s (%.2f to %.2f)", s.median, unit, s.low, s.high)
}

// delayed says how many took long.
func delayed(took []time.Duration) string {
	n := 0
	for _, d := range took {
		if d > late {
			n++
		}
	}
	return fmt.Sprintf("%d of %d", n, len(took))
}

// quantile is how long things took at most, but for the longest of them; 0: there are none.
func quantile(took []time.Duration, q float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// quantiles says how long things took.
func quantiles(took []time.Duration) string {
	if len(took) == 0 {
		return "none"
	}
	at := func(q float64) time.Duration { return quantile(took, q).Round(10 * time.Microsecond) }
	return fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, longest %s", at(0.5), at(0.99), at(0.999), at(1))
}
