package dataplane

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync/atomic"
	"time"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/counters"
	"eproxy/internal/reach"
	"eproxy/internal/reconcile"
)

var (
	errClosing = errors.New("pod closes the connection")
	errTimeout = errors.New("no response in time")
)

// podID names a pod of a function.
type podID = reconcile.ID

// world is what the reconciler does to the plane's pods; p.mu is held.
type world struct{ *Plane }

var _ reconcile.World[*podState] = world{}

// Reach finds out how an address is reached now; reconcile.World.
func (p world) Reach(a netip.Addr) reach.Path { return p.net.Reach(a) }

// Add brings a pod into service; reconcile.World.
func (p world) Add(fn *config.Function, addr netip.AddrPort, ifindex int) (*podState, error) {
	return p.addPod(fn, addr, ifindex)
}

// Improve switches GRO on at the pod's end; reconcile.World.
func (p world) Improve(ps *podState, path reach.Path) (served, found reach.Path) {
	served, found, lacks := p.net.Improve(ps.id.Address.Addr(), path)
	ps.lacks.Store(lacks)
	return served, found
}

// Update gives a pod its function's configuration and its path; reconcile.World.
func (p world) Update(ps *podState, fn *config.Function, path reach.Path) {
	p.setFunction(ps, fn)
	ps.mem.Function, _ = p.set.Function(fn.Name)
	ps.mem.Queue = p.queueIndex(fn.Name)
	ps.mem.XdpOk = bpf.Flag(path.Way == reach.XDP)
	ps.mem.PeerOk = bpf.Flag(path.Peer)
	ps.mem.Far = uint32(bpf.Flag(path.Far))
}

// Drain ends the service of a pod in peace; reconcile.World.
func (p world) Drain(ps *podState) { p.drainPod(ps) }

// Remove ends the service of a pod at once; reconcile.World.
func (p world) Remove(ps *podState) { p.removePod(ps) }

// addPod brings a pod into service: interface, entry in the pods map, slots.
// p.mu is held.
func (p *Plane) addPod(fn *config.Function, addr netip.AddrPort, ifindex int) (*podState, error) {
	index, ok := p.table.Free()
	if !ok {
		return nil, fmt.Errorf("limits.pods (%d) %w", p.table.Size(), reconcile.ErrUsedUp)
	}
	if err := p.growSlot(index, false); err != nil { // its first slot's
		return nil, err
	}
	if err := p.path.AttachPod(ifindex); err != nil {
		return nil, err
	}
	id := podID{Function: fn.Name, Address: addr}
	counter, err := p.podCounter(counters.Pod{Function: fn.Name, Address: addr})
	if err != nil {
		return nil, err
	}
	mem := p.table.Memory(index)
	ps := &podState{plane: p, id: id, index: index, mem: mem, ifindex: ifindex,
		over: make(chan struct{}), tried: make(chan struct{})}
	*mem = bpf.EproxyPod{
		FirstSlot: index, Ifindex: uint32(ifindex), Ipv6: bpf.Flag(addr.Addr().Is6()),
		Address: bpf.Address(addr.Addr()), Port: bpf.Port(addr.Port()), Concurrency: uint16(fn.Concurrency), Up: abi.PodUp, UnackedMs: uint32(unackedLimit / time.Millisecond),
		Counter: counter, Queue: p.queueIndex(fn.Name),
	}
	p.setFunction(ps, fn)
	p.startSlots(ps, fn.Concurrency)
	return ps, nil
}

// startSlots makes a pod's slots, of which most may be connected, and connects the
// first; p.mu is held.
func (p *Plane) startSlots(ps *podState, most int) {
	ps.scale.ctx, ps.cancel = context.WithCancel(p.ctx)
	ps.scale.demand = newDemand(most)
	for i := range abi.SlotsPerPod {
		ps.slots = append(ps.slots, &slot{plane: p, pod: ps, index: p.table.SlotIndex(ps.index, uint32(i)), bit: uint(i)})
	}
	p.table.Enter(ps.index, ps, ps.slots)
	ps.grow()
}

// setFunction gives the pod the current configuration of its function.
func (p *Plane) setFunction(ps *podState, fn *config.Function) {
	if ps.fn.Swap(fn) == fn {
		return
	}
	ps.mem.Concurrency = uint16(fn.Concurrency)
	ps.resize(fn.Concurrency)
	ps.setPipeline(fn.Pipeline)
	atomic.StoreUint32(&ps.mem.TimeoutMs, uint32(min(fn.Timeout.Milliseconds(), math.MaxInt32)))
}

// drainEvery is how often a pod that drains is looked at: nobody is told of a
// response that the programs digest.
const drainEvery = 10 * time.Millisecond

// drainPod has a pod get no more messages, and takes it out of service when those that
// it has in flight have ended, or could not count any more if they did. The pool
// has dropped the pod, and no function lists it. p.mu is held.
func (p *Plane) drainPod(ps *podState) {
	ps.draining.Store(true)
	ps.rouse()
	atomic.StoreUint64(&ps.mem.Reserved, ^uint64(0))
	ps.mem.Up = abi.PodDrains
	limit := ps.fn.Load().Timeout
	p.wg.Go(func() {
		over := time.NewTimer(limit)
		defer over.Stop()
		t := time.NewTicker(drainEvery)
		defer t.Stop()
		for ps.closeDrained() > 0 {
			select {
			case <-p.ctx.Done():
				return
			case <-over.C:
				p.log.Info("pod goes with messages in flight", "function", ps.id.Function, "pod", ps.id.Address, "after", limit)
			case <-t.C:
				continue
			}
			break
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if !ps.gone.Load() {
			p.removePod(ps)
			p.settleNetwork()
			p.placeAgain()
		}
	})
}

// closeDrained closes the slots of a pod that drains that have nothing in flight, and
// says how many are left.
func (ps *podState) closeDrained() int {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	for _, s := range ps.slots {
		if s.open && s.resting().idle {
			ps.closeSlot(s)
		}
	}
	return ps.scale.open
}

// removePod takes a pod out of service; what is in flight in its slots is taken
// over: QoS 1 is retried elsewhere, QoS 0 is lost.
// p.mu is held.
func (p *Plane) removePod(ps *podState) {
	ps.scale.mu.Lock()
	ps.gone.Store(true)
	ps.rouse()
	if ps.scale.timer != nil {
		ps.scale.timer.Stop()
	}
	ps.scale.mu.Unlock()
	atomic.StoreUint64(&ps.mem.Reserved, ^uint64(0))
	ps.mem.Up = 0
	ps.cancel()
	p.wg.Go(func() {
		ps.scale.running.Wait()
		time.AfterFunc(grace, func() { close(ps.over) })
	})
	p.table.Leave(ps.index, ps.over)
}

// placeAgain has pods placed again that there was no entry for, if others have
// given up theirs since. p.mu is held.
func (p *Plane) placeAgain() {
	if p.table.Left() && p.pods.AgainShort() {
		p.net.Look()
	}
}

// slotByIndex is the slot that an event names, or nil. Without p.mu: events must
// not wait while a configuration is installed.
func (p *Plane) slotByIndex(index uint32) *slot {
	return p.table.Slot(index)
}

func (p *Plane) closeSlots() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for ps := range p.table.All() {
		p.removePod(ps)
	}
}
