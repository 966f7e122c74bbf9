package dataplane

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"eproxy/internal/netdev"
	"eproxy/internal/pindir"
)

// attachment is a program at an interface.
type attachment struct {
	link    link.Link
	prog    string
	ifindex int
	ifname  string // when it was attached
}

// attachedTo says whether a program is attached to an interface; p.mu is held.
func (p *Plane) attachedTo(prog string, ifindex int) bool {
	for _, a := range p.attached {
		if a.prog == prog && a.ifindex == ifindex {
			return true
		}
	}
	return false
}

// AttachDevice attaches the device-side programs to a node interface. xdp is
// the configuration's choice: auto, native, generic or off. It returns what is
// used: native, generic or off.
func (p *Plane) AttachDevice(name, xdp string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deviceXDP[name] = xdp
	return p.attachDevice(name, xdp)
}

// attachDevice is AttachDevice, also for an interface that was made again; p.mu
// is held.
func (p *Plane) attachDevice(name, xdp string) (string, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", name, err)
	}
	if !netdev.Ethernet(l) {
		return "", fmt.Errorf("interface %s: not Ethernet", name)
	}
	// Egress first: nothing may be taken that could not be translated back.
	if err := p.attachTCX(l, "tc_device_out", p.objs.TcDeviceOut, ebpf.AttachTCXEgress); err != nil {
		return "", err
	}
	if err := p.attachTCX(l, "tc_device_in", p.objs.TcDeviceIn, ebpf.AttachTCXIngress); err != nil {
		return "", err
	}
	mode, flags := "native", link.XDPDriverMode
	switch xdp {
	case "off":
		return "off", nil
	case "generic":
		mode, flags = "generic", link.XDPGenericMode
	}
	err = p.attach("xdp_device", l, func() (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: p.objs.XdpDevice, Interface: l.Attrs().Index, Flags: flags})
	})
	if err == nil {
		return mode, nil
	}
	err = netdev.XDPRefusal(l, mode, err)
	if xdp == "auto" {
		p.log.Warn("no native XDP here, messages are taken at TC", "interface", name, "error", err)
		return "off", nil
	}
	return "", err
}

// attachPod attaches the pod-side programs to the interface that leads to a
// pod; p.mu is held.
func (p *Plane) attachPod(ifindex int) error {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return fmt.Errorf("interface %d: %w", ifindex, err)
	}
	if err := p.attachTCX(l, "tc_pod_out", p.objs.TcPodOut, ebpf.AttachTCXEgress); err != nil {
		return err
	}
	return p.attachTCX(l, "tc_pod_in", p.objs.TcPodIn, ebpf.AttachTCXIngress)
}

func (p *Plane) attachTCX(l netlink.Link, prog string, program *ebpf.Program, at ebpf.AttachType) error {
	a := l.Attrs()
	err := p.attach(prog, l, func() (link.Link, error) {
		return link.AttachTCX(link.TCXOptions{Interface: a.Index, Program: program, Attach: at, Anchor: link.Head()})
	})
	if err != nil {
		return netdev.TCXRefusal(a.Name, prog, err)
	}
	return nil
}

// attach attaches a program unless that is done, and pins its link, so that it
// outlives the process. A link whose interface was deleted, and made again under
// its name, is replaced. The directory of the pins was renamed after the maps
// were pinned: what they think of their paths is not used. p.mu is held.
func (p *Plane) attach(prog string, to netlink.Link, attach func() (link.Link, error)) error {
	a := to.Attrs()
	if p.attachedTo(prog, a.Index) {
		return nil
	}
	name := linkName(prog, a.Name)
	if old, ok := p.attached[name]; ok && p.stands(old) {
		name = fmt.Sprint(name, "-", a.Index) // of an interface that is called otherwise now, or has '_' for '.'
	} else if ok {
		if err := p.forget(name); err != nil {
			return err
		}
	}
	l, err := attach()
	if err != nil {
		return err
	}
	if err := l.Pin(pindir.Path(p.dir, "links", name)); err != nil {
		_ = l.Close()
		return fmt.Errorf("pin link %s: %w", name, err)
	}
	p.attached[name] = attachment{l, prog, a.Index, a.Name}
	return nil
}

// forget gives up a link whose interface is gone; p.mu is held.
func (p *Plane) forget(name string) error {
	_ = p.attached[name].link.Close()
	delete(p.attached, name)
	if err := os.Remove(pindir.Path(p.dir, "links", name)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove pin of a link: %w", err)
	}
	return nil
}

// linkName is the pin name of a program's link to an interface; bpffs takes no dots.
func linkName(prog, ifname string) string {
	return prog + "-" + strings.ReplaceAll(ifname, ".", "_")
}
