package datapath

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"eproxy/internal/netdev"
	"eproxy/internal/pindir"
)

// site is a program at an interface.
type site struct {
	prog    string
	ifindex int
}

// attachment is what holds a program at its site.
type attachment struct {
	site
	link   link.Link
	ifname string // when it was attached
}

// Attached says whether the programs for devices are attached to an interface.
func (d *Datapath) Attached(ifindex int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.attachedTo("tc_device_in", ifindex)
}

// attachedTo says whether a program is attached to an interface; d.mu is held.
func (d *Datapath) attachedTo(prog string, ifindex int) bool {
	return d.sites[site{prog, ifindex}]
}

// AttachDevice attaches the device-side programs to a node interface. xdp is
// the configuration's choice: auto, native, generic or off. It returns what is
// used: native, generic, off, or auto or on, where XDP is for AttachXDP to attach.
func (d *Datapath) AttachDevice(name, xdp string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, err := netlink.LinkByName(name)
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", name, err)
	}
	if !netdev.Ethernet(l) {
		return "", fmt.Errorf("interface %s: not Ethernet", name)
	}
	// Egress first: nothing may be taken that could not be translated back.
	if err := d.attachTCX(l, "tc_device_out", d.Objects.TcDeviceOut, ebpf.AttachTCXEgress); err != nil {
		return "", err
	}
	if err := d.attachTCX(l, "tc_device_in", d.Objects.TcDeviceIn, ebpf.AttachTCXIngress); err != nil {
		return "", err
	}
	switch xdp {
	case "auto", "on", "off":
		return xdp, nil
	case "generic":
		return xdp, d.attachXDP(l, xdp, link.XDPGenericMode)
	}
	return xdp, d.attachXDP(l, xdp, link.XDPDriverMode)
}

// AttachXDP attaches the XDP program, in native mode, to a node interface that has the
// others. It says whether that is new.
func (d *Datapath) AttachXDP(name string) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, err := netlink.LinkByName(name)
	if err != nil {
		return false, fmt.Errorf("interface %s: %w", name, err)
	}
	if d.attachedTo("xdp_device", l.Attrs().Index) {
		return false, nil
	}
	return true, d.attachXDP(l, "native", link.XDPDriverMode)
}

// attachXDP attaches the XDP program to a node interface; d.mu is held.
func (d *Datapath) attachXDP(l netlink.Link, mode string, flags link.XDPAttachFlags) error {
	err := d.attach("xdp_device", l, func() (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: d.Objects.XdpDevice, Interface: l.Attrs().Index, Flags: flags})
	})
	if err != nil {
		return netdev.XDPRefusal(l, mode, err)
	}
	return nil
}

// AttachPod attaches the pod-side programs to the interface that leads to a pod.
func (d *Datapath) AttachPod(ifindex int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.attachedTo("tc_pod_out", ifindex) && d.attachedTo("tc_pod_in", ifindex) {
		return nil // without the kernel, whose answer waits for whoever else configures interfaces
	}
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return fmt.Errorf("interface %d: %w", ifindex, err)
	}
	if err := d.attachTCX(l, "tc_pod_out", d.Objects.TcPodOut, ebpf.AttachTCXEgress); err != nil {
		return err
	}
	return d.attachTCX(l, "tc_pod_in", d.Objects.TcPodIn, ebpf.AttachTCXIngress)
}

func (d *Datapath) attachTCX(l netlink.Link, prog string, program *ebpf.Program, at ebpf.AttachType) error {
	a := l.Attrs()
	err := d.attach(prog, l, func() (link.Link, error) {
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
// were pinned: what they think of their paths is not used. d.mu is held.
func (d *Datapath) attach(prog string, to netlink.Link, attach func() (link.Link, error)) error {
	a := to.Attrs()
	if d.attachedTo(prog, a.Index) {
		return nil
	}
	name := linkName(prog, a.Name)
	if old, ok := d.attached[name]; ok && d.stands(old) {
		name = fmt.Sprint(name, "-", a.Index) // of an interface that is called otherwise now, or has '_' for '.'
	} else if ok {
		if err := d.forget(name); err != nil {
			return err
		}
	}
	l, err := attach()
	if err != nil {
		return err
	}
	if err := l.Pin(pindir.Path(d.dir, "links", name)); err != nil {
		_ = l.Close()
		return fmt.Errorf("pin link %s: %w", name, err)
	}
	at := site{prog, a.Index}
	d.attached[name] = attachment{at, l, a.Name}
	d.sites[at] = true
	return nil
}

// ForgetGone gives up the links whose interfaces are gone. It returns the names of
// these, and what could not be removed. About a link, which with a thousand pods takes long,
// the kernel is only asked where there is no interface of its index.
func (d *Datapath) ForgetGone() (gone []string, errs []error) {
	there, done := netdev.Indexes()
	defer done()
	d.mu.Lock()
	defer d.mu.Unlock()
	names := make(map[string]bool)
	for name, a := range d.attached {
		if !there(a.ifindex) && !d.stands(a) {
			names[a.ifname] = true
			if err := d.forget(name); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return slices.Sorted(maps.Keys(names)), errs
}

// stands says whether a link's interface exists, in this network namespace.
func (*Datapath) stands(a attachment) bool {
	info, err := a.link.Info()
	if err != nil {
		return true // nothing is known
	}
	ifindex := uint32(0)
	if x := info.XDP(); x != nil {
		ifindex = x.Ifindex
	} else if t := info.TCX(); t != nil {
		ifindex = t.Ifindex
	}
	if ifindex == 0 {
		return false // the kernel detached it
	}
	_, err = netlink.LinkByIndex(int(ifindex))
	var notFound netlink.LinkNotFoundError
	return !errors.As(err, &notFound)
}

// forget gives up a link whose interface is gone; d.mu is held.
func (d *Datapath) forget(name string) error {
	_ = d.attached[name].link.Close()
	delete(d.sites, d.attached[name].site)
	delete(d.attached, name)
	if err := os.Remove(pindir.Path(d.dir, "links", name)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove pin of a link: %w", err)
	}
	return nil
}

// linkName is the pin name of a program's link to an interface; bpffs takes no dots.
func linkName(prog, ifname string) string {
	return prog + "-" + strings.ReplaceAll(ifname, ".", "_")
}
