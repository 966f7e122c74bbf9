package slots

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"eproxy/internal/clock"
	"eproxy/internal/depth"
)

// errTrial is the end of a connection on which a trial was not answered in time.
var errTrial = errors.New("a request behind others of its connection was not answered in time")

// setPipeline gives the pod the depth that its configuration says; scale.mu is not held.
func (ps *Pod) setPipeline(pipeline int) {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	ps.scale.pipe.Configure(pipeline, int(ps.all.Depth))
	ps.showDepth()
}

// showDepth lets the programs know what the pod's connections may have in flight.
// scale.mu is held. Memory comes first. What is trouble now may be so for the next
// trial: less is allowed before the trials end.
func (ps *Pod) showDepth() {
	d := &ps.scale.pipe
	if d.Tried > 1 && !ps.deepen() {
		d.Forget()
		if !d.Auto {
			d.Proven, d.Tried = 1, 1
		}
	}
	trying := d.Tried > d.Proven
	if !trying {
		atomic.StoreInt32(&ps.mem.Wanted, 0)
	} else if atomic.LoadUint32(&ps.mem.Depth) != uint32(d.Tried) {
		atomic.StoreInt32(&ps.mem.Wanted, depth.Proofs)
	}
	wait := time.Duration(0)
	if d.Auto {
		wait = depth.WaitBound
	}
	atomic.StoreUint32(&ps.mem.WaitNs, uint32(wait))
	atomic.StoreUint32(&ps.mem.Proven, uint32(d.Proven))
	atomic.StoreUint32(&ps.mem.Depth, uint32(d.Tried))
	atomic.StoreUint32(&ps.mem.Why, uint32(d.Why))
	atomic.StoreUint64(&ps.mem.Trial, ps.trialSlot(trying))
}

// deepen gives the pod's slots the memory for more than one request. It says whether
// there is some. scale.mu is held.
func (ps *Pod) deepen() bool {
	if ps.deep.Swap(true) {
		return true
	}
	for _, s := range ps.slots {
		if !s.open {
			continue // it gets its own when it is dialled
		}
		if err := ps.all.Memory.GrowSlot(s.index, true); err != nil {
			ps.all.Log.Warn("no memory for several requests on a connection", "function", ps.id.Function, "pod", ps.id.Address, "error", err)
			ps.deep.Store(false)
			return false
		}
	}
	return true
}

// trialSlot is the mask of the slot on which trials are made: the same as long as it
// is open. scale.mu is held.
func (ps *Pod) trialSlot(trying bool) uint64 {
	if !trying {
		return 0
	}
	old := atomic.LoadUint64(&ps.mem.Trial)
	for _, s := range ps.slots {
		if s.open && s.mask() == old {
			return old
		}
	}
	if i := slices.IndexFunc(ps.slots, func(s *slot) bool { return s.open }); i >= 0 {
		return ps.slots[i].mask()
	}
	return 0
}

// mayTry says whether it is time to try more requests on a connection: the pod keeps
// its connections, and no more of them may be had now. scale.mu is held.
func (ps *Pod) mayTry(now time.Duration) bool {
	d := &ps.scale.demand
	return d.proven && !d.closes() && ps.scale.open > 0 && d.more(ps.scale.open, 1) == 0 && ps.scale.pipe.May(now)
}

// proved: the pod has answered as many trials as were wanted.
func (ps *Pod) proved() {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	if ps.gone.Load() || atomic.LoadInt32(&ps.mem.Wanted) > 0 {
		return
	}
	ps.scale.pipe.Proved()
	ps.showDepth()
	ps.all.Log.Debug("pod answers several requests on one connection", "function", ps.id.Function, "pod", ps.id.Address, "proven", ps.scale.pipe.Proven)
}

// troubled notes that something went wrong on a connection with several requests in
// flight; scale.mu is not held.
func (ps *Pod) troubled(why depth.Why, cause error) {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	if ps.gone.Load() {
		return
	}
	atomic.AddUint32(&ps.mem.Troubles, 1)
	ps.all.record(func(rec Recorder) { rec.PipelineTrouble(ps.id.Function, ps.id.Address.String(), why.Name()) })
	d := &ps.scale.pipe
	before := d.Tried
	d.Failed(why, clock.Monotonic())
	if d.Tried < before {
		ps.all.Log.Info("pod gets one request at a time on a connection: it did not answer several", "function", ps.id.Function, "pod", ps.id.Address,
			"reason", why.Name(), "error", cause, "again_in", d.Penalty)
	}
	ps.showDepth()
	ps.settle()
}
