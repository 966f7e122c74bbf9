package pool

import "time"

const (
	// followTime is how long a request is likely to wait behind others on the connection that its
	// client's last one went to; beyond it a free place is better. Requests that are written, and
	// read by the pod, together cost a fraction of what they cost one by one.
	followTime = 50 * time.Millisecond
	// behindTime is the same where there is no free place.
	behindTime = 50 * time.Millisecond
	// deepest is how many requests a pod ever has in flight on one connection.
	deepest = 64
	// proofs is how many requests a pod has to answer behind as many others as ever before until
	// it may have twice as many.
	proofs = 8
	// After trouble none is tried for troubleTime, which doubles up to troubleMost.
	troubleTime = 10 * time.Second
	troubleMost = 5 * time.Minute
)

// depth is how many requests a pod may have in flight on one connection. The pool's mu is held.
type depth struct {
	fixed   int // as configured; 0: as many as the pod has shown that it answers in order
	shown   int
	proved  int           // requests answered at the next depth
	trouble int           // how often it came to nothing, in a row
	again   time.Time     // when it is tried again
	pace    time.Duration // from one response on a connection to the next, smoothed
}

// most is how many requests may be in flight on a connection with one more; harmless: that one is, all: those
// that are there, too. What stands behind others when a connection ends may have been read or not, also
// where the pod has said that it closes: some servers read ahead. So a message that must not be repeated is behind
// others only where the configuration says that the pod pipelines.
func (d *depth) most(harmless, all bool, now time.Time) int {
	shown := max(d.shown, 1)
	switch {
	case d.fixed > 0:
		return d.fixed
	case !harmless:
		return 1
	case !all || now.Before(d.again):
		return shown
	}
	return min(2*shown, deepest)
}

// answered notes a response to a request that was sent behind so many others.
func (d *depth) answered(ahead int, took time.Duration) {
	d.pace += (took - d.pace) / 64
	if ahead < max(d.shown, 1) || d.shown >= deepest {
		return
	}
	if d.proved++; d.proved >= proofs {
		d.shown, d.proved, d.trouble = min(2*max(d.shown, 1), deepest), 0, 0
	}
}

// broke notes that a connection ended with requests behind others.
func (d *depth) broke(now time.Time) {
	d.again = now.Add(min(troubleTime<<d.trouble, troubleMost))
	d.trouble = min(d.trouble+1, 10)
	d.shown, d.proved = 1, 0
}

// takes says whether a call may be sent behind those that are under way on the connection, and is likely to
// wait for them no longer than that. The pool's mu is held.
func (c *conn) takes(call *Call, now time.Time, wait time.Duration) bool {
	d := &c.pod.depth
	if c.inFlight == 0 || c.dead || c.pod.gone || d.fixed == 0 && c.answered.IsZero() { // a server that closes after each response is not tried
		return false
	}
	return c.inFlight < d.most(call.Harmless, c.harmless, now) && time.Duration(c.inFlight)*d.pace <= wait
}

// shortest is the connection that a call waits least on, behind others; nil if there is none where it
// may. The pool's mu is held.
func (f *function) shortest(call *Call, now time.Time) (best *conn) {
	for _, p := range f.pods {
		for _, c := range p.busy {
			if c.takes(call, now, behindTime) && (best == nil || c.wait() < best.wait()) {
				best = c
			}
		}
	}
	return best
}

// wait is how long the next request is likely to wait; the pool's mu is held.
func (c *conn) wait() time.Duration { return time.Duration(c.inFlight) * max(c.pod.depth.pace, 1) }
