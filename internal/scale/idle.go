package scale

import (
	"slices"
	"time"

	"eproxy/internal/slot"
)

const (
	// A slot that no message came to is closed after silentLimit (later if the function is slow), one that was used
	// after usedLimit; the last one of a pod stays. Not if no request was answered
	// by the pod yet: some servers serve nobody else meanwhile, and kill
	// their worker when nothing comes for long.
	silentLimit   = time.Second
	usedLimit     = 10 * time.Second
	unprovenLimit = 5 * time.Second
)

// closeUnneeded closes idle slots whose time is up, and says when there may be more of
// them; 0: never. The programs use the first ones most. sc.mu is held.
func (sc *Scale) closeUnneeded(now time.Duration) (next time.Duration) {
	if sc.resting { // they cost nothing, and wake it
		return 0
	}
	d := &sc.demand
	left, silent := sc.count()-sc.closing, 0
	for _, s := range slices.Backward(sc.opened()) {
		r := s.State()
		if r.Closing {
			continue
		}
		sc.learn(r)
		limit := usedLimit
		if r.Requests == 0 {
			if silent++; silent > d.beside {
				limit = max(silentLimit, 3*d.service) // the next messages may come when these are answered
			}
		}
		switch {
		case int(s.Bit()) >= d.most || left > d.ceiling || d.closes():
			limit = 0
		case left == 1 && d.proven:
			continue
		case left == 1:
			limit = unprovenLimit
		}
		wait := limit - (now - r.Since)
		if !r.Idle {
			wait = silentLimit
		} else if wait <= 0 && sc.closeSlot(s) {
			left--
			continue
		}
		next = sooner(next, wait)
	}
	return next
}

// closeSlot closes an idle slot. Not if a request has come to it. sc.mu is held.
func (sc *Scale) closeSlot(s *slot.Slot) bool {
	if !s.Close() {
		return false
	}
	sc.closing++
	return true
}

// learn notes what a slot's connection says about the server; sc.mu is held.
func (sc *Scale) learn(r slot.State) {
	d := &sc.demand
	if r.Answered {
		d.proven = true
		if d.service == 0 {
			d.service = r.Service
		}
	}
	if r.Answered && r.Requests > 1 {
		d.reused()
	}
	sc.Trials.Carried(r.Requests)
}

// closeIdle closes connections that nothing comes on, because a request waits: of
// the slots those that never carried one, if there are any, and those of the
// fallback. It returns how many. sc.mu is held.
func (sc *Scale) closeIdle() int {
	n := sc.Pod.CloseIdle()
	for _, used := range []bool{false, true} {
		for _, s := range sc.opened() {
			if r := s.State(); r.Idle && r.Requests > 0 == used && sc.closeSlot(s) {
				n++
			}
		}
		if n > 0 {
			break
		}
	}
	return n
}

// CloseDrained closes the slots of a pod that drains that have nothing in flight, and
// says how many are left.
func (sc *Scale) CloseDrained() int {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	for _, s := range sc.opened() {
		if s.State().Idle {
			sc.closeSlot(s)
		}
	}
	return sc.count()
}
