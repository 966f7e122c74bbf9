package dataplane

import (
	"fmt"
	"net/netip"

	"eproxy/internal/config"
	"eproxy/internal/reach"
	"eproxy/internal/reconcile"
	"eproxy/internal/slots"
)

// podID names a pod of a function.
type podID = reconcile.ID

// world is what the reconciler does to the plane's pods; installed.mu is held.
type world struct{ *Plane }

var _ reconcile.World[*slots.Pod] = world{}

// Reach finds out how an address is reached now; reconcile.World.
func (p world) Reach(a netip.Addr) reach.Path { return p.installed.net.Reach(a) }

// Add brings a pod into service; reconcile.World.
func (p world) Add(fn *config.Function, addr netip.AddrPort, ifindex int) (*slots.Pod, error) {
	if err := p.path.AttachPod(ifindex); err != nil {
		return nil, err
	}
	return p.slots.Add(fn, addr, ifindex, func() (uint32, error) { return p.podCounter(podCount(fn, addr)) })
}

// Improve switches GRO on at the pod's end; reconcile.World.
func (p world) Improve(ps *slots.Pod, path reach.Path) (served, found reach.Path) {
	served, found, lacks := p.installed.net.Improve(ps.ID().Address.Addr(), path)
	ps.SetLacks(lacks)
	return served, found
}

// Update gives a pod its function's configuration and its path; reconcile.World.
func (p world) Update(ps *slots.Pod, fn *config.Function, path reach.Path) {
	index, _ := p.installed.set.Function(fn.Name)
	p.slots.Update(ps, fn, index, path)
}

// Drain ends the service of a pod in peace; reconcile.World.
func (p world) Drain(ps *slots.Pod) { p.slots.Drain(ps) }

// Remove ends the service of a pod at once; reconcile.World.
func (p world) Remove(ps *slots.Pod) { p.slots.Remove(ps) }

// podEvents is what the plane does about what happens to its pods.
type podEvents struct{ *Plane }

var _ slots.Events = podEvents{}

// Reached looks at a pod again whose network namespace was not found. A process of
// the pod is there now, by which it can be; slots.Events.
func (p podEvents) Reached(ps *slots.Pod) {
	in := p.installed
	in.mu.Lock()
	defer in.mu.Unlock()
	if ps.Lacks() {
		in.pods.Again(ps.ID())
		in.net.Look()
	}
}

// Unseen leaves a pod to the fallback whose connections the programs do not
// see: until a reload, or until it is behind another interface; slots.Events.
func (p podEvents) Unseen(ps *slots.Pod) {
	in := p.installed
	in.mu.Lock()
	defer in.mu.Unlock()
	if now, ok := in.pods.Get(ps.ID()); !ok || now != ps {
		return // it is out of service by now
	}
	in.pods.LeaveUnseen(ps.ID(), ps.Ifindex(), fmt.Sprintf("connections to it do not leave through %s as they are dialled: "+
		"its address is translated, or its traffic routed by policy", in.pods.Path(ps.ID()).Interface))
	in.net.Look()
}

// Drained takes a pod out of service; slots.Events.
func (p podEvents) Drained(ps *slots.Pod) {
	p.installed.mu.Lock()
	defer p.installed.mu.Unlock()
	if !ps.Gone() {
		p.slots.Remove(ps)
		p.settleNetwork()
		p.placeAgain()
	}
}

// placeAgain has pods placed again that there was no entry for, if others have
// given up theirs since. installed.mu is held.
func (p *Plane) placeAgain() {
	if p.slots.Room() && p.installed.pods.AgainShort() {
		p.installed.net.Look()
	}
}

func (p *Plane) closeSlots() {
	p.installed.mu.Lock()
	defer p.installed.mu.Unlock()
	p.slots.Close()
}
