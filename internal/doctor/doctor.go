// Package doctor finds out, by trying, what a machine allows.
package doctor

import (
	"fmt"

	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"

	"eproxy/internal/config"
	"eproxy/internal/netdev"
	"eproxy/internal/pindir"
	"eproxy/internal/privilege"
	"eproxy/internal/reach"
)

// States of a feature.
const (
	Used     = "used"
	Degraded = "degraded"
	Missing  = "missing"
	Untried  = "not tried" // this process may not
)

// Feature is one thing that was tried.
type Feature struct{ Name, State, Detail string }

// Examine tries everything; cfg may be nil. It changes nothing that stays.
func Examine(cfg *config.Config) []Feature {
	fs := []Feature{root(), bpffs(cfg), openFiles(cfg)}
	if fs[0].State == Missing { // what the kernel answers then says nothing of it
		return append(fs, unprivileged(cfg)...)
	}
	fs = append(append(fs, kernel()...), statistics(statsFile))
	if cfg == nil {
		return fs
	}
	for _, name := range cfg.Interfaces {
		fs = append(fs, nodeInterface(name, cfg.XDP))
	}
	for _, p := range reach.All(cfg) {
		fs = append(fs, podFeature(p))
	}
	return fs
}

// unprivileged is what can be found out without the capabilities that root() misses,
// and what cannot.
func unprivileged(cfg *config.Config) []Feature {
	fs := []Feature{kernelBTF(), skbFields(), statistics(statsFile)}
	untried := func(name string) {
		fs = append(fs, Feature{name, Untried, "that needs root, or the capabilities above"})
	}
	for _, name := range []string{locksName, tcxName, programsName} {
		untried(name)
	}
	if cfg != nil {
		for _, name := range cfg.Interfaces {
			untried("interface " + name)
		}
		for _, p := range reach.All(cfg) {
			untried(p.Name())
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
	dir := config.DefaultBPFFS
	if cfg != nil {
		dir = cfg.BPFFS
	}
	if err := pindir.CheckParent(dir); err != nil {
		return Feature{"bpffs", Missing, err.Error()}
	}
	if _, err := pindir.Inspect(dir); err != nil {
		return Feature{"bpffs", Missing, err.Error()}
	}
	return Feature{"bpffs", Used, dir}
}

func nodeInterface(name, xdp string) Feature {
	what := "interface " + name
	l, err := netlink.LinkByName(name)
	if err != nil {
		return Feature{what, Missing, err.Error()}
	}
	if !netdev.Ethernet(l) {
		return Feature{what, Missing, "not Ethernet"}
	}
	if err := netdev.TryTCX(l.Attrs().Index); err != nil {
		return Feature{what, Missing, oneLine(netdev.TCXRefusal(name, "a program", err))}
	}
	used, slow := netdev.ChooseXDP(name, xdp)
	switch used {
	case "off":
		return Feature{what, Used, "TC only (xdp: " + xdp + because(slow) + ")"}
	case "generic":
		return Feature{what, Used, "generic XDP"}
	}
	why, detail := nativeXDP(l)
	switch {
	case why == "":
		return Feature{what, Used, detail}
	case xdp == "native":
		return Feature{what, Missing, why}
	}
	return Feature{what, Degraded, "TC only: " + why}
}

// because is a reason in a sentence, if there is one.
func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// nativeXDP says why an interface does not run XDP programs, or what is known
// about it. It is tried on veth only: a physical card may lose its link over it.
func nativeXDP(l netlink.Link) (why, detail string) {
	a := l.Attrs()
	native, err := netdev.XDPNative(a.Index)
	switch {
	case err != nil:
		return err.Error(), ""
	case !native:
		return "its driver has no native XDP", ""
	case a.Xdp != nil && a.Xdp.Attached:
		return "", fmt.Sprintf("native XDP; program %d is attached now", a.Xdp.ProgId)
	}
	if l.Type() == "veth" {
		if err := netdev.TryXDP(a.Index); err != nil {
			return oneLine(netdev.XDPRefusal(l, "native", err)), ""
		}
	} else if a.MTU > netdev.UsualMTU {
		return "", fmt.Sprintf("native XDP, unless its driver refuses the MTU of %d", a.MTU)
	}
	return "", "native XDP"
}

func podFeature(p reach.Pod) Feature {
	if p.Way != reach.Fallback {
		if err := netdev.TryTCX(p.Ifindex); err != nil {
			p.Path = reach.Left("%s", oneLine(netdev.TCXRefusal(p.Interface, "a program", err)))
		}
	}
	if p.Reason == "" || p.Way == reach.XDP {
		return Feature{p.Name(), Used, p.Path.String()}
	}
	return Feature{p.Name(), Degraded, p.Path.String()}
}
