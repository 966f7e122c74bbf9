package trials

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/depth"
	"eproxy/internal/slot"
)

// Options of New.
type Options struct {
	Entry *bpf.EproxyPod
	Slots []*slot.Slot
	Open  func() uint64 // has a bit for each slot that is connected, or dialled
	Most  uint32        // requests in flight on one slot that the programs can have
	Log   *slog.Logger  // says which pod it is
}

// Trials are those of a pod. All methods may be called at any time.
type Trials struct {
	Options

	deep atomic.Bool // the slots have memory for more than one request

	mu    sync.Mutex
	depth depth.Depth
}

// New makes the Trials of a pod whose connections have one request in flight, until Configure.
func New(opts Options) *Trials { return &Trials{Options: opts} }

// Deep says whether the slots have memory for more than one request: who connects one sees to that, from when Open has its bit.
func (t *Trials) Deep() bool { return t.deep.Load() }

// Configure gives the pod the depth that its configuration says.
func (t *Trials) Configure(pipeline int) {
	t.change(func(d *depth.Depth) { d.Configure(pipeline, int(t.Most)) })
}

// Show lets the programs know what the pod's connections may have in flight: other slots may be connected than before.
func (t *Trials) Show() { t.change(func(*depth.Depth) {}) }

// Try has twice as many requests in flight as are proven tried, on one connection, if that may be tried at that time of clock.Monotonic.
func (t *Trials) Try(now time.Duration) {
	t.change(func(d *depth.Depth) {
		if d.May(now) { // trouble may have come since somebody asked
			d.Try()
		}
	})
}

// Forget: the pod takes no connections. What comes back may be another server.
func (t *Trials) Forget() { t.change((*depth.Depth).Forget) }

// Cut notes that the pod has closed a connection after so many responses, with more requests in flight.
func (t *Trials) Cut(answered int) { t.change(func(d *depth.Depth) { d.Cut(answered) }) }

// Carried notes how many requests a connection has carried.
func (t *Trials) Carried(requests int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.depth.Quota
	if t.depth.Carried(requests); t.depth.Quota != before {
		atomic.StoreUint32(&t.Entry.Quota, uint32(t.depth.Quota))
	}
}

// May says whether more may be tried now.
func (t *Trials) May(now time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.depth.May(now)
}

// Retry is when more is tried again, on the clock of clock.Monotonic.
func (t *Trials) Retry() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.depth.Retry
}

// Proved: the pod has answered as many trials as were wanted, if that is true still.
func (t *Trials) Proved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if atomic.LoadInt32(&t.Entry.Wanted) > 0 {
		return
	}
	t.depth.Proved()
	t.show()
	t.Log.Debug("pod answers several requests on one connection", "proven", t.depth.Proven)
}

// Failed notes that something went wrong on a connection with several requests in flight.
func (t *Trials) Failed(why depth.Why, cause error) {
	t.change(func(d *depth.Depth) {
		atomic.AddUint32(&t.Entry.Troubles, 1)
		before := d.Tried
		d.Failed(why, clock.Monotonic())
		if d.Tried < before {
			t.Log.Info("pod gets one request at a time on a connection: it did not answer several", "reason", why.Name(), "error", cause, "again_in", d.Penalty)
		}
	})
}

// Known is how many requests in flight the pod was seen to answer in order on a slot, and how often it did not.
func (t *Trials) Known() (proven int, troubles uint32) {
	return int(atomic.LoadUint32(&t.Entry.Proven)), atomic.LoadUint32(&t.Entry.Troubles)
}

// change changes what is known, and shows it.
func (t *Trials) change(what func(*depth.Depth)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	what(&t.depth)
	t.show()
}

// show lets the programs know what the pod's connections may have in flight.
// t.mu is held. Memory comes first. What is trouble now may be so for the next
// trial: less is allowed before the trials end.
func (t *Trials) show() {
	d, entry := &t.depth, t.Entry
	if d.Tried > 1 && !t.deepen() {
		d.Forget()
		if !d.Auto {
			d.Proven, d.Tried = 1, 1
		}
	}
	trying := d.Tried > d.Proven
	if !trying {
		atomic.StoreInt32(&entry.Wanted, 0)
	} else if atomic.LoadUint32(&entry.Depth) != uint32(d.Tried) {
		atomic.StoreInt32(&entry.Wanted, depth.Proofs)
	}
	wait := time.Duration(0)
	if d.Auto {
		wait = depth.WaitBound
	}
	atomic.StoreUint32(&entry.WaitNs, uint32(wait))
	atomic.StoreUint32(&entry.Proven, uint32(d.Proven))
	atomic.StoreUint32(&entry.Depth, uint32(d.Tried))
	atomic.StoreUint32(&entry.Why, uint32(d.Why))
	atomic.StoreUint32(&entry.Quota, uint32(d.Quota))
	atomic.StoreUint64(&entry.Trial, t.trialSlot(trying))
}

// deepen gives the pod's slots the memory for more than one request. It says whether
// there is some. t.mu is held.
func (t *Trials) deepen() bool {
	if t.deep.Swap(true) {
		return true
	}
	open := t.Open()
	for _, s := range t.Slots {
		if open&s.Mask() == 0 {
			continue // it gets its own when it is dialled
		}
		if err := s.Deepen(); err != nil {
			t.Log.Warn("no memory for several requests on a connection", "error", err)
			t.deep.Store(false)
			return false
		}
	}
	return true
}

// trialSlot is the mask of the slot on which trials are made: the same as long as it
// is open. t.mu is held.
func (t *Trials) trialSlot(trying bool) uint64 {
	if !trying {
		return 0
	}
	open := t.Open()
	if old := atomic.LoadUint64(&t.Entry.Trial); open&old != 0 {
		return old
	}
	return open & -open
}
