package simulate

import (
	"reflect"
	"testing"
	"time"

	"eproxy/internal/predict"
)

// fixedScale wants a number of instances always.
type fixedScale int

func (fixedScale) Record(time.Duration, float64, float64) {}
func (n fixedScale) Scale(time.Duration, int) int         { return int(n) }
func (fixedScale) Quiet(time.Duration) bool               { return false }

func TestCallsWaitForRoom(t *testing.T) {
	f := function(0, 10, 10.1, 10.2, 30)
	f.Work, f.End = 2*time.Second, 40*time.Second
	got := Scale(f, f.Arrivals, fixedScale(1), Setup{PerInstance: 1, Start: Start})
	// Started at 2, ready at 3. At work from 10 to 16 and from 30 to 32.
	want := Result{Function: "f", Arrivals: 4, Cold: 2, Warm: 2, Starts: 1, Idle: 30 * time.Second, Held: 300,
		Waits: []time.Duration{1900 * time.Millisecond, 3800 * time.Millisecond}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := Scale(f, f.Arrivals, fixedScale(1), Setup{PerInstance: 3, Start: Start}); got.Cold != 0 {
		t.Errorf("room for three: %+v", got)
	}
}

// fickle wants an instance only while there is none.
type fickle struct{}

func (fickle) Record(time.Duration, float64, float64) {}
func (fickle) Quiet(time.Duration) bool               { return true }
func (fickle) Scale(_ time.Duration, ready int) int   { return 1 - min(ready, 1) }

// The last instance stays until it was there for a minute.
func TestLastInstanceStaysForAMinute(t *testing.T) {
	f := function(0, 100)
	f.Work, f.End = time.Second, 300*time.Second
	got := Scale(f, f.Arrivals, fickle{}, Setup{PerInstance: 1, Start: Start})
	if got.Starts != 1 || got.Idle != 58*time.Second {
		t.Errorf("%+v", got) // from 102, when the work is done, to 160
	}
}

// counting counts what it is asked.
type counting struct {
	Reactive
	asked *int
}

func (c counting) Scale(at time.Duration, ready int) int {
	*c.asked++
	return c.Reactive.Scale(at, ready)
}

// Of a function that sleeps for a year, next to no seconds are played.
func TestSleepCostsNothing(t *testing.T) {
	f := function(0, 100, 365*86400)
	c := counting{Reactive{predict.NewKPA(70)}, new(int)}
	if got := Scale(f, f.Arrivals, c, Setup{PerInstance: 100, Start: Start}); got.Cold != 2 || *c.asked > 200 {
		t.Errorf("%d decisions, %+v", *c.asked, got)
	}
}

// From nothing, the first call brings an instance; a minute after the last one
// it goes.
func TestReactiveGoesToSleep(t *testing.T) {
	f := function(0, 100, 110, 500)
	f.Work, f.End = 10*time.Millisecond, 1000*time.Second
	got := Scale(f, f.Arrivals, Reactive{predict.NewKPA(70)}, Setup{PerInstance: 100, Start: Start})
	if got.Cold != 2 || got.Warm != 1 || got.Starts != 2 || got.Waits[0] != Start {
		t.Errorf("%+v", got)
	}
	if got.Idle < 125*time.Second || got.Idle > 160*time.Second {
		t.Errorf("idle for %v in two stays of about a minute after the last call", got.Idle)
	}
}

// Calls are conserved, the floor makes fewer of them wait, and its forecast
// keeps its word.
func TestFloorAboveReactive(t *testing.T) {
	for _, f := range SyntheticConcurrent(1) {
		setup := Setup{PerInstance: 1, Start: Start}
		a := Scale(f, f.Calls, Reactive{predict.NewKPA(predict.TargetUtilisation)}, setup)
		floored := NewFloored(setup)
		b := Scale(f, f.Calls, floored, setup)
		for _, r := range []Result{a, b} {
			if r.Cold+r.Warm != r.Arrivals || len(r.Waits) < r.Cold-maxInstances || len(r.Waits) > r.Cold || r.Idle < 0 {
				t.Errorf("%s: %d arrivals, %d cold, %d warm, %d waits", f.Name, r.Arrivals, r.Cold, r.Warm, len(r.Waits))
			}
		}
		if a.Arrivals != b.Arrivals || b.Cold >= a.Cold {
			t.Errorf("%s: %d of %d wait, above the floor %d", f.Name, a.Cold, a.Arrivals, b.Cold)
		}
		if c := floored.Coverage(); float64(c.Covered) < 0.94*float64(c.Judged) || float64(c.Covered) > 0.97*float64(c.Judged) {
			t.Errorf("%s: %+v", f.Name, c)
		}
	}
}
