package scale

import (
	"context"
	"time"

	"eproxy/internal/slot"
)

// settleEvery is how often it is looked whether a resting pod's connections have ended, or begun.
const settleEvery = 2 * time.Millisecond

// LieDown closes all slots, on none of which is anything: a server that was frozen for longer than it keeps
// idle ones would close them before it reads. No more are made, until Rise, but by StandBy. false: one of them is in use after all.
func (sc *Scale) LieDown() bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.Pod.Gone() || sc.Pod.Draining() || sc.dialling > 0 {
		return false
	}
	sc.resting = true
	for _, s := range sc.opened() {
		if !s.State().Closing && !sc.closeSlot(s) {
			return false
		}
	}
	sc.Pod.CloseIdle()
	return true
}

// StandBy makes a connection to a pod that lies down, whose processes are frozen now: it waits where the server accepts it, and
// no clock of the server's runs for it. It returns when it is made, could not be, or ctx ends.
func (sc *Scale) StandBy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, slot.DialTimeout)
	defer cancel()
	if !sc.await(ctx, func() bool { return sc.count() == 0 }) {
		return
	}
	sc.mu.Lock()
	if dial := !sc.Pod.Gone() && !sc.Pod.Draining() && !sc.demand.closes(); dial && sc.count() == 0 {
		sc.openSlot()
	}
	sc.mu.Unlock()
	sc.await(ctx, func() bool { return sc.dialling == 0 })
}

// await waits until something is so; false: ctx has ended. is is called with sc.mu held.
func (sc *Scale) await(ctx context.Context, is func() bool) bool {
	t := time.NewTicker(settleEvery)
	defer t.Stop()
	for {
		sc.mu.Lock()
		ok := is()
		sc.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
	}
}

// Rise ends LieDown: the pod's processes run.
func (sc *Scale) Rise() {
	sc.mu.Lock()
	sc.resting = false
	none := sc.count()-sc.closing == 0
	sc.settle()
	sc.mu.Unlock()
	if none {
		sc.Grow()
	}
}
