// Package depth finds out how many requests the connections to a pod may have in flight.
package depth

import (
	"slices"
	"time"

	"eproxy/internal/config"
)

const (
	// Proofs is how many trials a pod must answer before connections to it have as many
	// requests in flight as was tried.
	Proofs = 16
	// After something went wrong nothing is tried for troubleMin, which doubles up to
	// troubleMost, and is troubleMin again after a quiet time of troubleQuiet times as long.
	troubleMin   = time.Second
	troubleMost  = 5 * time.Minute
	troubleQuiet = 16
	// WaitBound is how long a request is likely to wait behind others of its
	// connection, at most, where the depth is found out.
	WaitBound = 50 * time.Millisecond
)

// Why a pod's connections have as many requests in flight as they have at most. The values are those
// of enum depth_why (abi.h).
type Why uint32

const (
	Fixed   Why = iota // the configuration says so
	Unused             // more was not needed yet
	Trying             // more is being tried
	Proven             // it has answered so many in order
	Closed             // it closed a connection with requests unanswered
	Stalled            // it answered one of several, and the next took too long
	Broken             // what it sent was no response to what was asked
	Status             // it refused a request that was a trial
)

// troubles are the names of what goes wrong: values of the label reason.
var troubles = map[Why]string{Closed: "closed", Stalled: "stalled", Broken: "broken", Status: "status"}

// Name is the trouble's name, the value of a metric's label; "" for what is no trouble.
func (w Why) Name() string { return troubles[w] }

// Depth is how many requests a connection to a pod may have in flight: as the
// configuration says, or as the pod was seen to answer in order. Times are those of one
// monotonic clock. Whoever uses it sees to it that nobody else does at the same time.
type Depth struct {
	Auto    bool
	most    int
	Proven  int // any connection may have so many
	Tried   int // one connection may have so many, of QoS 1: it is tried what the pod does
	Why     Why
	Penalty time.Duration // since the latest trouble
	last    time.Duration // when that was
	Retry   time.Duration // when more is tried again
	Quota   int           // requests after which the pod has closed a connection that had more in flight; 0: it never did
}

// Configure follows the configuration: a number, or config.PipelineAuto; most is what
// the programs can do. What was found out is kept while it is auto.
func (d *Depth) Configure(pipeline, most int) {
	switch {
	case pipeline != config.PipelineAuto:
		n := max(1, min(pipeline, most))
		*d = Depth{most: n, Proven: n, Tried: n, Why: Fixed}
	case !d.Auto:
		*d = Depth{Auto: true, most: most, Proven: 1, Tried: 1, Why: Unused}
	}
}

// May says whether more may be tried now.
func (d *Depth) May(now time.Duration) bool {
	return d.Auto && d.Tried == d.Proven && d.Proven < d.most && now >= d.Retry
}

// Try lets one connection have twice as many requests in flight as are proven.
func (d *Depth) Try() {
	d.Tried, d.Why = min(2*d.Proven, d.most), Trying
}

// Proved notes that as many trials as were wanted were answered, and goes on.
func (d *Depth) Proved() {
	if d.Tried == d.Proven {
		return
	}
	if d.Proven = d.Tried; d.Proven == d.most {
		d.Why = Proven
		return
	}
	d.Try()
}

// Failed notes that something went wrong on a connection with several requests in
// flight. What else comes of the same depth, on other connections, is no further trouble.
func (d *Depth) Failed(why Why, now time.Duration) {
	if !d.Auto || d.Tried == 1 {
		return
	}
	d.Penalty = min(2*d.Penalty, troubleMost)
	if d.Penalty == 0 || now-d.last > troubleQuiet*d.Penalty {
		d.Penalty = troubleMin
	}
	d.last, d.Retry = now, now+d.Penalty
	d.Proven, d.Tried, d.Why = 1, 1, why
}

// Forget: the pod takes no connections. What comes back may be another server; but one
// that fails whenever this is tried is left alone as before.
func (d *Depth) Forget() {
	d.Quota = 0
	if d.Auto && d.Tried > 1 {
		d.Proven, d.Tried, d.Why = 1, 1, Unused
	}
}

// Cut notes that the pod has closed a connection after so many responses, as it had
// announced, with more requests in flight.
func (d *Depth) Cut(answered int) {
	if d.Quota == 0 || answered < d.Quota {
		d.Quota = max(1, answered)
	}
}

// Carried notes how many requests a connection has carried.
func (d *Depth) Carried(requests int) {
	if requests > 2*d.Quota {
		d.Quota = 0
	}
}

// Unreadable says whether a status is what servers answer to what they cannot read as a
// request, as one that stands behind another is to some.
func Unreadable(status int) bool { return slices.Contains([]int{400, 408, 431, 501, 505}, status) }
