package pool

import (
	"errors"
	"time"

	"eproxy/internal/depth"
)

const (
	// followTime is how long a request is likely to wait behind others on the connection that its
	// client's last one went to; beyond it a free place is better. Requests that are written, and
	// read by the pod, together cost a fraction of what they cost one by one.
	followTime = depth.WaitBound
	// behindTime is the same where there is no free place.
	behindTime = depth.WaitBound
	// deepest is how many requests a pod may have in flight on one connection at most.
	deepest = 64
)

// started is when the clock of the pool's depths began.
var started = time.Now()

// pipe is how many requests a pod may have in flight on one connection. What stands behind others when a
// connection ends may have been read or not. So a request is behind others only where the configuration says that
// the pod pipelines, or where it was seen to: by the pool, or by the others that use the pod. The pool's mu is held.
type pipe struct {
	depth.Depth
	troubles uint32        // of the others' with the pod, as seen last
	trial    *conn         // where it is tried what the pod does; nil: nowhere
	wanted   int           // trials that are still to be answered
	pace     time.Duration // from one response on a connection to the next, smoothed
}

// answered notes how long it took to a response.
func (d *pipe) answered(took time.Duration) { d.pace += (took - d.pace) / 64 }

// most is how many requests each connection to the pod may have in flight.
func (p *pod) most() int {
	d := &p.pipe
	if p.shared == nil || !d.Auto {
		return d.Proven
	}
	proven, troubles := p.shared.Depth()
	if troubles != d.troubles {
		d.troubles = troubles
		d.Failed(depth.Broken, time.Since(started))
	}
	return max(d.Proven, proven)
}

// takes says whether one more call may be sent behind those that are under way on the connection, and is likely
// to wait for them no longer than that. None that must not be sent again is put beside a trial. The pool's mu is held.
func (c *conn) takes(call *Call, wait time.Duration) bool {
	most := c.pod.most()
	return c.open(wait) && c.inFlight < most && !c.overstays(most) && (call.Repeatable || c.trials == 0) && (c.pod.trying(most) != c || c.waits(call, most))
}

// overstays says whether a connection had its turn at a place that others wait for.
func (c *conn) overstays(most int) bool {
	return c.run >= most && c.pod.shared != nil && c.pod.shared.Contended()
}

// trying is the connection where it is being tried what the pod does; nil: nowhere.
func (p *pod) trying(most int) *conn {
	if d := &p.pipe; d.Tried > most {
		return d.trial
	}
	return nil
}

// tries says whether it is being tried what the pod does, or may be.
func (p *pod) tries() bool {
	return p.pipe.Tried > p.most() || p.pipe.May(time.Since(started))
}

// plainRun is how many times what is proven is sent, at most, before a connection for trials is idle again that has
// something on it that must not be sent again.
const plainRun = 2

// waits says whether a call may go behind others on the connection for trials: those that may be sent again gather there,
// the others come and go.
func (c *conn) waits(call *Call, most int) bool {
	if c.once == 0 {
		return call.Repeatable
	}
	return c.run < plainRun*most
}

// open says whether anything may be sent behind what is under way on the connection; the pool's mu is held.
func (c *conn) open(wait time.Duration) bool {
	d := &c.pod.pipe
	if c.inFlight == 0 || c.dead || c.pod.gone || time.Duration(c.inFlight)*d.pace > wait {
		return false
	}
	return !d.Auto || !c.answered.IsZero() && (d.Quota == 0 || c.carried < d.Quota)
}

// shortest is the connection that a call waits least on, behind others; nil if there is none where it
// may. The pool's mu is held.
func (f *function) shortest(call *Call) (best *conn) {
	for _, p := range f.pods {
		for _, c := range p.busy {
			if c.takes(call, behindTime) && (best == nil || c.wait() < best.wait()) {
				best = c
			}
		}
	}
	return best
}

// wait is how long the next request is likely to wait; the pool's mu is held.
func (c *conn) wait() time.Duration { return time.Duration(c.inFlight) * max(c.pod.pipe.pace, 1) }

// trying is the connection that the batch's last call went to, if this one may go behind it to see what the pod
// does; nil: it may not. Only calls that may be sent again meet there. The trials with two are pairs that are
// written together, with nothing added until both are answered: a server that answers one of several
// and forgets the others would answer a later one in their place. The pool's mu is held.
func (s *Standalone) trying(f *function, call *Call) *conn {
	c := s.batch.last
	if c == nil || c.f != f || !call.Repeatable || c.once > 0 || !c.open(behindTime) {
		return nil
	}
	p, most := c.pod, c.pod.most()
	d := &p.pipe
	if d.May(time.Since(started)) {
		d.Try()
		d.trial, d.wanted = nil, depth.Proofs
	}
	if d.Tried <= most || c.inFlight < most || c.inFlight >= d.Tried || c.overstays(d.Tried) {
		return nil
	}
	if most == 1 && (c.run > 1 || !c.unwritten()) {
		return nil
	}
	if d.trial == nil || d.trial.dead {
		d.trial = c
	}
	if d.trial != c {
		return nil
	}
	call.trial = d.Tried
	return c
}

// gather puts calls that may be sent again behind others on the connection for trials, if the last one went there,
// also though others wait before them: where most must not be, trials would be rare. s.mu is held.
func (s *Standalone) gather(f *function) {
	const far = 128
	at := s.batch.last
	if at == nil || at.f != f || at.once > 0 || !at.pod.tries() {
		return
	}
	now := time.Now()
	repeatable := func(t *turn) bool { return t.call != nil && t.call.Repeatable }
	joins := func(t *turn) bool {
		if !at.takes(t.call, behindTime) && s.trying(f, t.call) != at || !s.put(at, t.call, now) {
			return false
		}
		return f.leave(t)
	}
	for before := 0; before != f.turns.Len(); {
		before = f.turns.Len()
		if !f.turns.round(far, repeatable, joins) {
			return
		}
	}
}

// tried notes a trial that was answered. The pool's mu is held.
func (p *pod) tried(c *conn, call *Call) {
	d := &p.pipe
	if d.trial != c || call.trial != d.Tried || d.Tried == d.Proven || !call.held {
		return
	}
	if d.wanted--; d.wanted == 0 {
		d.Proved()
		d.wanted = depth.Proofs
	}
}

// unwritten says whether nothing of what is under way on the connection was given to the socket yet.
func (c *conn) unwritten() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls) > 0 && c.out.Given() <= c.calls[0].end-uint64(len(c.calls[0].Request))
}

// tries says whether there are trials among the calls that are not answered.
func (c *conn) tries() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tested > 0
}

// hold notes the trials that the pod had, acknowledged by its TCP, when it answered the oldest call.
func (c *conn) hold(acknowledged uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tested == 0 {
		return
	}
	for i, call := range c.calls {
		if call.trial > 0 && i >= call.trial/2 && call.end <= acknowledged {
			call.held = call.together
		}
	}
}

// errStalled is the end of a connection on which a request behind others was not answered in time.
var errStalled = errors.New("a request behind others of its connection was not answered in time")

// Troubles counts.
type Troubles interface {
	// PipelineTrouble counts a connection that ended, for this reason, with one of several requests unanswered.
	PipelineTrouble(function, pod, reason string)
}

// CountTo has troubles counted with pods that nobody else uses; before the first Acquire.
func (s *Standalone) CountTo(t Troubles) { s.count = t }

// troubled notes that something went wrong on a connection with several requests in flight; the pool's mu is not held.
func (s *Standalone) troubled(c *conn, why depth.Why, cause error) {
	s.lock(nil)
	p := c.pod
	shared, d := p.shared, &p.pipe
	before := d.Tried
	d.Failed(why, time.Since(started))
	fell, again := d.Tried < before, d.Penalty
	s.unlock()
	switch {
	case shared != nil:
		shared.Troubled(why, cause)
		return
	case s.count != nil:
		s.count.PipelineTrouble(c.f.name, p.name, why.Name())
	}
	if fell && s.log != nil {
		s.log.Warn("pod gets one request at a time on a connection: it did not answer several", c.f.name, "function", c.f.name, "pod", p.addr,
			"reason", why.Name(), "error", cause, "again_in", again)
	}
}
