package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/counters"
)

// countTable says what the counters of the kernel path count. A reload changes
// indexes of routes and pods, but not those of counters, as long as there are
// some left: then what the oldest ones have counted goes into past, and they are
// used anew.
type countTable struct {
	routes *counters.Series[counters.Route] // guarded by Plane.mu
	pods   *counters.Series[counters.Pod]   // guarded by Plane.mu

	mu   sync.RWMutex // held for writing while counts move from the maps to past
	past counters.Totals
}

// routeSeries is how many indexes of routes' counters there are: those of the
// routes before a reload and those after it are in use at once.
func routeSeries(cfg *config.Config) uint32 { return 2 * uint32(cfg.Limits.Routes) }

// podSeries is the same for pods; they are few, so that there is room for some
// that come back.
func podSeries(cfg *config.Config) uint32 { return 4 * uint32(cfg.Limits.Pods) }

func (t *countTable) init(cfg *config.Config) {
	t.routes = counters.NewSeries[counters.Route](routeSeries(cfg))
	t.pods = counters.NewSeries[counters.Pod](podSeries(cfg))
	t.past = counters.NewTotals()
}

// routeCounts and podCounts are the label sets of a configuration.
func routeCounts(cfg *config.Config) map[counters.Route]bool {
	m := make(map[counters.Route]bool, len(cfg.Routes))
	for _, r := range cfg.Routes {
		m[counters.Route{Filter: r.Filter, Function: r.Functions[0]}] = true
	}
	return m
}

func podCounts(cfg *config.Config) map[counters.Pod]bool {
	m := make(map[counters.Pod]bool)
	for _, fn := range cfg.Functions {
		for _, a := range fn.Pods {
			m[counters.Pod{Function: fn.Name, Address: a}] = true
		}
	}
	return m
}

// countMaps are the maps of the counters.
func (p *Plane) countMaps() counters.Maps {
	return counters.Maps{RouteLabels: p.objs.RouteLabels, RouteCounters: p.arrays.routeCounters,
		PodLabels: p.objs.PodLabels, PodCounters: p.objs.PodCounters}
}

// Totals are all counts of the kernel path since Load, by label set. None is ever
// less than before.
func (p *Plane) Totals() (counters.Totals, error) {
	p.counts.mu.RLock()
	defer p.counts.mu.RUnlock()
	t, err := p.countMaps().Totals()
	if err != nil {
		return t, err
	}
	for l, s := range p.counts.past.Routes {
		t.AddRoute(l, s)
	}
	for l, s := range p.counts.past.Pods {
		t.AddPod(l, s)
	}
	return t, nil
}

// Answered is how many requests a pod has answered in the kernel path; 0 where that is
// not known.
func (p *Plane) Answered(function string, pod netip.AddrPort) uint64 {
	p.mu.Lock()
	ps := p.podKey[podID{function, pod}]
	p.mu.Unlock()
	if ps == nil {
		return 0
	}
	stats, err := p.countMaps().ReadPod(ps.mem.Counter)
	if err != nil {
		return 0
	}
	return stats.Sum()
}

// routeCounter and podCounter are the indexes of a label set's counters, named
// in the maps. p.mu is held.
func (p *Plane) routeCounter(l counters.Route) (uint32, error) {
	i, fresh, ok := p.counts.routes.Index(l)
	if !ok {
		return 0, errors.New("no counters left")
	}
	if fresh {
		if err := p.countMaps().NameRoute(i, l); err != nil {
			p.counts.routes.Free([]uint32{i}) // a later reload tries again
			return 0, err
		}
	}
	return i, nil
}

func (p *Plane) podCounter(l counters.Pod) (uint32, error) {
	i, fresh, ok := p.counts.pods.Index(l)
	if !ok {
		return 0, fmt.Errorf("limits.pods %w: earlier pods still count", errUsedUp)
	}
	if fresh {
		return i, p.countMaps().NamePod(i, l)
	}
	return i, nil
}

// retainCounts notes which counters the running configuration needs. p.mu is held.
func (p *Plane) retainCounts() {
	if p.live != nil {
		p.counts.routes.Retain(routeCounts(p.live), time.Now())
		p.retainPodCounts()
	}
}

// retainPodCounts is retainCounts where the routes are those of before. p.mu is held.
func (p *Plane) retainPodCounts() { p.counts.pods.Retain(podCounts(p.live), time.Now()) }

// makeRoom frees as many counters as are needed beyond those that are
// left; a pod for which there is none is the fallback's. They are those of routes and pods that a reload removed long ago, and
// that no message in flight names: what they counted is added to past when no
// program can count under them any more.
func (p *Plane) makeRoom(want wanted) error {
	v := p.victims(want, false)
	if v.routesNeeded+v.podsNeeded == 0 {
		return nil
	}
	time.Sleep(time.Until(v.since.Add(grace))) // no program takes messages for them any more
	if v = p.victims(want, true); len(v.routes) < v.routesNeeded {
		return fmt.Errorf("counters of %d routes of earlier configurations are still in use by messages in flight: reload again in a moment",
			v.routesNeeded-len(v.routes))
	}
	time.Sleep(grace) // whoever took a message off its slot before the look has counted it
	return p.fold(v.routes, v.pods)
}

// wanted are the label sets of a configuration that is to be installed.
type wanted struct {
	routes map[counters.Route]bool
	pods   map[counters.Pod]bool
}

// victims are the counters that a configuration needs from others.
type victims struct {
	routesNeeded, podsNeeded int
	routes, pods             []uint32
	since                    time.Time // the youngest of the routes is retired
}

// victims chooses them; quiet leaves out those that messages in flight name.
func (p *Plane) victims(want wanted, quiet bool) (v victims) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var busy map[uint32]bool
	if quiet {
		busy = p.countersInFlight()
	}
	v.routesNeeded, v.podsNeeded = p.counts.routes.Shortage(want.routes), p.counts.pods.Shortage(want.pods)
	v.routes, v.since = p.counts.routes.Victims(v.routesNeeded, want.routes, busy)
	v.pods, _ = p.counts.pods.Victims(v.podsNeeded, want.pods, p.podCountersInUse())
	return v
}

// podCountersInUse are the indexes that pods count under whose slots have not ended;
// p.mu is held.
func (p *Plane) podCountersInUse() map[uint32]bool {
	m := make(map[uint32]bool, len(p.podByID)+len(p.leaving))
	for index := range p.podByID {
		m[p.podMem[index].Counter] = true
	}
	for index, ps := range p.leaving {
		select {
		case <-ps.over:
		default:
			m[p.podMem[index].Counter] = true
		}
	}
	return m
}

// countersInFlight are the indexes that messages in flight will count under.
func (p *Plane) countersInFlight() map[uint32]bool {
	m := make(map[uint32]bool)
	for _, ps := range p.podByID {
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

// fold moves what retired indexes have counted to past and frees them.
func (p *Plane) fold(routes, pods []uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, maps := &p.counts, p.countMaps()
	t.mu.Lock()
	defer t.mu.Unlock()
	err := foldInto(t.routes, routes, maps.ReadRoute, maps.ClearRoute, t.past.AddRoute)
	if err == nil {
		err = foldInto(t.pods, pods, maps.ReadPod, maps.ClearPod, t.past.AddPod)
	}
	return err
}

func foldInto[L comparable, S any](t *counters.Series[L], indexes []uint32, read func(uint32) (S, error), clear func(uint32) error, add func(L, S)) error {
	for n, i := range indexes {
		s, err := read(i)
		if err == nil {
			err = clear(i)
		}
		if err != nil {
			t.Free(indexes[:n])
			return err
		}
		l, _ := t.Labels(i)
		add(l, s)
	}
	t.Free(indexes)
	return nil
}
