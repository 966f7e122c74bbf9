package dataplane

import (
	"time"

	"eproxy/internal/traffic"
)

// Loads reads what the programs have had to do for some functions until now, of
// clock.Monotonic. One goroutine at a time may call it.
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
	p.queues.EachWaited(now, wanted, func(name string, waited time.Duration) {
		l.Functions[name] = l.Functions[name].Plus(traffic.Sum{Integral: waited})
	})
	for ps := range p.slots.All() {
		if !wanted(ps.ID().Function) {
			continue
		}
		with, alone := ps.Load(now)
		id := traffic.Pod(ps.ID())
		l.Pods[id] = l.Pods[id].Plus(alone)
		l.Functions[ps.ID().Function] = l.Functions[ps.ID().Function].Plus(traffic.Sum{Integral: with})
	}
	return l, nil
}

// Waiting is how many messages of a function wait in the programs, and how many of userspace's have a place at a pod.
func (p *Plane) Waiting(function string) (waiting, placed int) {
	return p.queues.Waiting(function), p.slots.Placed(function)
}

// Under is how many messages of a function the programs have: in flight, or waiting for a slot.
func (p *Plane) Under(function string) int {
	return p.queues.Waiting(function) + p.slots.InFlightOf(function)
}
