package link

import (
	"math"
	"testing"
	"time"
)

// TestFateFollowsFromItsKey: the same key meets the same fate whatever was decided
// before, and every part of the key, the seed too, changes it.
func TestFateFollowsFromItsKey(t *testing.T) {
	p := Params{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.5, Reorder: 0.5, Hold: time.Millisecond}
	base := Key{AtoB, 3, Data, 4711, 1}
	others := map[string]func(i int) (uint64, Key){
		"seed":       func(i int) (uint64, Key) { return uint64(i + 1), base },
		"direction":  func(i int) (uint64, Key) { k := at(base, i); k.Direction = BtoA; return 0, k },
		"connection": func(i int) (uint64, Key) { k := at(base, i); k.Connection++; return 0, k },
		"kind":       func(i int) (uint64, Key) { k := at(base, i); k.Kind = Ack; return 0, k },
		"offset":     func(i int) (uint64, Key) { k := at(base, i); k.Offset++; return 0, k },
		"repetition": func(i int) (uint64, Key) { k := at(base, i); k.Repetition++; return 0, k },
	}
	const n = 2000
	for name, other := range others {
		same := 0
		for i := range n {
			f := p.Decide(0, at(base, i))
			if f != p.Decide(0, at(base, i)) {
				t.Fatal("decided differently the second time")
			}
			if g := p.Decide(other(i)); f.Lost == g.Lost {
				same++
			}
		}
		// two fair coins agree on half of the tosses, give or take six deviations
		if d := math.Abs(float64(same) - n/2); d > 6*math.Sqrt(n)/2 {
			t.Errorf("%s: %d of %d packets meet the same fate with another", name, same, n)
		}
	}
}

func at(k Key, offset int) Key {
	k.Offset += uint32(100 * offset)
	return k
}

// TestFateIsAsOftenAsAsked: loss, jitter and reordering have the rates that they are given, also with
// places as near to each other as those of small messages.
func TestFateIsAsOftenAsAsked(t *testing.T) {
	const n = 100_000
	p := Params{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.05, Reorder: 0.1, Hold: 100 * time.Millisecond}
	lost, held, runs := 0, 0, 0
	var sum, least, most time.Duration = 0, time.Hour, 0
	before := false
	for i := range n {
		f := p.Decide(7, Key{Kind: Data, Offset: uint32(4 * i)})
		if f.Lost {
			lost++
			if before {
				runs++
			}
		}
		before = f.Lost
		if f.Delay > 60*time.Millisecond {
			held++
			f.Delay -= p.Hold
		}
		sum += f.Delay
		least, most = min(least, f.Delay), max(most, f.Delay)
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 6*math.Sqrt(want) {
			t.Errorf("%s: %v, want about %v", what, got, want)
		}
	}
	near("lost", float64(lost), n*p.Loss)
	near("lost after one that was lost", float64(runs), n*p.Loss*p.Loss)
	near("held back", float64(held), n*p.Reorder)
	near("mean delay in microseconds", float64((sum / n).Microseconds()), 20_000)
	if least < 15*time.Millisecond || least > 16*time.Millisecond || most > 25*time.Millisecond || most < 24*time.Millisecond {
		t.Errorf("delays between %s and %s", least, most)
	}
}

// TestSetupIsNeverLost: what is no part of the comparison is delayed, and that is
// all.
func TestSetupIsNeverLost(t *testing.T) {
	p := Params{Delay: time.Millisecond, Jitter: time.Millisecond, Loss: 1, Reorder: 1, Hold: time.Second}
	if f := p.Decide(1, Key{Kind: Setup}); f != (Fate{Delay: time.Millisecond}) {
		t.Errorf("%+v", f)
	}
}
