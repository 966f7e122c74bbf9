package pool

import "time"

const (
	// followTime is how long a request is likely to wait behind others on the connection that its
	// client's last one went to; beyond it a free place is better. Requests that are written, and
	// read by the pod, together cost a fraction of what they cost one by one.
	followTime = 50 * time.Millisecond
	// behindTime is the same where there is no free place.
	behindTime = 50 * time.Millisecond
)

// depth is how many requests a pod may have in flight on one connection. What stands behind others when a
// connection ends may have been read or not, also where the pod has said that it closes: some servers read
// ahead. So a request is behind others only where the configuration says that the pod pipelines. The pool's mu
// is held.
type depth struct {
	most int           // as configured
	pace time.Duration // from one response on a connection to the next, smoothed
}

// answered notes how long it took to a response.
func (d *depth) answered(took time.Duration) { d.pace += (took - d.pace) / 64 }

// takes says whether one more call may be sent behind those that are under way on the connection, and is likely
// to wait for them no longer than that. The pool's mu is held.
func (c *conn) takes(wait time.Duration) bool {
	d := &c.pod.depth
	if c.inFlight == 0 || c.dead || c.pod.gone {
		return false
	}
	return c.inFlight < d.most && time.Duration(c.inFlight)*d.pace <= wait
}

// shortest is the connection that a call waits least on, behind others; nil if there is none where it
// may. The pool's mu is held.
func (f *function) shortest() (best *conn) {
	for _, p := range f.pods {
		for _, c := range p.busy {
			if c.takes(behindTime) && (best == nil || c.wait() < best.wait()) {
				best = c
			}
		}
	}
	return best
}

// wait is how long the next request is likely to wait; the pool's mu is held.
func (c *conn) wait() time.Duration { return time.Duration(c.inFlight) * max(c.pod.depth.pace, 1) }
