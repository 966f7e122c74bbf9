package simulate

import (
	"reflect"
	"testing"
	"time"

	"eproxy/internal/predict"
)

var costs = predict.Costs{Lambda: predict.DefaultLambda, Start: Start}

// function with arrivals at the given seconds, of which those from split on count.
func function(split float64, seconds ...float64) *Function {
	f := &Function{Name: "f", Class: "c", Memory: 10, Split: time.Duration(split * float64(time.Second))}
	for _, s := range seconds {
		f.Arrivals = append(f.Arrivals, time.Duration(s*float64(time.Second)))
	}
	f.End = f.Arrivals[len(f.Arrivals)-1]
	return f
}

func keep(d time.Duration, start time.Duration) *Policy {
	return &Policy{Start: start, New: func(*Function) predict.Policy { return predict.KeepAlive(d) }}
}

// planned wakes up at a time.
type planned struct{ w predict.Window }

func (planned) Observe(_, _ time.Duration) {}
func (p planned) Plan() predict.Plan       { return predict.PlanOf([]predict.Window{p.w}, Start) }

func TestKeepAliveByHand(t *testing.T) {
	f := function(0, 0, 5, 100, 105)
	f.Work = 2 * time.Second
	f.End = 200 * time.Second
	got := Sleep(f, keep(10*time.Second, Start))
	// Cold at 0: at work until 3, idle until 5, at work until 7, idle until 17. Cold
	// at 100: at work until 103, idle until 105, at work until 107, idle until 117.
	want := Result{Function: "f", Arrivals: 4, Cold: 2, Warm: 2, Starts: 2, Idle: 24 * time.Second, Held: 240, Waits: []time.Duration{Start, Start}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Who comes while an instance is started for another waits for the rest.
func TestArrivalsDuringAStartWait(t *testing.T) {
	got := Sleep(function(0, 0, 0.25, 2), keep(10*time.Second, Start))
	if got.Cold != 2 || got.Starts != 1 || !reflect.DeepEqual(got.Waits, []time.Duration{Start, 750 * time.Millisecond}) {
		t.Errorf("%+v", got)
	}
}

func TestOnlyTheTestHalfCounts(t *testing.T) {
	// Awake from 89 (as it starts) to 110 after each arrival; the split is in the
	// midst of it.
	p := &Policy{Start: Start, New: func(*Function) predict.Policy {
		return planned{predict.Window{From: 90 * time.Second, To: 110 * time.Second}}
	}}
	got := Sleep(function(100, 0, 105, 210), p)
	want := Result{Function: "f", Arrivals: 2, Warm: 2, Starts: 1, Idle: 5*time.Second + 16*time.Second, Held: 210}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	got = Sleep(function(50, 0, 105), p)
	if got.Starts != 1 || got.Idle != 16*time.Second {
		t.Errorf("started after the split: %+v", got)
	}
}

func TestReferences(t *testing.T) {
	f := function(0, 0, 100, 100.5, 1000)
	by := make(map[string]Result)
	for _, p := range Policies(costs) {
		by[p.Name] = Sleep(f, p)
	}
	if r := by["oracle"]; r.Cold != 1 || r.Starts != 3 || r.Idle != 2*Start+500*time.Millisecond {
		t.Errorf("oracle: %+v", r) // the first is cold: nobody knows it; it is at work until 1
	}
	if r := by["always warm"]; r.Cold != 1 || r.Starts != 1 || r.Idle != 999*time.Second {
		t.Errorf("always warm: %+v", r)
	}
	if r := by["always frozen"]; r.Cold != 4 || r.Idle != 0 || r.Waits[1] != Thaw || r.Held < 9999 {
		t.Errorf("always frozen: %+v", r)
	}
}

// KEDA is asleep until it looks.
func TestKEDAPolls(t *testing.T) {
	p := keda(Start)
	got := Sleep(function(0, 70, 100, 415, 800), p)
	// 70: seen at 90, ready at 91. 100: seen at 120, so it stays until 420. 415:
	// seen at 420, until 720. 800: seen at 810.
	if got.Cold != 2 || got.Waits[0] != 21*time.Second || got.Waits[1] != 11*time.Second || got.Starts != 2 {
		t.Errorf("%+v", got)
	}
}

// Every arrival is cold or warm, each cold one waits, every interval is within
// what is possible, and the same seed gives the same.
func TestConservationAndDeterminism(t *testing.T) {
	loads := Synthetic(3)
	if again := Synthetic(3); !reflect.DeepEqual(loads, again) {
		t.Fatal("the same seed makes other loads")
	}
	if other := Synthetic(4); reflect.DeepEqual(loads[0].Arrivals, other[0].Arrivals) {
		t.Fatal("another seed makes the same loads")
	}
	for i, f := range loads {
		if i%syntheticFunctions != 0 { // one of each class
			continue
		}
		for _, p := range Policies(costs) {
			r := Sleep(f, p)
			if again := Sleep(f, p); !reflect.DeepEqual(r, again) {
				t.Fatalf("%s, %s: twice, and not the same", f.Name, p.Name)
			}
			span := f.End - f.Split
			if r.Arrivals != f.Tested() || r.Cold+r.Warm != r.Arrivals || len(r.Waits) != r.Cold {
				t.Errorf("%s, %s: %d arrivals, %d of them tested, %d cold, %d warm, %d waits", f.Name, p.Name, f.Tested(), r.Arrivals, r.Cold, r.Warm, len(r.Waits))
			}
			if r.Idle < 0 || r.Idle > span || r.Starts < 0 || r.Expected.Covered > r.Expected.Judged {
				t.Errorf("%s, %s: %+v in %v", f.Name, p.Name, r.Idle, span)
			}
		}
	}
}

// Nobody looks ahead: what comes later changes nothing before it.
func TestNoPolicyLooksAhead(t *testing.T) {
	f := Synthetic(5)[0]
	cut := len(f.Arrivals) * 3 / 4
	for _, p := range Policies(costs) {
		if p.Name == "oracle" {
			continue
		}
		short := *f
		short.Arrivals, short.End = f.Arrivals[:cut], f.Arrivals[cut-1]
		other := short
		other.Arrivals = append(append([]time.Duration{}, short.Arrivals...), f.Arrivals[cut]+time.Hour)
		a, b := Sleep(&short, p), Sleep(&other, p)
		if b.Arrivals != a.Arrivals+1 || b.Cold < a.Cold || b.Cold > a.Cold+1 {
			t.Errorf("%s: %d cold of %d, with one more arrival %d of %d", p.Name, a.Cold, a.Arrivals, b.Cold, b.Arrivals)
		}
	}
}
