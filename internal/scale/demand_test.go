package scale

import (
	"testing"
	"time"
)

// TestSlotsFollowDemand: one at first, twice as many each time the load lacks some, never
// more than there are places.
func TestSlotsFollowDemand(t *testing.T) {
	d := newDemand(11)
	for open := range 3 {
		if n := d.more(open, 100); n != 1 {
			t.Errorf("%d more beside %d, of a server that has answered nothing yet", n, open)
		}
	}
	d.answered(time.Millisecond)
	open := 0
	for _, want := range []int{1, 2, 4, 8, 11, 11} {
		if open += d.more(open, 1); open != want {
			t.Fatalf("%d slots, want %d", open, want)
		}
	}
	if n := d.more(1, 7); n != 7 {
		t.Errorf("%d more for 7 messages that found none", n)
	}
	if n := d.more(1, 70); n != 10 {
		t.Errorf("%d more for 70 messages that found none", n)
	}
	d.resize(5)
	if d.more(11, 1) != 0 || d.more(3, 1) != 2 {
		t.Errorf("with 5 places: %d more beside 11, %d beside 3", d.more(11, 1), d.more(3, 1))
	}
	d.resize(8)
	if d.more(4, 1) != 4 {
		t.Errorf("with 8 places again: %d more beside 4", d.more(4, 1))
	}
}

// TestServerThatKeepsNothing: a server that closes its connections with each response
// gets no slots, and gets them again once it keeps one. One that keeps them may
// close some.
func TestServerThatKeepsNothing(t *testing.T) {
	d := newDemand(16)
	d.ended()
	if !d.closes() || d.more(0, 1) != 0 {
		t.Error("slots for a server that keeps no connection")
	}
	d.reused()
	if d.more(0, 1) != 1 {
		t.Error("no slots for a server that keeps connections")
	}
	for i := range 3 {
		if d.closes() {
			t.Fatalf("no slots after %d connections that a server closed early", i)
		}
		d.ended()
	}
	if !d.closes() {
		t.Error("slots for a server that keeps no connection any more")
	}
	d.forget()
	if d.more(0, 1) != 1 || d.most != 16 {
		t.Errorf("what comes back is taken for the same server: %+v", d)
	}
}

// TestServerThatReadsFew: a server that answers when idle connections are closed gets
// half as many slots, in the end none, and more are tried later and later.
func TestServerThatReadsFew(t *testing.T) {
	d := newDemand(16)
	now := time.Hour
	d.jammed(16, true, now)
	d.flowed(1)
	d.jammed(16, true, now)
	d.jammed(16, false, now)
	d.jammed(16, true, now)
	if d.ceiling != 16 {
		t.Errorf("%d slots after single jams", d.ceiling)
	}
	var penalty time.Duration
	if d.jammed(16, true, now); d.ceiling != 8 || d.beside != 0 {
		t.Errorf("%d slots, %d of them silent, after jams with 16", d.ceiling, d.beside)
	}
	for _, open := range []int{8, 4, 2, 1} {
		penalty = d.penalty
		d.jammed(open, true, now)
		d.jammed(open, true, now)
		if d.ceiling != open/2 || d.penalty <= penalty {
			t.Errorf("%d slots after jams with %d, for %s", d.ceiling, open, d.penalty)
		}
	}
	if d.more(0, 1) != 0 {
		t.Error("a slot for a server that can do with none")
	}
	for _, want := range []int{1, 2, 4, 8, 16} {
		d.lift(now + d.penalty - 1)
		if d.ceiling == want {
			t.Errorf("%d slots before it is time", want)
		}
		now += d.penalty
		d.lift(now)
		if d.ceiling != want {
			t.Errorf("%d slots, want %d", d.ceiling, want)
		}
	}
	if d.retry != 0 {
		t.Error("there is still something to try")
	}
	for range 20 {
		d.jammed(16, true, now)
	}
	if d.penalty != penaltyMost {
		t.Errorf("tried again after %s", d.penalty)
	}
}

// TestPatience: a slow function is waited for longer, but never so long that its requests
// are overdue.
func TestPatience(t *testing.T) {
	d := newDemand(16)
	if got := d.patience(time.Minute); got != stallMin {
		t.Errorf("%s, with nothing known", got)
	}
	if got := d.patience(100 * time.Millisecond); got != 25*time.Millisecond {
		t.Errorf("%s, with a timeout of 100 ms", got)
	}
	for range 100 {
		d.answered(time.Second)
	}
	if got := d.patience(time.Minute); got != 4*time.Second {
		t.Errorf("%s, for a function that takes a second", got)
	}
	if got := d.patience(4 * time.Second); got != time.Second {
		t.Errorf("%s, for a function that takes a second, with a timeout of 4", got)
	}
}
