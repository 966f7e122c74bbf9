package dataplane

import (
	"sync/atomic"
	"time"

	"eproxy/internal/traffic"
)

// Loads reads what the programs have had to do for some functions until now, of
// monotonic(). One goroutine at a time may call it.
func (p *Plane) Loads(wanted func(function string) bool, now time.Duration) (traffic.Loads, error) {
	l := traffic.Loads{Functions: make(map[string]traffic.Sum), Pods: make(map[traffic.Pod]traffic.Sum)}
	// What ends meanwhile is missing once; the other way round it would count twice.
	counts, err := p.counts.Functions(wanted)
	if err != nil {
		return l, err
	}
	for name, c := range counts {
		l.Functions[name] = traffic.Sum{Arrived: int64(c.Taken[0] + c.Taken[1]), Integral: time.Duration(c.Nanoseconds)}
	}
	p.backlogs(&l, wanted, now)
	for ps := range p.table.All() {
		if !wanted(ps.id.Function) {
			continue
		}
		with, alone := ps.load(now)
		id := traffic.Pod(ps.id)
		l.Pods[id] = l.Pods[id].Plus(alone)
		l.Functions[ps.id.Function] = l.Functions[ps.id.Function].Plus(traffic.Sum{Integral: with})
	}
	return l, nil
}

// backlogs adds what waits in the kernel.
func (p *Plane) backlogs(l *traffic.Loads, wanted func(function string) bool, now time.Duration) {
	for i := range p.queues.table {
		q := p.queues.table[i].Load()
		if q == nil || !wanted(q.fn.Load().Name) {
			continue
		}
		name, waiting := q.fn.Load().Name, q.Count()
		l.Functions[name] = l.Functions[name].Plus(traffic.Sum{Integral: q.backlog.Waited(atomic.LoadUint64(&q.mem.Ids), waiting, now)})
	}
}

// load is what the pod's slots have in flight: for how long with the time that it waited
// for them, and without.
func (ps *podState) load(now time.Duration) (with time.Duration, alone traffic.Sum) {
	for _, s := range ps.slots {
		if !s.grown.Load() {
			continue
		}
		mem := s.memory()
		for n := atomic.LoadUint32(&mem.Head); n != atomic.LoadUint32(&mem.Tail); n++ {
			m := &mem.Messages[n&(ps.plane.pipeline-1)]
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

// Waiting is how many messages of a function wait in the programs, and how many of userspace's have a place at a pod.
func (p *Plane) Waiting(function string) (waiting, placed int) {
	p.queues.mu.Lock()
	if q := p.queues.byName[function]; q != nil {
		waiting = q.Count()
	}
	p.queues.mu.Unlock()
	for ps := range p.table.All() {
		if ps.id.Function == function {
			placed += int(atomic.LoadUint32(&ps.mem.Fallback))
		}
	}
	return waiting, placed
}
