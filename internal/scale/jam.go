package scale

import (
	"time"

	"eproxy/internal/clock"
	"eproxy/internal/pool"
	"eproxy/internal/slot"
)

// jam is a time when idle connections were closed because a request waited.
type jam struct {
	at       time.Duration
	open     int // slots, before
	patience time.Duration
}

// dialMargin is what a connection takes to be made, and more: one that was there so
// long before another is the older one for the server, too.
const dialMargin = 10 * time.Millisecond

// Patience is how long the first response on a connection may take.
func (sc *Scale) Patience() time.Duration { return time.Duration(sc.patience.Load()) }

// Spare says whether the fallback may keep idle connections.
func (sc *Scale) Spare() bool { return !sc.sparse.Load() }

// Stalled: the first response on a connection takes long. Perhaps the server reads
// others first, on which nothing comes; they are closed.
func (sc *Scale) Stalled() { sc.stalled() }

// stalled is Stalled, and returns the jam that it is, or belongs to; nil: there were no idle connections.
func (sc *Scale) stalled() *jam {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.Pod.Gone() || sc.jam != nil {
		return sc.jam
	}
	j := &jam{open: sc.count(), patience: sc.demand.patience(sc.Pod.Function().Timeout)}
	if sc.closeIdle() == 0 {
		return nil
	}
	j.at = clock.Monotonic()
	sc.jam = j
	time.AfterFunc(j.patience, func() { sc.resolve(j, false) })
	return j
}

// resolve notes whether closing idle connections has helped, if that is not known.
func (sc *Scale) resolve(j *jam, helped bool) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.jam == j && !sc.Pod.Gone() {
		sc.resolved(j, helped)
	}
}

// resolved is resolve with sc.mu held.
func (sc *Scale) resolved(j *jam, helped bool) {
	sc.jam = nil
	before := sc.demand.ceiling
	sc.demand.jammed(j.open, helped, clock.Monotonic())
	if after := sc.demand.ceiling; after < before {
		sc.Log.Info("pod reads a few connections at a time, it gets fewer slots", "slots", after)
	}
	sc.settle()
}

// SlotStalled is Stalled for a slot's request, again and again until it is answered.
func (sc *Scale) SlotStalled(s *slot.Slot, gen uint32) {
	j := sc.stalled()
	time.AfterFunc(max(sc.Patience()/2, time.Millisecond), func() {
		r := s.StateAs(gen)
		switch {
		case !r.Connected:
		case r.Answered && j != nil:
			sc.resolve(j, r.Since > j.at)
		case !r.Answered:
			sc.SlotStalled(s, gen)
		}
	})
}

// Exchanged notes how a request of the fallback fared.
func (sc *Scale) Exchanged(x pool.Exchange) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.Pod.Gone() {
		return
	}
	d := &sc.demand
	proven, closes := d.proven, d.closes()
	d.answered(x.Took)
	switch {
	case x.Reused:
		d.reused()
	case x.Closed:
		d.ended()
	}
	if j := sc.jam; j != nil && x.Stalled {
		sc.resolved(j, clock.Monotonic()-j.at <= j.patience/2)
	} else if !x.Reused && !x.Stalled {
		if n := sc.silentBefore(clock.Monotonic() - x.Took - dialMargin); n > 0 {
			d.flowed(n)
		}
	}
	if d.proven != proven || d.closes() != closes {
		sc.settle()
	}
}

// silentBefore is how many slots were connected before a time, and have not had a
// request yet; sc.mu is held.
func (sc *Scale) silentBefore(at time.Duration) (n int) {
	for _, s := range sc.opened() {
		if r := s.State(); r.Idle && r.Requests == 0 && r.Since < at {
			n++
		}
	}
	return n
}
