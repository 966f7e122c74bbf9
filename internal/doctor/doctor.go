// Package doctor finds out, by trying, what a machine allows.
package doctor

import (
	"fmt"
	"net"

	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"eproxy/internal/config"
	"eproxy/internal/netdev"
	"eproxy/internal/privilege"
)

// States of a feature.
const (
	Used     = "used"
	Degraded = "degraded"
	Missing  = "missing"
)

// Feature is one thing that was tried.
type Feature struct{ Name, State, Detail string }

// Examine tries everything; cfg may be nil. It changes nothing that stays.
func Examine(cfg *config.Config) []Feature {
	fs := append([]Feature{root(), bpffs(cfg)}, kernel()...)
	if cfg == nil {
		return fs
	}
	for _, name := range cfg.Interfaces {
		fs = append(fs, nodeInterface(name, cfg.XDP))
	}
	for _, f := range cfg.Functions {
		for _, a := range f.Pods {
			fs = append(fs, podInterface(f.Name, net.IP(a.Addr().AsSlice()), a.String()))
		}
	}
	return fs
}

func root() Feature {
	if err := privilege.Check(); err != nil {
		return Feature{"root", Missing, err.Error()}
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return Feature{"memory limit", Missing, err.Error()}
	}
	return Feature{"root", Used, "may load programs; memory for maps is not limited"}
}

func bpffs(cfg *config.Config) Feature {
	dir := "/sys/fs/bpf"
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.BPF_FS_MAGIC {
		return Feature{"bpffs", Missing, "mount -t bpf bpf " + dir}
	}
	return Feature{"bpffs", Used, dir}
}

func nodeInterface(name, xdp string) Feature {
	what := "interface " + name
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return Feature{what, Missing, err.Error()}
	}
	if len(ifi.HardwareAddr) != 6 {
		return Feature{what, Missing, "not Ethernet"}
	}
	if xdp == "off" {
		return Feature{what, Used, "TC only (xdp: off)"}
	}
	native, err := netdev.XDPNative(ifi.Index)
	switch {
	case err != nil:
		return Feature{what, Degraded, "TC only: " + err.Error()}
	case !native && xdp == "native":
		return Feature{what, Missing, "its driver has no native XDP; use xdp: auto or off"}
	case !native:
		return Feature{what, Degraded, "TC only: its driver has no native XDP"}
	}
	return Feature{what, Used, "native XDP"}
}

func podInterface(function string, ip net.IP, pod string) Feature {
	what := fmt.Sprintf("pod %s of %s", pod, function)
	routes, err := netlink.RouteGet(ip)
	if err != nil || len(routes) == 0 {
		return Feature{what, Missing, fmt.Sprintf("no route: %v", err)}
	}
	l, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return Feature{what, Missing, err.Error()}
	}
	ok, err := netdev.XDPTarget(routes[0].LinkIndex)
	if err != nil || !ok {
		return Feature{what, Degraded, l.Attrs().Name + " takes no XDP redirects (switch GRO on at its far end), messages go by TC"}
	}
	return Feature{what, Used, l.Attrs().Name + " takes XDP redirects"}
}
