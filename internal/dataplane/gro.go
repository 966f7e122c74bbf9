package dataplane

import (
	"errors"
	"fmt"

	"eproxy/internal/podgro"
	"eproxy/internal/reach"
)

// withGRO is the path to a pod when GRO at its end is as the configuration wants it, and how
// the network has it.
// p.mu is held.
func (p *Plane) withGRO(ps *podState, path reach.Path) (served, found reach.Path) {
	ps.lacks.Store(false)
	switch {
	case path.GRO && p.podsGRO:
		if err := p.gro.On(path.Ifindex); err != nil {
			ps.lacks.Store(errors.Is(err, podgro.ErrNoNamespace))
			return path.WithoutGRO(err), path
		}
		now := p.node.To(ps.id.Address.Addr())
		if now.Ifindex != path.Ifindex {
			return path, path // it has moved, which will be found
		}
		return now, now
	case path.Way == reach.XDP && !p.podsGRO && p.gro.Has(path.Ifindex):
		served = path
		served.Way = reach.TC // before keepGRO switches it off: a redirect after that would be lost
		served.Reason = fmt.Sprintf("GRO is switched off again at the far end of %s (pods_gro)", path.Interface)
		return served, path
	}
	return path, path
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
	if len(restored) > 0 {
		p.pods.AgainBehind(restored)
		p.look()
	}
}

// reachedFirst is called when the first connection to a pod is there. A process of
// the pod is there, too, then, by which its network namespace can be found.
func (p *Plane) reachedFirst(ps *podState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ps.lacks.Load() {
		p.pods.Again(ps.id)
		p.look()
	}
}
