package dataplane

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"eproxy/internal/netdev"
)

// followEvery is the least time between two looks at the node's network: changes
// come in bursts, of which the first is looked at at once.
const followEvery = 50 * time.Millisecond

// startWatch follows the node's interfaces and routes until Close: programs are
// attached again to an interface that was made again, and pods are given slots
// or left to the fallback as the ways to them change. A notification only says
// when to look: what is found is what counts, so that one that was lost does no
// harm for longer than until the next.
func (p *Plane) startWatch() error {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return fmt.Errorf("watch interfaces and routes: %w", err)
	}
	p.lookWhen(s, "interfaces and routes")
	if s, err = netdev.Subscribe(); err != nil { // a kernel without the family: what it cannot say cannot change
		p.log.Debug("offloads of pods' interfaces are not watched", "error", err)
	} else {
		p.lookWhen(s, "offloads of pods' interfaces")
	}
	if err := p.startNeighbours(); err != nil {
		return err
	}
	p.wg.Go(p.followLoop)
	p.net.Look() // what changed since the pods were placed
	return nil
}

// lookWhen has the node's network looked at whenever a socket has something to say,
// until Close.
func (p *Plane) lookWhen(s *nl.NetlinkSocket, what string) {
	p.wg.Go(func() {
		<-p.ctx.Done()
		s.Close()
	})
	p.wg.Go(func() {
		for p.ctx.Err() == nil {
			// ENOBUFS: the kernel had more to say than fits, and has gone on since.
			if _, _, err := s.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
				if p.ctx.Err() == nil {
					p.log.Error(what+" are no longer watched, a reload looks at them", "error", err)
				}
				return
			}
			p.net.Look()
		}
	})
}

func (p *Plane) followLoop() {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.net.Changed():
		}
		for _, err := range p.follow() {
			p.often.Warn("following a change of the network", err.Error(), "error", err)
		}
		select {
		case <-p.ctx.Done():
			return
		case <-time.After(followEvery):
		}
	}
}

// follow brings what is attached, and which pods have slots, in line with the
// node's network. What fails keeps nothing else from being done.
func (p *Plane) follow() []error {
	p.installing.Lock()
	defer p.installing.Unlock()
	p.mu.Lock()
	errs := append(p.forgetGone(), p.attachAgain()...)
	defer p.mu.Unlock()
	if p.live != nil && p.ctx.Err() == nil && p.pods.Moved(p.live.Functions) {
		if err := p.servePods(p.live); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// forgetGone gives up the links whose interfaces are gone; p.mu is held.
func (p *Plane) forgetGone() []error {
	gone, errs := p.net.ForgetGone()
	for _, ifname := range gone {
		p.often.Warn("interface is gone", ifname, "interface", ifname)
		if p.recorder != nil {
			p.recorder.InterfaceGone(ifname)
		}
	}
	return errs
}

// AttachDevice attaches the device-side programs to a node interface, and again
// whenever that is made anew. xdp is the configuration's choice: auto, on, native,
// generic or off. It returns what is used of it, and why not more of it.
func (p *Plane) AttachDevice(name, xdp string) (used, why string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.net.AttachDevice(name, xdp)
}

// attachAgain attaches to the interfaces that devices arrive on and that were
// made again. (Pods' interfaces are attached to with their pods.) p.mu is held.
func (p *Plane) attachAgain() []error {
	again, errs := p.net.AttachAgain()
	if again && p.live != nil {
		p.settleNetwork()
	}
	return errs
}

// unseenLimit is how many slots of a pod must come up unseen, and none seen,
// before the pod is the fallback's.
const unseenLimit = 3

// leaveUnseen leaves a pod to the fallback whose connections the programs do not
// see: until a reload, or until it is behind another interface.
func (p *Plane) leaveUnseen(ps *podState) {
	if ps.seen.Load() || ps.unseen.Add(1) != unseenLimit {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if now, ok := p.pods.Get(ps.id); !ok || now != ps {
		return // it is out of service by now
	}
	p.pods.LeaveUnseen(ps.id, ps.ifindex, fmt.Sprintf("connections to it do not leave through %s as they are dialled: "+
		"its address is translated, or its traffic routed by policy", p.pods.Path(ps.id).Interface))
	p.net.Look()
}
