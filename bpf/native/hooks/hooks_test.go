//go:build cgo

package hooks

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// effortFactor is how many times the usual number of schedules is tried.
func effortFactor(t *testing.T) int {
	s := os.Getenv("EPROXY_INTERLEAVE_FACTOR")
	if s == "" {
		return 1
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("EPROXY_INTERLEAVE_FACTOR: %q is not a positive number", s)
	}
	return n
}

// TestInterleavings forces every interleaving of the scenarios, up to the effort.
func TestInterleavings(t *testing.T) {
	m := mustBuild(t)
	n := effortFactor(t)
	ran, runs, reasons := 0, 0, map[int]int{}
	all := slices.Concat(scenarios, parkScenarios, sleepScenarios, keepScenarios, copyScenarios, aliasScenarios)
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) {
			began := time.Now()
			e := newExplorer(m, s)
			if err := e.all(effort{pairs: n * fullEffort.pairs, random: n * fullEffort.random}); err != nil {
				t.Fatal(err)
			}
			ran++
			runs += e.runs
			for r, n := range e.reasons {
				reasons[r] += n
			}
			t.Logf("%d interleavings, %d outcomes, %d overdue, %v", e.runs, len(e.seen), e.overdue, time.Since(began))
		})
	}
	t.Logf("%d interleavings of %d scenarios, reasons %v", runs, len(all), reasons)
	if ran < len(all) {
		return // failed, or not all were asked for
	}
	for _, r := range mustHappen {
		if reasons[r] == 0 {
			t.Errorf("reason %d never occurred", r)
		}
	}
}
