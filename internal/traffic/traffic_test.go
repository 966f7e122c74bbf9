package traffic

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestTrackerIsExact: at any time the sum is that of made-up messages, however they overlap.
func TestTrackerIsExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	type message struct{ from, to time.Duration }
	var ms []message
	for range 500 {
		from := time.Duration(rng.Int64N(int64(time.Minute)))
		ms = append(ms, message{from, from + time.Duration(rng.ExpFloat64()*float64(2*time.Second))})
	}
	for _, now := range []time.Duration{0, time.Second, 30 * time.Second, time.Minute, time.Hour} {
		var tr Tracker
		var want Sum
		for i, m := range ms {
			if m.from > now {
				continue
			}
			known := i%3 == 0
			tr.Begin(m.from, known)
			if !known {
				want.Arrived++
			}
			if m.to <= now {
				tr.End(m.from, m.to)
			}
			want.Integral += min(m.to, now) - m.from
		}
		if got := tr.Sum(now); got != want {
			t.Errorf("at %s: %+v, want %+v", now, got, want)
		}
	}
}

// TestMeter: what is missing once is not reported twice, and nothing is ever negative.
func TestMeter(t *testing.T) {
	var m Meter
	s := func(n int64, i time.Duration) Sum { return Sum{n, i} }
	var total Rate
	for i, x := range []Sum{s(5, time.Second), s(7, 3*time.Second), s(6, 2*time.Second), s(9, 6*time.Second)} {
		r := m.Rate(x, time.Duration(i+1)*time.Second)
		if r.Concurrency < 0 || r.Arrived < 0 {
			t.Errorf("%d: %+v", i, r)
		}
		total.Arrived += r.Arrived
		total.Concurrency += r.Concurrency
	}
	if want := (Rate{5, 4}); total != want {
		t.Errorf("%+v, want %+v", total, want)
	}
	if r := m.Rate(s(20, time.Minute), 4*time.Second); r != (Rate{}) {
		t.Errorf("in no time: %+v", r)
	}
}

// TestBacklog: the estimate is that of a real queue, within half the time between looks for each that waits.
func TestBacklog(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var b Backlog
	var queue []time.Duration
	came, look := uint64(0), 100*time.Millisecond
	for now := time.Duration(0); now < 20*time.Second; now += time.Millisecond {
		for range rng.IntN(3) {
			queue = append(queue, now)
			came++
		}
		if n := min(rng.IntN(4), len(queue)); now/(3*time.Second)%2 == 1 {
			queue = queue[n:]
		}
		if now%look != 0 {
			continue
		}
		want := time.Duration(0)
		for _, at := range queue {
			want += now - at
		}
		got := b.Waited(came, len(queue), now)
		if math.Abs(float64(got-want)) > float64(len(queue))*float64(look)/2 {
			t.Fatalf("at %s: %s, want %s of %d", now, got, want, len(queue))
		}
	}
	if got := b.Waited(came, 0, time.Minute); got != 0 || len(b.in) != 0 {
		t.Errorf("nobody waits: %s", got)
	}
}
