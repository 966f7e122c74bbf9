package scale

import "time"

// How a pod's slots follow what its server was seen to do.
const (
	// stallMin is how long the first response on a connection may take before
	// idle connections to the pod are closed, where nothing is known of its server.
	stallMin = 250 * time.Millisecond
	// A server that answers once idle connections are closed gets half of them, and
	// more are tried again after penaltyMin, which doubles up to penaltyMost.
	penaltyMin  = 10 * time.Second
	penaltyMost = 5 * time.Minute
)

// demand says how many slots a pod may have: as many as the load needs, and as its
// server can do with. Times are those of clock.Monotonic().
type demand struct {
	most    int           // places of the pod
	ceiling int           // slots that its server can do with; at most most
	proven  bool          // it has answered a request
	kept    bool          // it has answered several requests on one connection
	single  int           // connections in a row that it closed with their first response
	jams    int           // requests in a row that it answered once idle connections were closed
	penalty time.Duration // since the latest jam
	retry   time.Duration // when more slots than ceiling are tried; 0: ceiling is most
	beside  int           // silent slots beside which it has answered a request on a new connection
	service time.Duration // of a request, smoothed
}

func newDemand(most int) demand { return demand{most: most, ceiling: most} }

// closes says whether the server closes its connections with each response: what
// is dialled in advance serves one request, and costs more than it saves. A server
// that keeps them may close some early.
func (d *demand) closes() bool { return d.single > 0 && !d.kept || d.single >= 3 }

// more is how many slots to dial beside the open ones, where so many messages found
// none: as many, or as many again, so that the next burst has what it needs. One
// where it is not known yet what the server does with it.
func (d *demand) more(open, lacked int) int {
	switch {
	case d.closes() || open >= d.ceiling:
		return 0
	case !d.proven:
		return 1
	}
	return min(max(1, open, lacked), d.ceiling-open)
}

// answered notes a response, and how long it took.
func (d *demand) answered(took time.Duration) {
	d.proven = true
	if d.service == 0 {
		d.service = took
	}
	d.service += (took - d.service) / 8
}

// reused notes that a connection has carried another request.
func (d *demand) reused() { d.kept, d.single = true, 0 }

// ended notes that the server closed a connection with its first response.
func (d *demand) ended() { d.single++ }

// patience is how long the first response on a connection may take: longer than
// the server needs, and so much less than the timeout of a request that it is
// answered in time once the reason is gone.
func (d *demand) patience(timeout time.Duration) time.Duration {
	return min(max(stallMin, 4*d.service), timeout/4)
}

// jammed notes how a request fared for which idle connections were closed. Two
// that were answered then, and would not have been, show that the server reads a
// few connections at a time, whether anything comes on them or not.
func (d *demand) jammed(open int, helped bool, now time.Duration) {
	if !helped {
		d.jams = 0
		return
	}
	d.beside = 0
	if d.jams++; d.jams < 2 {
		return
	}
	d.jams = 0
	d.ceiling = min(d.ceiling, open/2)
	d.penalty = min(max(penaltyMin, 2*d.penalty), penaltyMost)
	d.retry = now + d.penalty
}

// flowed notes that a request on a new connection was answered soon, beside so many
// older ones on which nothing has come.
func (d *demand) flowed(silent int) {
	d.jams = 0
	d.beside = max(d.beside, silent)
}

// lift raises the ceiling again once that is to be tried.
func (d *demand) lift(now time.Duration) {
	if d.retry == 0 || now < d.retry {
		return
	}
	d.ceiling = min(max(1, 2*d.ceiling), d.most)
	d.retry = now + d.penalty
	if d.ceiling == d.most {
		d.retry = 0
	}
}

// forget: the pod takes no connections. What comes back may be another server.
func (d *demand) forget() { *d = newDemand(d.most) }

// resize gives the pod another number of places.
func (d *demand) resize(most int) {
	if d.retry == 0 {
		d.ceiling = most
	}
	d.most, d.ceiling = most, min(d.ceiling, most)
}
