package slots

import (
	"sync/atomic"
	"time"

	"eproxy/internal/traffic"
)

// Load is what the pod's slots have in flight: for how long with the time that it waited
// for them, and without.
func (ps *Pod) Load(now time.Duration) (with time.Duration, alone traffic.Sum) {
	for _, s := range ps.slots {
		if !s.grown.Load() {
			continue
		}
		mem := s.memory()
		for n := atomic.LoadUint32(&mem.Head); n != atomic.LoadUint32(&mem.Tail); n++ {
			m := &mem.Messages[n&(ps.all.Memory.Pipeline-1)]
			taken, waited := time.Duration(atomic.LoadUint64(&m.TakenNs)), time.Duration(atomic.LoadUint32(&m.WaitedUs))*time.Microsecond
			if int32(n-atomic.LoadUint32(&mem.Head)) < 0 { // answered meanwhile: it may be another one's place
				continue
			}
			took := max(0, now-taken)
			with += took + waited
			alone = alone.Plus(traffic.Sum{Arrived: 1, Integral: took})
		}
	}
	return with, alone
}

// Placed is how many of userspace's messages have a place at a pod of a function.
func (p *Pods) Placed(function string) (placed int) {
	for _, ps := range p.functions.of(function) {
		placed += int(atomic.LoadUint32(&ps.mem.Fallback))
	}
	return placed
}

// InFlightOf is how many requests of the programs the pods of a function have not answered.
func (p *Pods) InFlightOf(function string) (n int) {
	for _, ps := range p.functions.of(function) {
		n += ps.inFlight()
	}
	return n
}
