package simulate

import (
	"math"
	"testing"
	"time"

	"eproxy/internal/predict"
)

// With memory for all, a node is no more than its functions.
func TestBudgetOfAllIsSleep(t *testing.T) {
	loads := Synthetic(6)
	some := []*Function{loads[0], loads[syntheticFunctions], loads[2*syntheticFunctions]}
	for _, p := range Policies(costs)[:7] {
		b := Budget(some, p, 1e9, predict.NewEviction())
		arrivals, cold, held := 0, 0, 0.0
		for _, f := range some {
			r := Sleep(f, p)
			arrivals, cold, held = arrivals+r.Arrivals, cold+r.Cold, held+r.Held
		}
		if b.Arrivals != arrivals || b.Cold != cold || math.Abs(b.Held-held) > 1e-6*held+1 || b.Evicted+b.Short != 0 {
			t.Errorf("%s: %+v, one by one %d arrivals, %d cold, %.0f MB s", p.Name, b, arrivals, cold, held)
		}
	}
}

// Of a small and often used one and a large and rare one, of which only one has
// room beside a third, the small one stays; by age it would not.
func TestBudgetByHand(t *testing.T) {
	small, large, third := function(0, 0, 10, 20, 60), function(0, 30, 70), function(0, 40)
	small.Name, large.Name, third.Name = "small", "large", "third"
	large.Memory = 50
	functions := []*Function{small, large, third}
	for _, f := range functions {
		f.End = 100 * time.Second
	}
	b := Budget(functions, keep(time.Hour, Start), 65, predict.NewEviction())
	if b.Cold != 4 || b.Evicted != 2 || b.Short != 0 || b.Arrivals != 7 {
		t.Errorf("greedy-dual: %+v", b) // large goes at 40 for third, which goes for it at 70
	}
	b = Budget(functions, keep(time.Hour, Start), 65, NewLongestUnused())
	if b.Cold != 5 || b.Arrivals != 7 {
		t.Errorf("longest unused: %+v", b) // small goes at 40
	}
	if b := Budget(functions, keep(time.Hour, Start), 5, predict.NewEviction()); b.Short != 5 || b.Cold != 5 || b.Evicted != 4 {
		t.Errorf("no room for any: %+v", b)
	}
}

// What is at work stays, and what has gone by itself cannot go again.
func TestOnlyWhatWaitsIsEvicted(t *testing.T) {
	small, large := function(0, 0), function(0, 10)
	small.Name, large.Name = "small", "large"
	small.Work, large.Memory = 30*time.Second, 50
	if b := Budget([]*Function{small, large}, keep(time.Hour, Start), 55, predict.NewEviction()); b.Evicted != 0 || b.Short != 1 {
		t.Errorf("at work: %+v", b)
	}
	small, large = function(0, 30), function(0, 0)
	other, third := function(0, 32, 36), function(0, 34)
	small.Name, large.Name, other.Name, third.Name = "small", "large", "other", "third"
	large.Memory, other.Memory = 50, 50
	functions := []*Function{small, large, other, third}
	for _, f := range functions {
		f.End = 100 * time.Second
	}
	if b := Budget(functions, keep(5*time.Second, Start), 60, predict.NewEviction()); b.Cold != 5 || b.Short != 0 {
		t.Errorf("gone: %+v", b) // third takes other's place
	}
}
