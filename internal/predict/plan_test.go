package predict

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const start = time.Second

func TestOutcomeOfAPlan(t *testing.T) {
	p := PlanOf([]Window{{100 * time.Second, 110 * time.Second}, {0, 10 * time.Second}}, start)
	for name, c := range map[string]struct {
		next, done time.Duration
		want       Outcome
	}{
		"within keep":      {5 * time.Second, 0, Outcome{Idle: 5 * time.Second}},
		"work is not idle": {5 * time.Second, 3 * time.Second, Outcome{Idle: 2 * time.Second}},
		"keep begins when the work is done": {12 * time.Second, 3 * time.Second,
			Outcome{Idle: 9 * time.Second}},
		"between":           {50 * time.Second, 0, Outcome{Cold: true, Wait: start, OnDemand: true, Idle: 10 * time.Second}},
		"while it starts":   {99500 * time.Millisecond, 0, Outcome{Cold: true, Wait: 500 * time.Millisecond, Idle: 10500 * time.Millisecond, Starts: 1}},
		"as it is started":  {99 * time.Second, 0, Outcome{Cold: true, Wait: start, Idle: 10 * time.Second, Starts: 1}},
		"within the window": {105 * time.Second, 0, Outcome{Idle: 16 * time.Second, Starts: 1}},
		"after all":         {time.Hour, 0, Outcome{Cold: true, Wait: start, OnDemand: true, Idle: 21 * time.Second, Starts: 1}},
		"work into the window": {111 * time.Second, 95 * time.Second,
			Outcome{Cold: true, Wait: start, OnDemand: true, Idle: 15 * time.Second}},
	} {
		if got := p.Outcome(c.next, c.done, start); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	forever := KeepAlive(Forever).Plan()
	if o := forever.Outcome(1000*time.Hour, time.Hour, start); o.Cold || o.Idle != 999*time.Hour {
		t.Errorf("always warm: %+v", o)
	}
}

// A scaler asks At what to do and until when; the simulator asks Outcome what
// came of it.
func TestAtAndOutcomeAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	span := func(n int64) time.Duration { return time.Duration(r.Int64N(n)) * 100 * time.Millisecond }
	for range 5000 {
		var ws []Window
		for range r.IntN(25) {
			from := span(3000)
			ws = append(ws, Window{from, from + span(100)})
		}
		p, next, done := PlanOf(ws, start), span(4000), span(200)
		next = max(next, done)
		var idle time.Duration
		starts, awake := 0, true
		for age := time.Duration(0); age < next; {
			now, until := p.At(age, done, start)
			if now && !awake {
				starts++
			}
			until = min(until, next)
			if awake = now; now {
				idle += max(0, until-max(age, done))
			}
			if until <= age {
				t.Fatalf("at age %v nothing changes until %v: %+v", age, until, p)
			}
			age = until
		}
		if o := p.Outcome(next, done, start); o.Idle != idle || o.Starts != starts && !(o.Starts == starts+1 && o.Wait == start) {
			t.Fatalf("walked: idle %v, %d starts; outcome %+v; plan %+v next %v done %v", idle, starts, o, p, next, done)
		}
	}
}

func TestPlanIsBounded(t *testing.T) {
	var ws []Window
	for i := range 100 {
		at := time.Duration(i*i+i) * 10 * time.Second
		ws = append(ws, Window{at, at + time.Second})
	}
	p := PlanOf(slices.Clone(ws), start)
	if len(p.Windows()) != maxWindows {
		t.Fatalf("%d windows", len(p.Windows()))
	}
	for i, w := range ws {
		if o := p.Outcome(w.To, 0, start); o.Cold {
			t.Errorf("window %d is lost", i)
		}
	}
	// The first ones are closest to each other.
	if first := p.Windows()[0]; first.To != ws[len(ws)-maxWindows].To || p.Windows()[1].To-p.Windows()[1].From != time.Second {
		t.Errorf("joined: %v", p.Windows())
	}
}
