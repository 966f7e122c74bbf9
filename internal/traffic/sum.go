package traffic

import (
	"net/netip"
	"time"
)

// Sum is what has happened until a moment.
type Sum struct {
	Arrived  int64         // messages or requests that have come
	Integral time.Duration // how long each of them took so far, all together: the integral of their number over time
}

// Plus is both together.
func (s Sum) Plus(o Sum) Sum { return Sum{s.Arrived + o.Arrived, s.Integral + o.Integral} }

// Minus is one without what is in it of another.
func (s Sum) Minus(o Sum) Sum { return Sum{s.Arrived - o.Arrived, s.Integral - o.Integral} }

// Rate is what happened in a while.
type Rate struct {
	Concurrency float64 // on average
	Arrived     float64 // in this while
}

// Meter makes rates of sums. The zero Meter has seen nothing: its first rate is zero.
//
// A sum is read in several places, one after the other, and what moves from one to the
// other meanwhile may be missing once, or be less than before. So a rate is never
// negative, and what it should have been is taken off those that follow: no more is
// reported than there was.
type Meter struct {
	begun bool
	last  Sum
	at    time.Duration
}

// Begin has the first rate be what happens from now on, if there was none yet.
func (m *Meter) Begin(s Sum, now time.Duration) {
	if !m.begun {
		*m = Meter{true, s, now}
	}
}

// Rate is what happened since the sum before. now is of the clock that the sum was made by.
func (m *Meter) Rate(s Sum, now time.Duration) Rate {
	m.Begin(s, now)
	passed := now - m.at
	if passed <= 0 {
		return Rate{}
	}
	d := s.Minus(m.last)
	m.at = now
	m.last.Arrived += max(0, d.Arrived)
	m.last.Integral += max(0, d.Integral)
	return Rate{Concurrency: float64(max(0, d.Integral)) / float64(passed), Arrived: float64(max(0, d.Arrived))}
}

// HTTP is what a pod got from anybody.
type HTTP struct {
	All     Sum // of the programs' own requests those that were answered
	Probes  Sum // of those, the kubelet's
	Proxied Sum // of those, what Knative's activator has counted
	Own     Sum // of those, the programs' own
}

// Pod is a pod of a function.
type Pod struct {
	Function string
	Address  netip.AddrPort
}

// Loads are what the programs have had to do.
type Loads struct {
	// Functions are the messages of each function: from when the programs took one to when it was answered, or userspace had
	// it, with what it waited.
	Functions map[string]Sum
	// Pods are the requests that each pod has not answered: how many, and for how long it has had them.
	Pods map[Pod]Sum
}
