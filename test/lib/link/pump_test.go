package link

import (
	"testing"
	"time"
)

// TestOrderIsKept: without jitter packets leave in the order that they came in, even if the clock seems
// to go back, and at a rate one after the other.
func TestOrderIsKept(t *testing.T) {
	frame := make([]byte, 1000)
	now := time.Now()
	for _, rate := range []int{0, 100_000} {
		l := &Link{streams: newStreams()}
		p := &pump{link: l}
		l.params[AtoB] = Params{Delay: time.Millisecond, Rate: rate}
		var last time.Time
		for i, at := range []time.Duration{5, 3, 3, 9, 2} {
			due, ok := p.decide(frame, len(frame), now.Add(at))
			if !ok || due.Before(last) {
				t.Errorf("rate %d: packet %d: %v, %s before the last one", rate, i, ok, last.Sub(due))
			}
			if i > 0 && rate > 0 && due.Sub(last) != 10*time.Millisecond {
				t.Errorf("packet %d leaves %s after the last one", i, due.Sub(last))
			}
			last = due
		}
	}
}

// TestQueueIsBounded: what finds the queue full, or is no packet of a wire, does not leave and is counted.
func TestQueueIsBounded(t *testing.T) {
	l := &Link{streams: newStreams()}
	p := &pump{link: l, waiting: make(waiting, 3)}
	l.params[AtoB] = Params{Delay: time.Second, Queue: 3}
	if _, ok := p.decide(make([]byte, 100), 100, time.Now()); ok {
		t.Error("a packet found room in a full queue")
	}
	p.waiting = p.waiting[:2]
	if _, ok := p.decide(make([]byte, 100), 100, time.Now()); !ok {
		t.Error("a packet found no room")
	}
	if _, ok := p.decide(make([]byte, 100), 2000, time.Now()); ok {
		t.Error("two merged packets were carried")
	}
	if c := l.counts[AtoB]; c.Packets != 3 || c.Overflow != 1 || c.Long != 1 {
		t.Errorf("%+v", c)
	}
}
