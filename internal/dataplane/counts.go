package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/counters"
	"eproxy/internal/mapmem"
	"eproxy/internal/reconcile"
	"eproxy/internal/routes"
)

// newCounts makes the table of the counters of these maps.
func newCounts(m counters.Store, cfg *config.Config) *counters.Table {
	return counters.NewTable(m, mapmem.RouteSeries(cfg), mapmem.PodSeries(cfg), routes.Grace)
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
			w.Pods[podCount(fn, a)] = true
		}
	}
	return w
}

// podCount is the label set of a function's pod: one whose address was another's does not go on with what that has counted.
func podCount(fn *config.Function, addr netip.AddrPort) counters.Pod {
	return counters.Pod{Function: fn.Name, Address: addr, Identity: fn.Identities[addr]}
}

// Totals are all counts of the kernel path since Load, by label set. None is ever
// less than before.
func (p *Plane) Totals() (counters.Totals, error) { return p.counts.Totals() }

// Answered is how many requests a pod has answered in the kernel path; 0 where that is
// not known.
func (p *Plane) Answered(function string, pod netip.AddrPort) uint64 {
	p.installed.mu.Lock()
	ps, ok := p.installed.pods.Get(podID{Function: function, Address: pod})
	p.installed.mu.Unlock()
	if !ok {
		return 0
	}
	stats, err := p.counts.ReadPod(ps.Counter())
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

// retainCounts notes which counters the running configuration needs. installed.mu is held.
func (p *Plane) retainCounts() {
	if p.installed.live != nil {
		p.counts.Retain(countsOf(p.installed.live), time.Now())
	}
}

// changePodCounts is retainCounts where the functions are those of before but for the changed ones;
// before are these as they were. installed.mu is held.
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

// makeRoom has the counters free that a configuration needs; p.installed.changing is held.
func (p *Plane) makeRoom(want counters.Wanted) error {
	return p.counts.MakeRoom(want, p.busyCounts)
}

// busyCounts are the counters that messages in flight, and slots that have not ended, count
// under.
func (p *Plane) busyCounts() counters.Busy {
	p.installed.mu.Lock()
	defer p.installed.mu.Unlock()
	return counters.Busy{Routes: p.slots.RouteCounters(), Pods: p.slots.Counters()}
}
