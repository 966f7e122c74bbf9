package dataplane

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/netdev"
)

var (
	errClosing = errors.New("pod closes the connection")
	errTimeout = errors.New("no response in time")
)

// routeTo is the source address and interface that the kernel uses towards an
// address.
func routeTo(to netip.Addr) (src netip.Addr, ifindex int, err error) {
	routes, err := netlink.RouteGet(net.IP(to.AsSlice()))
	if err != nil || len(routes) == 0 {
		return src, 0, fmt.Errorf("no route to %s: %w", to, err)
	}
	src, ok := netip.AddrFromSlice(routes[0].Src)
	if !ok {
		return src, 0, fmt.Errorf("route to %s has no source address", to)
	}
	return src.Unmap(), routes[0].LinkIndex, nil
}

// addPod brings a pod into service: interface, entry in the pods map, slots.
// p.mu is held.
func (p *Plane) addPod(fn *config.Function, addr netip.AddrPort, useXDP bool) (*podState, error) {
	id := podID{fn.Name, addr}
	if ps := p.podKey[id]; ps != nil {
		p.setFunction(ps, fn)
		return ps, nil
	}
	index, ok := p.freePod()
	if !ok {
		return nil, fmt.Errorf("pod %s of %s: limits.pods (%d) is used up", addr, fn.Name, len(p.podMem))
	}
	_, ifindex, err := routeTo(addr.Addr())
	if err != nil {
		return nil, fmt.Errorf("pod %s of %s: %w", addr, fn.Name, err)
	}
	if err := p.attachPod(ifindex); err != nil {
		return nil, fmt.Errorf("pod %s of %s: %w", addr, fn.Name, err)
	}
	ps := &podState{id: id, index: index, ifindex: ifindex}
	mem := &p.podMem[index]
	*mem = bpf.EproxyPod{
		FirstSlot: index * abi.SlotsPerPod, Ifindex: uint32(ifindex), Ipv6: flag(addr.Addr().Is6()),
		Address: address(addr.Addr()), Port: port(addr.Port()), Concurrency: uint16(fn.Concurrency), Up: 1, UnackedMs: uint32(unackedLimit / time.Millisecond),
	}
	p.setFunction(ps, fn)
	p.refreshPod(ps, useXDP)
	atomic.StoreUint32(&p.globals.SlotsEnd, max(p.globals.SlotsEnd, (index+1)*abi.SlotsPerPod))
	ctx, cancel := context.WithCancel(p.ctx)
	ps.cancel = cancel
	for i := range fn.Concurrency {
		s := &slot{plane: p, pod: ps, index: mem.FirstSlot + uint32(i), bit: uint(i), dialled: make(chan struct{})}
		ps.slots = append(ps.slots, s)
		p.slotTable[s.index].Store(s)
		p.wg.Add(1)
		go func() {
			defer p.wg.Done()
			s.run(ctx)
		}()
	}
	p.podByID[index], p.podKey[id] = ps, ps
	return ps, nil
}

// setFunction gives the pod the current configuration of its function.
func (p *Plane) setFunction(ps *podState, fn *config.Function) {
	ps.fn.Store(fn)
	atomic.StoreUint32(&p.podMem[ps.index].TimeoutMs, uint32(min(fn.Timeout.Milliseconds(), math.MaxInt32)))
}

// refreshPod finds out how packets reach the pod's interface now.
func (p *Plane) refreshPod(ps *podState, useXDP bool) {
	mem := &p.podMem[ps.index]
	ok := false
	if useXDP {
		var err error
		if ok, err = netdev.XDPTarget(ps.ifindex); err != nil {
			p.log.Warn("cannot tell whether XDP redirects reach the pod, TC is used", "pod", ps.id.addr, "error", err)
		}
	}
	mem.XdpOk = flag(ok)
	if l, err := netlink.LinkByIndex(ps.ifindex); err == nil && l.Type() == "veth" && l.Attrs().NetNsID >= 0 {
		mem.PeerOk = 1
	}
}

// removePod takes a pod out of service; what is in flight is retried elsewhere.
// p.mu is held.
func (p *Plane) removePod(ps *podState) {
	atomic.StoreUint64(&p.podMem[ps.index].Reserved, ^uint64(0))
	p.podMem[ps.index].Up = 0
	ps.cancel()
	for _, s := range ps.slots {
		p.slotTable[s.index].Store(nil)
	}
	delete(p.podByID, ps.index)
	delete(p.podKey, ps.id)
}

func (p *Plane) freePod() (uint32, bool) {
	for i := range p.podMem {
		if p.podByID[uint32(i)] == nil {
			return uint32(i), true
		}
	}
	return 0, false
}

// slotByIndex is the slot that an event names, or nil. Without p.mu: events must
// not wait while a configuration is installed.
func (p *Plane) slotByIndex(index uint32) *slot {
	return p.slotTable[index].Load()
}

func (p *Plane) closeSlots() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ps := range p.podByID {
		p.removePod(ps)
	}
}

// notifyIdle wakes those who wait for a slot.
func (p *Plane) notifyIdle() {
	p.wakeMu.Lock()
	close(p.wake)
	p.wake = make(chan struct{})
	p.wakeMu.Unlock()
}

func (p *Plane) idleChange() <-chan struct{} {
	p.wakeMu.Lock()
	defer p.wakeMu.Unlock()
	return p.wake
}
