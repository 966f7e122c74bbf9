package dataplane

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/config"
)

const (
	// proofs is how many trials a pod must answer before connections to it have as many
	// requests in flight as was tried.
	proofs = 16
	// After something went wrong nothing is tried for troubleMin, which doubles up to
	// troubleMost, and is troubleMin again after a quiet time of troubleQuiet times as long.
	troubleMin   = time.Second
	troubleMost  = 5 * time.Minute
	troubleQuiet = 16
	// waitBound is how long a request is likely to wait behind others of its
	// connection, at most, where the depth is found out.
	waitBound = 50 * time.Millisecond
)

// errTrial is the end of a connection on which a trial was not answered in time.
var errTrial = errors.New("a request behind others of its connection was not answered in time")

// pipelining is how many requests a connection to a pod may have in flight: as the
// configuration says, or as the pod was seen to answer in order. Times are those of
// monotonic().
type pipelining struct {
	auto    bool
	most    int
	proven  int // any connection may have so many
	depth   int // one connection may have so many, of QoS 1: it is tried what the pod does
	why     bpf.EproxyDepthWhy
	penalty time.Duration // since the latest trouble
	last    time.Duration // when that was
	retry   time.Duration // when more is tried again
	quota   int           // requests after which the pod has closed a connection that had more in flight; 0: it never did
}

// configure follows the configuration: a number, or config.PipelineAuto; most is what
// the programs can do. What was found out is kept while it is auto.
func (d *pipelining) configure(pipeline, most int) {
	switch {
	case pipeline != config.PipelineAuto:
		n := max(1, min(pipeline, most))
		*d = pipelining{most: n, proven: n, depth: n, why: bpf.EproxyDepthWhyDEPTH_FIXED}
	case !d.auto:
		*d = pipelining{auto: true, most: most, proven: 1, depth: 1, why: bpf.EproxyDepthWhyDEPTH_UNUSED}
	}
}

// may says whether more may be tried now.
func (d *pipelining) may(now time.Duration) bool {
	return d.auto && d.depth == d.proven && d.proven < d.most && now >= d.retry
}

// try lets one connection have twice as many requests in flight as are proven.
func (d *pipelining) try() {
	d.depth, d.why = min(2*d.proven, d.most), bpf.EproxyDepthWhyDEPTH_TRYING
}

// proved notes that as many trials as were wanted were answered, and goes on.
func (d *pipelining) proved() {
	if d.depth == d.proven {
		return
	}
	if d.proven = d.depth; d.proven == d.most {
		d.why = bpf.EproxyDepthWhyDEPTH_PROVEN
		return
	}
	d.try()
}

// failed notes that something went wrong on a connection with several requests in
// flight. What else comes of the same depth, on other connections, is no further trouble.
func (d *pipelining) failed(why bpf.EproxyDepthWhy, now time.Duration) {
	if !d.auto || d.depth == 1 {
		return
	}
	d.penalty = min(2*d.penalty, troubleMost)
	if d.penalty == 0 || now-d.last > troubleQuiet*d.penalty {
		d.penalty = troubleMin
	}
	d.last, d.retry = now, now+d.penalty
	d.proven, d.depth, d.why = 1, 1, why
}

// forget: the pod takes no connections. What comes back may be another server; but one
// that fails whenever this is tried is left alone as before.
func (d *pipelining) forget() {
	d.quota = 0
	if d.auto && d.depth > 1 {
		d.proven, d.depth, d.why = 1, 1, bpf.EproxyDepthWhyDEPTH_UNUSED
	}
}

// cut notes that the pod has closed a connection after so many responses, as it had
// announced, with more requests in flight.
func (d *pipelining) cut(answered int) {
	if d.quota == 0 || answered < d.quota {
		d.quota = max(1, answered)
	}
}

// carried notes how many requests a connection has carried.
func (d *pipelining) carried(requests int) {
	if requests > 2*d.quota {
		d.quota = 0
	}
}

// setPipeline gives the pod the depth that its configuration says; scale.mu is not held.
func (ps *podState) setPipeline(pipeline int) {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	ps.scale.pipe.configure(pipeline, int(ps.plane.depth))
	ps.showDepth()
}

// showDepth lets the programs know what the pod's connections may have in flight.
// scale.mu is held. Memory comes first. What is trouble now may be so for the next
// trial: less is allowed before the trials end.
func (ps *podState) showDepth() {
	d := &ps.scale.pipe
	if d.depth > 1 && !ps.deepen() {
		d.forget()
		if !d.auto {
			d.proven, d.depth = 1, 1
		}
	}
	trying := d.depth > d.proven
	if !trying {
		atomic.StoreInt32(&ps.mem.Wanted, 0)
	} else if atomic.LoadUint32(&ps.mem.Depth) != uint32(d.depth) {
		atomic.StoreInt32(&ps.mem.Wanted, proofs)
	}
	wait := time.Duration(0)
	if d.auto {
		wait = waitBound
	}
	atomic.StoreUint32(&ps.mem.WaitNs, uint32(wait))
	atomic.StoreUint32(&ps.mem.Proven, uint32(d.proven))
	atomic.StoreUint32(&ps.mem.Depth, uint32(d.depth))
	atomic.StoreUint32(&ps.mem.Why, uint32(d.why))
	atomic.StoreUint64(&ps.mem.Trial, ps.trialSlot(trying))
}

// deepen gives the pod's slots the memory for more than one request. It says whether
// there is some. scale.mu is held.
func (ps *podState) deepen() bool {
	if ps.deep.Swap(true) {
		return true
	}
	for _, s := range ps.slots {
		if !s.open {
			continue // it gets its own when it is dialled
		}
		if err := ps.plane.growSlot(s.index, true); err != nil {
			ps.plane.log.Warn("no memory for several requests on a connection", "function", ps.id.Function, "pod", ps.id.Address, "error", err)
			ps.deep.Store(false)
			return false
		}
	}
	return true
}

// trialSlot is the mask of the slot on which trials are made: the same as long as it
// is open. scale.mu is held.
func (ps *podState) trialSlot(trying bool) uint64 {
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
func (ps *podState) mayTry(now time.Duration) bool {
	d := &ps.scale.demand
	return d.proven && !d.closes() && ps.scale.open > 0 && d.more(ps.scale.open, 1) == 0 && ps.scale.pipe.may(now)
}

// proved: the pod has answered as many trials as were wanted.
func (ps *podState) proved() {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	if ps.gone.Load() || atomic.LoadInt32(&ps.mem.Wanted) > 0 {
		return
	}
	ps.scale.pipe.proved()
	ps.showDepth()
	ps.plane.log.Debug("pod answers several requests on one connection", "function", ps.id.Function, "pod", ps.id.Address, "proven", ps.scale.pipe.proven)
}

// troubled notes that something went wrong on a connection with several requests in
// flight; scale.mu is not held.
func (ps *podState) troubled(why bpf.EproxyDepthWhy, cause error) {
	p := ps.plane
	p.mu.Lock()
	rec := p.recorder
	p.mu.Unlock()
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	if ps.gone.Load() {
		return
	}
	atomic.AddUint32(&ps.mem.Troubles, 1)
	if rec != nil {
		rec.PipelineTrouble(ps.id.Function, ps.id.Address.String(), whyNames[why])
	}
	d := &ps.scale.pipe
	before := d.depth
	d.failed(why, monotonic())
	if d.depth < before {
		p.log.Info("pod gets one request at a time on a connection: it did not answer several", "function", ps.id.Function, "pod", ps.id.Address,
			"reason", whyNames[why], "error", cause, "again_in", d.penalty)
	}
	ps.showDepth()
	ps.settle()
}

// whyNames are the values of the label reason.
var whyNames = map[bpf.EproxyDepthWhy]string{
	bpf.EproxyDepthWhyDEPTH_CLOSED:  "closed",
	bpf.EproxyDepthWhyDEPTH_STALLED: "stalled",
	bpf.EproxyDepthWhyDEPTH_BROKEN:  "broken",
	bpf.EproxyDepthWhyDEPTH_STATUS:  "status",
}

// whyEnded is what the end of a connection says about a pod that left some of several
// requests unanswered.
func whyEnded(err error) bpf.EproxyDepthWhy {
	var socket *net.OpError
	switch {
	case errors.Is(err, errTrial), errors.Is(err, errTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return bpf.EproxyDepthWhyDEPTH_STALLED
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &socket):
		return bpf.EproxyDepthWhyDEPTH_CLOSED
	}
	return bpf.EproxyDepthWhyDEPTH_BROKEN
}

// unreadable says whether a status is what servers answer to what they cannot read as a
// request, as one that stands behind another is to some.
func unreadable(status int) bool { return slices.Contains([]int{400, 408, 431, 501, 505}, status) }
