package scale

import (
	"sync/atomic"
	"time"

	"eproxy/internal/clock"
	"eproxy/internal/slot"
)

// provenLook is how often it is looked how new connections fare.
const provenLook = 20 * time.Millisecond

// Settle does what follows from a change that somebody else has made.
func (sc *Scale) Settle() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.settle()
}

// settle does what follows from a change: the programs may ask for slots if there
// may be more, and slots that are not needed are closed when it is time. sc.mu
// is held.
func (sc *Scale) settle() {
	if sc.Pod.Gone() {
		return
	}
	now := clock.Monotonic()
	d := &sc.demand
	sc.sparse.Store(d.ceiling < d.most)
	next := sc.closeUnneeded(now)
	patience := d.patience(sc.Pod.Function().Timeout)
	sc.patience.Store(int64(patience))
	atomic.StoreUint32(&sc.Entry.StallMs, uint32(patience/time.Millisecond))
	if d.retry > 0 {
		next = sooner(next, d.retry-now)
	}
	if wait := sc.Trials.Retry() - now; wait > 0 {
		next = sooner(next, wait)
	}
	next = sc.ask(next, now)
	if sc.timer != nil {
		sc.timer.Stop()
		sc.timer = nil
	}
	if next > 0 {
		sc.timer = time.AfterFunc(next, sc.onTime)
	}
}

// ask lets the programs ask for slots if there may be more, and returns when to look at that again, if that is sooner than next. sc.mu
// is held.
func (sc *Scale) ask(next, now time.Duration) time.Duration {
	retries := sc.dialling > 0 // they say whether the pod takes connections again
	if sc.failing && !retries {
		next = sooner(next, slot.BackoffMost)
	}
	if sc.held {
		sc.held = sc.growth() == 0
		sc.lacked = atomic.LoadUint32(&sc.Entry.Lacked) // those who lacked meanwhile asked again and again
	}
	if sc.held {
		return sooner(next, provenLook)
	}
	if !retries && !sc.failing && (sc.demand.more(sc.count(), 0) > 0 || sc.mayTry(now)) {
		atomic.StoreUint32(&sc.Entry.Asked, 0)
	}
	return next
}

// sooner is the sooner of two times to look again; 0: never.
func sooner(next, wait time.Duration) time.Duration {
	wait = max(wait, time.Millisecond)
	if next == 0 {
		return wait
	}
	return min(next, wait)
}

// onTime is when something is to be looked at although nothing has happened.
func (sc *Scale) onTime() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.demand.lift(clock.Monotonic())
	sc.failing = false
	sc.settle()
}
