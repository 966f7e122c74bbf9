package pinned

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"eproxy/internal/pindir"
)

// Link is a program at an interface, as the kernel knows it.
type Link struct {
	Name      string // of its pin
	Program   string // name and id
	Interface string // empty if defunct; "index N" if it is in another network namespace
	Mode      string // tcx ingress, tcx egress, or of XDP: native, generic, offloaded
	// Attached is false if the interface was deleted: the link is defunct, and
	// nothing attaches it again.
	Attached bool
}

// Links asks the kernel about the links that are pinned under dir, in the order
// of their names. The error is about those that cannot be read; the others are returned
// with it.
func Links(dir string) ([]Link, error) {
	info, err := pindir.Inspect(dir)
	if err != nil || info.State != pindir.Ours {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, "links"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list pinned links: %w", err)
	}
	var out []Link
	var unread []error
	for _, e := range entries {
		l, err := readLink(pindir.Path(dir, "links", e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed at this moment
		}
		if err != nil {
			unread = append(unread, fmt.Errorf("ask for link %s: %w", e.Name(), err))
			continue
		}
		l.Name = e.Name()
		out = append(out, l)
	}
	return out, errors.Join(unread...)
}

func readLink(path string) (Link, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return Link{}, err
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return Link{}, err
	}
	out := Link{Program: programName(info.Program)}
	var ifindex uint32 // 0 once the interface is deleted
	if x := info.XDP(); x != nil {
		ifindex, out.Mode = x.Ifindex, "xdp"
	}
	if t := info.TCX(); t != nil {
		ifindex, out.Mode = t.Ifindex, "tcx ingress"
		if ebpf.AttachType(t.AttachType) == ebpf.AttachTCXEgress {
			out.Mode = "tcx egress"
		}
	}
	if ifindex == 0 {
		return out, nil
	}
	out.Attached = true
	out.Interface = fmt.Sprintf("index %d", ifindex)
	if ifi, err := netlink.LinkByIndex(int(ifindex)); err == nil {
		out.Interface = ifi.Attrs().Name
		if x := ifi.Attrs().Xdp; out.Mode == "xdp" && x != nil {
			out.Mode = xdpMode(x.AttachMode)
		}
	}
	return out, nil
}

// programName is the name of a program, cut by the kernel to 15 bytes, and its id.
func programName(id ebpf.ProgramID) string {
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Sprintf("id %d", id)
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return fmt.Sprintf("id %d", id)
	}
	return fmt.Sprintf("%s (id %d)", info.Name, id)
}

func xdpMode(attached uint32) string {
	switch attached {
	case nl.XDP_ATTACHED_DRV:
		return "xdp native"
	case nl.XDP_ATTACHED_SKB:
		return "xdp generic"
	case nl.XDP_ATTACHED_HW:
		return "xdp offloaded"
	}
	return "xdp"
}
