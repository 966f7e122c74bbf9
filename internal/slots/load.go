package slots

import (
	"time"

	"eproxy/internal/traffic"
)

// Load is what the pod's slots have in flight: for how long with the time that it waited
// for them, and without.
func (ps *Pod) Load(now time.Duration) (with time.Duration, alone traffic.Sum) {
	for _, s := range ps.slots {
		w, a := s.Load(now)
		with, alone = with+w, alone.Plus(a)
	}
	return with, alone
}

// inFlight is how many requests of the programs the pod has not answered.
func (ps *Pod) inFlight() (n int) {
	for _, s := range ps.slots {
		n += int(s.InFlight())
	}
	return n
}

// InFlight is how many requests of the programs are not answered.
func (p *Pods) InFlight() (n int) {
	for ps := range p.table.All() {
		n += ps.inFlight()
	}
	return n
}

// Placed is how many of userspace's messages have a place at a pod of a function.
func (p *Pods) Placed(function string) (placed int) {
	for _, ps := range p.functions.of(function) {
		placed += ps.places.Fallback()
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

// Counters are the indexes that pods count under whose slots have not ended.
func (p *Pods) Counters() map[uint32]bool {
	m := make(map[uint32]bool)
	for _, index := range p.table.InUse() {
		m[p.table.Memory(index).Counter] = true
	}
	return m
}

// RouteCounters are the indexes of routes' counters that messages in flight will count under.
func (p *Pods) RouteCounters() map[uint32]bool {
	m := make(map[uint32]bool)
	for s := range p.table.Slots() {
		s.EachCounter(func(counter uint32) { m[counter] = true })
	}
	return m
}
