package dataplane

import (
	"errors"
	"fmt"
	"slices"

	"eproxy/internal/podgro"
	"eproxy/internal/reach"
)

// withGRO is the path to a pod when GRO at its end is as the configuration wants it.
// p.mu is held.
func (p *Plane) withGRO(ps *podState, path reach.Path) reach.Path {
	ps.lacks.Store(false)
	switch {
	case path.GRO && p.podsGRO:
		if err := p.gro.On(path.Ifindex); err != nil {
			ps.lacks.Store(errors.Is(err, podgro.ErrNoNamespace))
			return path.WithoutGRO(err)
		}
		now := p.node.To(ps.id.addr.Addr())
		if now.Ifindex != path.Ifindex {
			return path // it has moved, which will be found
		}
		p.found[ps.id] = now
		return now
	case path.Way == reach.XDP && !p.podsGRO && p.gro.Has(path.Ifindex):
		path.Way = reach.TC // before keepGRO switches it off: a redirect after that would be lost
		path.Reason = fmt.Sprintf("GRO is switched off again at the far end of %s (pods_gro)", path.Interface)
	}
	return path
}

// keepGRO restores GRO at the ends of pods that are gone, or of all if the
// configuration wants it no more, after the programs were told not to redirect there.
// p.mu is held.
func (p *Plane) keepGRO() {
	used := make(map[int]bool)
	for _, ps := range p.podByID {
		used[ps.ifindex] = p.podsGRO
		if !p.podsGRO && ps.draining.Load() && p.gro.Has(ps.ifindex) {
			p.podMem[ps.index].XdpOk = 0 // the others were told when they were placed
		}
	}
	restored, errs := p.gro.Keep(func(ifindex int) bool { return used[ifindex] })
	for _, err := range errs {
		p.often.Warn("restoring a pod's interface", err.Error(), "error", err)
	}
	for id, path := range p.found {
		if slices.Contains(restored, path.Ifindex) {
			delete(p.found, id) // as if it had moved
		}
	}
	if len(restored) > 0 {
		p.look()
	}
}

// reachedFirst is called when the first connection to a pod is there. A process of
// the pod is there, too, then, by which its network namespace can be found.
func (p *Plane) reachedFirst(ps *podState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ps.lacks.Load() {
		delete(p.found, ps.id) // as if it had moved
		p.look()
	}
}
