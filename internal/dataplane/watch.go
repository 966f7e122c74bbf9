package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"eproxy/internal/config"
	"eproxy/internal/neighbours"
	"eproxy/internal/netdev"
	"eproxy/internal/reach"
)

// followEvery is the least time between two looks at the node's network: changes
// come in bursts, of which the first is looked at at once.
const followEvery = 50 * time.Millisecond

// startWatch follows the node's interfaces and routes until Close: programs are
// attached again to an interface that was made again, and pods are given slots
// or left to the fallback as the ways to them change. A notification only says
// when to look: what is found is what counts, so that one that was lost does no
// harm for longer than until the next.
func (p *Plane) startWatch(rec Recorder) error {
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
	err = neighbours.Start(p.run.ctx, &p.run.wg, neighbours.Options{Conns: p.linkConns, Entries: p.slots.Entries, Control: p.path.Objects.LinkControl, Log: p.log, Often: p.often})
	if err != nil {
		return err
	}
	p.run.wg.Go(func() { p.followLoop(rec) })
	p.installed.net.Look() // what changed since the pods were placed
	return nil
}

// lookWhen has the node's network looked at whenever a socket has something to say,
// until Close.
func (p *Plane) lookWhen(s *nl.NetlinkSocket, what string) {
	p.run.wg.Go(func() {
		<-p.run.ctx.Done()
		s.Close()
	})
	p.run.wg.Go(func() {
		for p.run.ctx.Err() == nil {
			// ENOBUFS: the kernel had more to say than fits, and has gone on since.
			if _, _, err := s.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
				if p.run.ctx.Err() == nil {
					p.log.Error(what+" are no longer watched, a reload looks at them", "error", err)
				}
				return
			}
			p.installed.net.Look()
		}
	})
}

func (p *Plane) followLoop(rec Recorder) {
	for {
		select {
		case <-p.run.ctx.Done():
			return
		case <-p.installed.net.Changed():
		}
		began := time.Now()
		for _, err := range p.follow(rec) {
			p.often.Warn("following a change of the network", err.Error(), "error", err)
		}
		select {
		case <-p.run.ctx.Done():
			return
		case <-time.After(max(followEvery, followShare*time.Since(began))):
		}
	}
}

// followShare is how much longer than a look itself it takes until the next one: with many pods, where others come and go all the
// time, looking must not be most of what is done. (A pod that comes is looked at when it does.)
const followShare = 9

// follow brings what is attached, and which pods have slots, in line with the
// node's network. What fails keeps nothing else from being done.
func (p *Plane) follow(rec Recorder) []error {
	errs, node, functions := p.followInterfaces(rec)
	looked := look(node, functions) // with many pods it takes long, and nobody waits for it
	p.installed.changing.Lock()
	defer p.installed.changing.Unlock()
	p.installed.mu.Lock()
	defer p.installed.mu.Unlock()
	if p.installed.live != nil && p.run.ctx.Err() == nil && p.installed.pods.Moved(p.installed.live.Functions, looked) {
		if err := p.servePods(p.installed.live); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// followInterfaces brings what is attached in line with the node's network, and says what that is, and whose pods are in it.
func (p *Plane) followInterfaces(rec Recorder) (errs []error, of reach.Node, functions []*config.Function) {
	p.installed.changing.Lock()
	defer p.installed.changing.Unlock()
	p.installed.mu.Lock()
	defer p.installed.mu.Unlock()
	errs = append(p.forgetGone(rec), p.attachAgain()...)
	if p.installed.live != nil {
		functions = p.installed.live.Functions
	}
	return errs, p.installed.net.Node(), functions
}

// look finds out how all pods of functions are reached now.
func look(from reach.Node, functions []*config.Function) map[netip.Addr]reach.Path {
	looked := make(map[netip.Addr]reach.Path)
	for _, fn := range functions {
		for _, a := range fn.Pods {
			if _, ok := looked[a.Addr()]; !ok {
				looked[a.Addr()] = from.To(a.Addr())
			}
		}
	}
	return looked
}

// forgetGone gives up the links whose interfaces are gone; installed.mu is held.
func (p *Plane) forgetGone(rec Recorder) []error {
	gone, errs := p.installed.net.ForgetGone()
	for _, ifname := range gone {
		p.often.Warn("interface is gone", ifname, "interface", ifname)
		rec.InterfaceGone(ifname)
	}
	return errs
}

// AttachDevice attaches the device-side programs to a node interface, and again
// whenever that is made anew. xdp is the configuration's choice: auto, on, native,
// generic or off. It returns what is used of it, and why not more of it.
func (p *Plane) AttachDevice(name, xdp string) (used, why string, err error) {
	p.installed.mu.Lock()
	defer p.installed.mu.Unlock()
	return p.installed.net.AttachDevice(name, xdp)
}

// attachAgain attaches to the interfaces that devices arrive on and that were
// made again. (Pods' interfaces are attached to with their pods.) installed.mu is held.
func (p *Plane) attachAgain() []error {
	again, errs := p.installed.net.AttachAgain()
	if again && p.installed.live != nil {
		p.settleNetwork()
	}
	return errs
}
