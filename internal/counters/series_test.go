package counters

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestSeries plays random configurations: a label set keeps its index as long as
// it has one, no two have the same, and only what is neither wanted nor busy
// loses it, the oldest first.
func TestSeries(t *testing.T) {
	const size = 8
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	s := NewSeries[string](size)
	has := map[string]uint32{}      // label sets that have an index
	since := map[string]time.Time{} // those that are retired
	clock := time.Unix(0, 0)
	for step := range 20000 {
		clock = clock.Add(time.Second)
		want := map[string]bool{}
		for range 1 + rng.IntN(size/2) {
			want[fmt.Sprint("label ", rng.IntN(3*size))] = true
		}
		busy := map[uint32]bool{}
		if rng.IntN(2) == 0 {
			busy[uint32(rng.IntN(size))] = true
		}
		need := s.Shortage(want)
		victims, _ := s.Victims(need, want, busy)
		for _, i := range victims {
			l, ok := s.Labels(i)
			at, retired := since[l]
			if !ok || has[l] != i || !retired || want[l] || busy[i] {
				t.Fatalf("seed %d, step %d: index %d of %q is taken away: retired %v, wanted %v, busy %v", seed, step, i, l, retired, want[l], busy[i])
			}
			for other, earlier := range since {
				if earlier.Before(at) && !want[other] && !busy[has[other]] && !slices.Contains(victims, has[other]) {
					t.Fatalf("seed %d, step %d: %q is taken from before %q, which is older", seed, step, l, other)
				}
			}
		}
		if len(victims) < need {
			continue // the reload is refused
		}
		for _, i := range victims {
			l, _ := s.Labels(i)
			delete(has, l)
			delete(since, l)
		}
		s.Free(victims)
		for l := range want {
			i, fresh, ok := s.Index(l)
			old, had := has[l]
			if !ok || fresh == had || had && old != i {
				t.Fatalf("seed %d, step %d: %q gets %d (fresh %v, ok %v), had %v %d", seed, step, l, i, fresh, ok, had, old)
			}
			for other, j := range has {
				if j == i && other != l {
					t.Fatalf("seed %d, step %d: %q and %q share %d", seed, step, l, other, i)
				}
			}
			has[l] = i
		}
		if rng.IntN(2) == 0 {
			s.Retain(want, clock)
		} else {
			var come, gone []string
			for l := range has {
				if _, retired := since[l]; want[l] && retired {
					come = append(come, l)
				} else if !want[l] && !retired {
					gone = append(gone, l)
				}
			}
			s.Change(come, gone, clock)
		}
		for l := range has {
			if _, retired := since[l]; want[l] {
				delete(since, l)
			} else if !retired {
				since[l] = clock
			}
		}
	}
}
