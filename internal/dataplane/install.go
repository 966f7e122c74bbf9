package dataplane

import (
	"errors"
	"fmt"
	"net/netip"

	"eproxy/internal/config"
	"eproxy/internal/counters"
	"eproxy/internal/mapmem"
	"eproxy/internal/pool"
	"eproxy/internal/routes"
	"eproxy/internal/slots"
)

// errEnded means that the data plane is being closed.
var errEnded = errors.New("the data plane is being closed")

// table is what holds routes and functions for the programs: routes.Table, but in tests.
type table interface {
	Stage(functions []*config.Function, all []*config.Route, counters, queues []uint32) (*routes.Set, error)
	Switch(s *routes.Set, pods map[string]routes.Pods) error
	SetPods(function string, pods routes.Pods)
	Close()
}

var _ table = (*routes.Table)(nil)

// staged is a configuration whose routes are staged, and that nothing is refused of
// any more.
type staged struct {
	cfg *config.Config
	set *routes.Set
}

// Install puts a configuration's functions, pods and routes in place. The
// switch is one store: a message sees the old routes or the new, never a mix.
// before is called when nothing can be refused any more, and nothing has changed.
// An error means that nothing has changed.
func (p *Plane) Install(cfg *config.Config, before func()) error {
	p.installed.changing.Lock()
	defer p.installed.changing.Unlock()
	s, err := p.stage(cfg)
	if err != nil {
		return err
	}
	before()
	p.installed.mu.Lock()
	defer p.installed.mu.Unlock()
	p.installed.pods.AgainAll()
	return p.serve(s)
}

// InstallPods gives the functions that are installed the pods that they have in cfg.
// Only pods that come or go are touched: what clients' connections remember, the
// other pods' connections and all counters stay as they are.
func (p *Plane) InstallPods(cfg *config.Config) error {
	p.installed.changing.Lock()
	defer p.installed.changing.Unlock()
	p.installed.mu.Lock()
	changed := p.installed.pods.Changed(cfg.Functions)
	p.installed.mu.Unlock()
	if err := p.makeRoom(podCountsOf(changed)); err != nil { // the routes have theirs
		return err
	}
	p.installed.mu.Lock()
	defer p.installed.mu.Unlock()
	if p.run.ctx.Err() != nil {
		return errEnded
	}
	return p.servePods(cfg)
}

// stage has a configuration's routes written where no message sees them, and allocates
// their counters. What can be refused of a configuration is refused here, and nothing
// that is in use has changed. p.installed.changing is held.
func (p *Plane) stage(cfg *config.Config) (staged, error) {
	if mapmem.Deepest(cfg) > p.mem.Pipeline {
		return staged{}, fmt.Errorf("a function's pipeline is deeper than any was at the start (%d): that needs a restart", p.mem.Pipeline)
	}
	p.slots.Await() // no program counts any more for what was taken out of service: its entries may be another's
	if err := p.makeRoom(countsOf(cfg)); err != nil {
		return staged{}, err
	}
	counters, err := p.countRoutes(cfg)
	if err != nil {
		return staged{}, err
	}
	set, err := p.routes.Stage(cfg.Functions, cfg.Routes, counters, p.queues.For(cfg.Functions))
	return staged{cfg, set}, err
}

// countRoutes allocates the counters of a configuration's routes, in their order.
func (p *Plane) countRoutes(cfg *config.Config) ([]uint32, error) {
	p.installed.mu.Lock()
	defer p.installed.mu.Unlock()
	defer p.retainCounts()
	indexes := make([]uint32, len(cfg.Routes))
	for i, r := range cfg.Routes {
		var err error
		if indexes[i], err = p.counts.Route(counters.Route{Filter: r.Filter, Function: r.Functions[0]}); err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Filter, err)
		}
	}
	return indexes, nil
}

// serve brings a staged configuration's pods into service and switches to its
// routes. After Close has begun it is errEnded: pods that were added then would
// outlive their memory. p.installed.changing and installed.mu are held.
func (p *Plane) serve(s staged) error {
	if p.run.ctx.Err() != nil {
		return errEnded
	}
	before := staged{p.installed.live, p.installed.set}
	if err := p.step(s, p.routes.Switch); err != nil {
		return errors.Join(err, p.restore(before))
	}
	p.queues.Switch(s.cfg.Functions, s.set.Function)
	p.settlePods(s.cfg, nil)
	p.retainCounts()
	return nil
}

// step has all parts follow a configuration with its pods; use has the programs use these. installed.mu is held.
func (p *Plane) step(s staged, use func(*routes.Set, map[string]routes.Pods) error) error {
	p.devices.SetInflight(uint32(s.cfg.Limits.InflightPerClient))
	p.installed.net.Configure(s.cfg)
	p.installed.set = s.set
	return p.installed.pods.Step(s.cfg.Functions, func(pods map[string][]*slots.Pod) error {
		p.own.ReloadShared(s.cfg.Functions, p.placeOf) // first: what the fallback has under way counts when the programs begin
		lists := make(map[string]routes.Pods, len(pods))
		for _, fn := range s.cfg.Functions {
			lists[fn.Name] = listOf(fn, pods[fn.Name])
		}
		return use(s.set, lists)
	})
}

// restore goes back to the configuration that the programs use still, when a switch to another one has failed. What has
// come with that counts for nobody any more. installed.mu is held.
func (p *Plane) restore(before staged) error {
	defer p.retainCounts()
	if before.cfg == nil {
		return nil // there is none
	}
	return p.step(before, func(_ *routes.Set, pods map[string]routes.Pods) error {
		for name, list := range pods {
			p.routes.SetPods(name, list)
		}
		return nil
	})
}

// servePods brings pods into service that are new in a configuration, and takes
// those out of it that it no longer has; p.installed.changing and installed.mu are held.
func (p *Plane) servePods(cfg *config.Config) error {
	changed := p.installed.pods.Changed(cfg.Functions)
	before := named(p.installed.live.Functions, changed)
	err := p.installed.pods.Step(cfg.Functions, func(pods map[string][]*slots.Pod) error {
		p.own.UpdateShared(changed, p.placeOf)
		for _, fn := range changed {
			p.routes.SetPods(fn.Name, listOf(fn, pods[fn.Name]))
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.settlePods(cfg, changed)
	p.changePodCounts(before, changed)
	return nil
}

// named are those of some functions that have the names of others.
func named(functions, others []*config.Function) (out []*config.Function) {
	names := make(map[string]bool, len(others))
	for _, fn := range others {
		names[fn.Name] = true
	}
	for _, fn := range functions {
		if names[fn.Name] {
			out = append(out, fn)
		}
	}
	return out
}

// listOf is the list of a function's pods for the programs: those near by come first where
// they are preferred.
func listOf(fn *config.Function, pods []*slots.Pod) (list routes.Pods) {
	list.Indexes = make([]uint32, 0, len(pods))
	for _, far := range []bool{false, true} {
		for _, ps := range pods {
			if ps.Far() == far {
				list.Indexes = append(list.Indexes, ps.Index())
			}
		}
		if !far && fn.Topology != config.TopologyAny {
			list.Near = len(list.Indexes)
		}
	}
	return list
}

// settlePods does what remains when the programs have a configuration's pods, of which these functions are
// not as before; nil: all. installed.mu is held.
func (p *Plane) settlePods(cfg *config.Config, changed []*config.Function) {
	p.installed.live = cfg
	p.settleNetwork()
	p.placeAgain()
	if err := p.writeReasons(cfg, changed); err != nil {
		p.log.Warn("reasons of pods cannot be shown", "error", err)
	}
}

// placeOf says where a pod is, and whether the programs use it, too; of the fallback's pool. installed.mu is held.
func (p *Plane) placeOf(function string, pod netip.AddrPort) (place pool.Place) {
	id := podID{Function: function, Address: pod}
	path := p.installed.pods.Path(id)
	place.NoRoute, place.Far = path.NoRoute, path.Far
	if ps, ok := p.installed.pods.Get(id); ok {
		place.Shared = ps
	}
	return place
}
