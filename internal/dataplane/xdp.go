package dataplane

import "sync/atomic"

// mayXDP says whether messages may be taken at XDP, on some interface that devices
// arrive on. p.mu is held.
func (p *Plane) mayXDP() bool {
	for _, xdp := range p.deviceXDP {
		if xdp != "off" {
			return !p.noXDP
		}
	}
	return false
}

// settleXDP lets the XDP program work while some pod in service receives redirects.
// With the choice auto it is attached with the first such pod: on an interface with an XDP
// program every packet costs more (veth copies most of them to make room for it), for which
// there is nothing to be had while all pods are reached by TC. It stays from then on,
// since on some cards the link goes down for a moment whenever one is attached or
// detached, and it is the pods that decide: one whose owner switches GRO on and off must
// not be able to cut the devices off again and again.
// p.mu is held.
func (p *Plane) settleXDP() {
	idle := uint32(1)
	for index := range p.podByID {
		if p.podMem[index].XdpOk != 0 {
			idle = 0
		}
	}
	if idle == 0 {
		p.attachXDP()
	}
	atomic.StoreUint32(&p.globals.XdpIdle, idle)
}

// attachXDP attaches XDP where the choice is auto. Where that is not possible messages are
// taken at TC; where it is possible nowhere, for as long as no interface is made
// anew. p.mu is held.
func (p *Plane) attachXDP() {
	any := false
	for name, xdp := range p.deviceXDP {
		if xdp != "auto" {
			any = any || xdp != "off"
			continue
		}
		added, err := p.path.AttachXDP(name)
		switch {
		case err != nil:
			if p.refused[name] != err.Error() { // it is tried again whenever pods have changed
				p.refused[name] = err.Error()
				p.log.Warn("no native XDP here, messages are taken at TC", "interface", name, "error", err)
			}
			continue
		case added:
			p.log.Info("attached", "interface", name, "xdp", "native", "because", "a pod takes XDP redirects")
		}
		delete(p.refused, name)
		any = true
	}
	if !any && p.node.XDP {
		p.noXDP, p.node.XDP = true, false
		p.look() // pods are reached in another way then
	}
}
