package instances

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// bed is a data plane in which an instance sleeps as a pod, and that wakes it at a moment of the test's.
type bed struct {
	mu    sync.Mutex
	wake  func()
	rests int // times that it was put to sleep
	ends  int // and woken

	at func(moment string, wake func())
}

// begin is Options.Rest.
func (b *bed) begin(_ string, _ netip.AddrPort, wake func()) (Rest, bool) {
	b.mu.Lock()
	b.wake, b.rests = wake, b.rests+1
	b.mu.Unlock()
	b.at("put to sleep", wake)
	return b, false
}

func (b *bed) Settle(context.Context) { b.at("frozen", b.wake) }

func (b *bed) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ends++
}

func (b *bed) counts() (rests, ends int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rests, b.ends
}

// inBed is a world with one function, whose only instance sleeps as a pod.
func inBed(t *testing.T, b *bed) *world {
	t.Helper()
	uplink(t)
	w := newWorld(t)
	w.r.rest = b.begin
	run := says("os.getpid()")
	run.Idle = 40 * time.Millisecond
	w.run("f", run)
	return w
}

// TestRousedAtAnyMoment: whoever wakes an instance, before it is frozen, in the moment that it is, or later, it runs then and
// answers, and is a pod all the time.
func TestRousedAtAnyMoment(t *testing.T) {
	const times = 40
	var once sync.WaitGroup
	var round atomic.Int64
	b := &bed{}
	b.at = func(moment string, wake func()) {
		n := round.Load()
		switch {
		case n%4 == 0 && moment == "put to sleep", n%4 == 1 && moment == "frozen":
			wake()
		case moment == "put to sleep":
			after := time.Duration(rand.Int64N(int64(8 * time.Millisecond)))
			once.Add(1)
			time.AfterFunc(after, func() { defer once.Done(); wake(); wake() })
		}
	}
	w := inBed(t, b)
	pod := w.found("f", 1)[0]
	for rounds := range times {
		round.Store(int64(rounds))
		w.r.Touch("f") // it is to be frozen soon
		until(t, "end of its sleep", func() bool { rests, ends := b.counts(); return rests > rounds && rests == ends })
		if got := get(t, pod); got != "1" {
			t.Fatalf("round %d: it says %q", rounds, got)
		}
		if got := w.found("f", 1); got[0] != pod {
			t.Fatalf("round %d: pods %v", rounds, got)
		}
	}
	once.Wait()
	if s := w.r.Instances()[0]; s.Starts != 1 || w.frozen(s) {
		t.Errorf("%+v", s)
	}
}
