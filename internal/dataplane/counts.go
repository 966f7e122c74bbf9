package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/counters"
	"eproxy/internal/reconcile"
)

// routeSeries is how many indexes of routes' counters there are: those of the
// routes before a reload and those after it are in use at once.
func routeSeries(cfg *config.Config) uint32 { return 2 * uint32(cfg.Limits.Routes) }

// podSeries is the same for pods; there is room for some that come back.
func podSeries(cfg *config.Config) uint32 { return 4 * uint32(cfg.Limits.Pods) }

// newCounts makes the table of the counters of these maps.
func newCounts(m counters.Maps, cfg *config.Config) *counters.Table {
	return counters.NewTable(m, routeSeries(cfg), podSeries(cfg), grace)
}

// countsOf are the label sets of a configuration.
func countsOf(cfg *config.Config) counters.Wanted {
	w := podCountsOf(cfg.Functions)
	w.Routes = make(map[counters.Route]bool, len(cfg.Routes))
	for _, r := range cfg.Routes {
		w.Routes[counters.Route{Filter: r.Filter, Function: r.Functions[0]}] = true
	}
	return w
}

// podCountsOf are those of functions' pods alone.
func podCountsOf(functions []*config.Function) counters.Wanted {
	w := counters.Wanted{Pods: make(map[counters.Pod]bool)}
	for _, fn := range functions {
		for _, a := range fn.Pods {
			w.Pods[counters.Pod{Function: fn.Name, Address: a}] = true
		}
	}
	return w
}

// Totals are all counts of the kernel path since Load, by label set. None is ever
// less than before.
func (p *Plane) Totals() (counters.Totals, error) { return p.counts.Totals() }

// Answered is how many requests a pod has answered in the kernel path; 0 where that is
// not known.
func (p *Plane) Answered(function string, pod netip.AddrPort) uint64 {
	p.mu.Lock()
	ps, ok := p.pods.Get(podID{Function: function, Address: pod})
	p.mu.Unlock()
	if !ok {
		return 0
	}
	stats, err := p.counts.ReadPod(ps.mem.Counter)
	if err != nil {
		return 0
	}
	return stats.Sum()
}

// podCounter is the index of a pod's counters.
func (p *Plane) podCounter(l counters.Pod) (uint32, error) {
	i, err := p.counts.Pod(l)
	if errors.Is(err, counters.ErrNone) {
		return 0, fmt.Errorf("limits.pods %w: earlier pods still count", reconcile.ErrUsedUp)
	}
	return i, err
}

// retainCounts notes which counters the running configuration needs. p.mu is held.
func (p *Plane) retainCounts() {
	if p.live != nil {
		p.counts.Retain(countsOf(p.live), time.Now())
	}
}

// changePodCounts is retainCounts where the functions are those of before but for the changed ones;
// before are these as they were. p.mu is held.
func (p *Plane) changePodCounts(before, changed []*config.Function) {
	was, now := podCountsOf(before).Pods, podCountsOf(changed).Pods
	var come, gone []counters.Pod
	for l := range now {
		if !was[l] {
			come = append(come, l)
		}
	}
	for l := range was {
		if !now[l] {
			gone = append(gone, l)
		}
	}
	p.counts.ChangePods(come, gone, time.Now())
}

// makeRoom has the counters free that a configuration needs; p.installing is held.
func (p *Plane) makeRoom(want counters.Wanted) error {
	return p.counts.MakeRoom(want, p.busyCounts)
}

// busyCounts are the counters that messages in flight, and slots that have not ended, count
// under.
func (p *Plane) busyCounts() counters.Busy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return counters.Busy{Routes: p.countersInFlight(), Pods: p.podCountersInUse()}
}

// podCountersInUse are the indexes that pods count under whose slots have not ended.
func (p *Plane) podCountersInUse() map[uint32]bool {
	m := make(map[uint32]bool)
	for _, index := range p.table.InUse() {
		m[p.table.Memory(index).Counter] = true
	}
	return m
}

// countersInFlight are the indexes that messages in flight will count under.
func (p *Plane) countersInFlight() map[uint32]bool {
	m := make(map[uint32]bool)
	for ps := range p.table.All() {
		for _, s := range ps.slots {
			if !s.grown.Load() {
				continue
			}
			mem := s.memory()
			for n := atomic.LoadUint32(&mem.Head); n != atomic.LoadUint32(&mem.Tail); n++ {
				m[atomic.LoadUint32(&mem.Messages[n&(p.pipeline-1)].Counter)] = true
			}
		}
	}
	return m
}
