package observe

import (
	"fmt"
	"net/netip"
	"time"

	"eproxy/internal/bpf/observer"
	"eproxy/internal/traffic"
)

// counts reads a pod's, of all processors; o.mu is held.
func (o *Observer) counts(p *pod, sum *observer.ObserveObserveCounts) error {
	*sum = observer.ObserveObserveCounts{}
	if err := o.objs.Observed.Lookup(p.index, o.each); err != nil {
		return fmt.Errorf("read the counters of pod %s: %w", p.address, err)
	}
	for i := range o.each {
		add(sum, &o.each[i])
	}
	return nil
}

// flown is an integral of requests in flight: the programs know its low bits only.
type flown struct {
	low uint64 // when it was last read
	sum uint64 // nanoseconds
}

// until is the integral with what came since it was read last.
func (f *flown) until(low uint64) uint64 {
	if more := observer.Since(f.low, low); more > 0 {
		f.low, f.sum = low, f.sum+more
	}
	return f.sum
}

// flight is what of a pod is in flight, with the integrals until now, in nanoseconds, also of what was put in for it.
type flight struct {
	now    int32
	all    uint64
	marked [observer.ObserveObserveMarkMARK_COUNT - 1]uint64
}

// flight reads what is in flight to a pod that has counted so much; o.mu is held.
func (o *Observer) flight(p *pod, c *observer.ObserveObserveCounts) (f flight, err error) {
	var words observer.ObserveObserveFlight
	if err := o.objs.ObservedFlight.Lookup(p.index, &words); err != nil {
		return f, fmt.Errorf("read what is in flight to pod %s: %w", p.address, err)
	}
	x := words.At(monotonic()) // of later than the words
	f.now = x.All.Now
	f.all = p.flown[0].until(x.All.Integral) + c.OwnNs
	for i, m := range x.Marked {
		f.marked[i] = p.flown[1+i].until(m.Integral)
	}
	f.marked[observer.ObserveObserveMarkMARK_OWN-1] = c.OwnNs
	return f, nil
}

// HTTP is that of a pod until now; false if it cannot be observed.
func (o *Observer) HTTP(address netip.AddrPort) (h traffic.HTTP, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pods[address]
	if p == nil || p.ifname == "" {
		return h, false
	}
	var c observer.ObserveObserveCounts
	if o.counts(p, &c) != nil {
		return h, false
	}
	f, err := o.flight(p, &c)
	if err != nil {
		return h, false
	}
	marked := func(m observer.ObserveObserveMark) traffic.Sum {
		return traffic.Sum{Arrived: int64(c.Marked[m-1]), Integral: time.Duration(f.marked[m-1])}
	}
	return traffic.HTTP{
		All:    traffic.Sum{Arrived: int64(c.Requests), Integral: time.Duration(f.all)},
		Probes: marked(observer.ObserveObserveMarkMARK_PROBE), Proxied: marked(observer.ObserveObserveMarkMARK_PROXIED),
		Own: marked(observer.ObserveObserveMarkMARK_OWN),
	}, true
}

// Interface is the one that leads to an observed pod; empty: none is known.
func (o *Observer) Interface(address netip.AddrPort) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.pods[address]; p != nil {
		return p.ifname
	}
	return ""
}

// add adds what one processor has counted.
func add(sum, c *observer.ObserveObserveCounts) {
	sum.Requests += c.Requests
	sum.Unanswered += c.Unanswered
	sum.Unknown += c.Unknown
	sum.Untimed += c.Untimed
	sum.RequestBytes += c.RequestBytes
	sum.ResponseBytes += c.ResponseBytes
	sum.Peak = max(sum.Peak, c.Peak)
	sum.OwnNs += c.OwnNs
	sum.TookNs += c.TookNs
	sum.FirstNs += c.FirstNs
	addAll(sum.Marked[:], c.Marked[:])
	addAll(sum.Responses[:], c.Responses[:])
	addAll(sum.Protocols[:], c.Protocols[:])
	addAll(sum.Unfollowed[:], c.Unfollowed[:])
	addAll(sum.Took[:], c.Took[:])
	addAll(sum.First[:], c.First[:])
}

func addAll(sum, more []uint64) {
	for i, n := range more {
		sum[i] += n
	}
}
