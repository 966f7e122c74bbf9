package instances

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// want is how many instances there should be, and after which time to ask again at the latest.
func (s *set) want() (n int, look time.Duration) {
	if s.run.Min == s.run.Max {
		return s.run.Min, never
	}
	x := seen{now: now(), min: s.run.Min, max: s.run.Max, lambda: s.run.Lambda}
	if load := s.r.load.Load(); load != nil {
		x.load = (*load)(s.name)
	}
	have, latest := s.look(&x)
	if !latest {
		return have, never // they end soon
	}
	n, look = s.decide(&x)
	if x.arrived {
		s.r.usedNow(s)
	}
	return n, look
}

// decide has the scaler decide by what was seen, and adds to that what the function itself knows.
func (s *set) decide(x *seen) (n int, look time.Duration) {
	asked, answered := s.r.counts(s.name)
	s.function.mu.Lock()
	defer s.function.mu.Unlock()
	x.start = s.starts.quantile(0.5)
	x.arrived = s.arrivals.since(asked, answered, x.load.Requests > 0)
	return s.scaler.want(*x)
}

// look sees how the instances are. It returns how many there are, but for those that end, and whether no other set has come after
// this one.
func (s *set) look(x *seen) (have int, latest bool) {
	s.mu.Lock()
	all := s.staying()
	s.mu.Unlock()
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	for _, i := range all {
		if i.status.Pod {
			x.pods++
		}
		switch i.status.State {
		case Starting:
			x.awake++
			x.starting++
		case Ready, Dozing:
			x.awake++
		case Failed:
			x.failed = i.status.Reason
		case Frozen, PagedOut, Stopping, Stopped:
		}
	}
	return len(all), s.latest() == s
}

// counts are the requests that a function has had: from userspace, and by pod in the kernel.
func (r *Runtime) counts(function string) (asked uint64, answered map[netip.AddrPort]uint64) {
	if x, ok := r.asked.Load(function); ok {
		asked = x.(*atomic.Uint64).Load()
	}
	if r.answered == nil {
		return asked, nil
	}
	answered = make(map[netip.AddrPort]uint64)
	r.mu.Lock()
	for _, i := range r.used {
		if i.function == function {
			answered[i.status.Address] = 0
		}
	}
	r.mu.Unlock()
	for pod := range answered {
		answered[pod] = r.answered(function, pod)
	}
	return asked, answered
}

// arrivals finds out from counts whether messages have come.
type arrivals struct {
	called   bool // a message waits, and there is no pod
	owed     bool // such a message was counted, and it has not been answered
	asked    uint64
	answered map[netip.AddrPort]uint64
}

// since says whether messages have come since it was last asked. busy: some wait, or are in flight. One that was counted when it came
// is not counted when it is answered.
func (a *arrivals) since(asked uint64, answered map[netip.AddrPort]uint64, busy bool) bool {
	more := asked != a.asked
	a.asked = asked
	for pod, n := range answered {
		if n == 0 || n == a.answered[pod] { // of one that is no pod nothing is known
			continue
		}
		if a.answered == nil {
			a.answered = make(map[netip.AddrPort]uint64)
		}
		more, a.answered[pod] = true, n
	}
	called := a.called
	a.called = false
	switch {
	case called:
		a.owed = true
		return true
	case more && a.owed:
		a.owed = false
		return false
	case !busy:
		a.owed = false
	}
	return more
}
