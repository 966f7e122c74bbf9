package observe

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

func native32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

// hooks are the two programs at an interface.
type hooks struct{ in, out link.Link }

func (h *hooks) close() {
	for _, l := range []link.Link{h.in, h.out} {
		if l != nil {
			_ = l.Close()
		}
	}
}

// attach has the programs at the interfaces of the observed pods, in front of all others,
// and at no other interface; o.mu is held.
func (o *Observer) attach() {
	wanted := make(map[int]string)
	links, err := netlink.LinkList()
	if err != nil {
		o.log.Warn("interfaces cannot be listed, those before stay observed", "error", err)
		return
	}
	towards := make(map[string]bool)
	for _, p := range o.pods {
		towards[p.ifname] = true
	}
	bridges := make(map[int]bool)
	for _, l := range links {
		if !towards[l.Attrs().Name] {
			continue
		}
		if l.Type() == "bridge" {
			bridges[l.Attrs().Index] = true // what pods send each other passes its ports only
			continue
		}
		wanted[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		if bridges[l.Attrs().MasterIndex] {
			wanted[l.Attrs().Index] = l.Attrs().Name
		}
	}
	for i, h := range o.attached {
		if wanted[i] == "" || !o.first(i, ebpf.AttachTCXIngress, o.objs.ObserveIn) || !o.first(i, ebpf.AttachTCXEgress, o.objs.ObserveOut) {
			h.close()
			delete(o.attached, i)
		}
	}
	for i, name := range wanted {
		if o.attached[i] == nil {
			o.attachTo(i, name)
		}
	}
}

// attachTo attaches the programs to one interface; o.mu is held.
func (o *Observer) attachTo(ifindex int, name string) {
	h := new(hooks)
	var err error
	if h.in, err = front(ifindex, ebpf.AttachTCXIngress, o.objs.ObserveIn); err == nil {
		h.out, err = front(ifindex, ebpf.AttachTCXEgress, o.objs.ObserveOut)
	}
	if err != nil {
		h.close()
		if !o.refused[name] {
			o.refused[name] = true
			o.log.Warn("pods behind an interface are not observed", "interface", name, "error", err)
		}
		return
	}
	delete(o.refused, name)
	o.attached[ifindex] = h
}

// front attaches a program in front of the others.
func front(ifindex int, at ebpf.AttachType, p *ebpf.Program) (link.Link, error) {
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: p, Attach: at, Anchor: link.Head()})
	if err != nil {
		return nil, fmt.Errorf("attach the observer: %w", err)
	}
	return l, nil
}

// first says whether a program is still the first one at an interface: what is behind one
// that decides is not seen.
func (*Observer) first(ifindex int, at ebpf.AttachType, p *ebpf.Program) bool {
	info, err := p.Info()
	if err != nil {
		return false
	}
	id, _ := info.ID()
	r, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: at})
	return err == nil && len(r.Programs) > 0 && r.Programs[0].ID == id
}
