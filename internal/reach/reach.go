// Package reach decides how this node reaches a pod: by XDP, by TC, or only
// through sockets of the fallback, and why not better. loader run, doctor, check
// and status all say what it says.
package reach

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"eproxy/internal/config"
	"eproxy/internal/netdev"
	"eproxy/internal/podgro"
)

// Way is how the messages for a pod go.
type Way int

// The ways, the best one last.
const (
	Fallback Way = iota // through connections of the fallback's own
	TC                  // in the kernel, taken at TC
	XDP                 // in the kernel, taken at XDP where the device's interface allows it
)

func (w Way) String() string { return [...]string{"fallback", "tc", "xdp"}[w] }

// Path is how a pod is reached now.
type Path struct {
	Way    Way
	Reason string     // why not by XDP, or not in the kernel; empty if there is nothing better to have
	Source netip.Addr // of this node, towards the pod
	// Interface leads to the pod, Ifindex is its number; empty and 0 for Fallback.
	Interface string
	Ifindex   int
	// Far says that the pod is on another node, as its source says or else the way to it shows.
	Far bool
	// NoRoute says that not even the fallback can reach the pod now.
	NoRoute bool
	// GRO says that XDP redirects would arrive if GRO were on at the far end of the
	// interface, a veth pair.
	GRO bool
	// Peer says that the pod is at the far end of a veth pair, in another network
	// namespace.
	Peer bool
}

// String says it to people.
func (p Path) String() string {
	s := [...]string{"served by the fallback", "taken at TC", "taken at XDP"}[p.Way]
	if p.Reason != "" {
		s += ": " + p.Reason
	}
	return s
}

// Pod is a pod of a function with its path.
type Pod struct {
	Function string
	Address  netip.AddrPort
	Path
}

// Name says which pod it is.
func (p Pod) Name() string { return fmt.Sprintf("pod %s of %s", p.Address, p.Function) }

// All finds out how all pods of a configuration are reached now.
func All(cfg *config.Config) []Pod {
	n := Node{Interfaces: cfg.Interfaces, XDP: NoXDP(cfg) == ""}
	var pods []Pod
	for _, fn := range cfg.Functions {
		for _, a := range fn.Pods {
			p := n.To(a.Addr())
			if p.GRO && cfg.PodsGRO {
				p = p.tryGRO()
			}
			p.Far = fn.Places.Far(a, p.Far)
			pods = append(pods, Pod{fn.Name, a, p})
		}
	}
	return pods
}

// NoXDP says why no messages are taken at XDP, on no interface that devices arrive on; empty: they may be.
func NoXDP(cfg *config.Config) (why string) {
	if cfg.XDP == "off" {
		return "xdp: off"
	}
	for _, name := range cfg.Interfaces {
		used, slow := netdev.ChooseXDP(name, cfg.XDP)
		if used != "off" {
			return ""
		}
		why = "xdp: " + cfg.XDP + ": " + slow
	}
	return why
}

// tryGRO is the path as it will be when GRO was switched on (pods_gro).
func (p Path) tryGRO() Path {
	if err := podgro.Try(p.Ifindex); err != nil {
		return p.WithoutGRO(err)
	}
	p.Way, p.Reason = XDP, fmt.Sprintf("loader run switches GRO on at the far end of %s (pods_gro)", p.Interface)
	return p
}

// WithoutGRO is the path with the reason why GRO was not switched on.
func (p Path) WithoutGRO(err error) Path {
	p.Reason = fmt.Sprintf("GRO cannot be switched on at the far end of %s (pods_gro): %v", p.Interface, err)
	return p
}

// Left is the path of a pod that is left to the fallback for a reason.
func Left(format string, args ...any) Path { return Path{}.Left(format, args...) }

// Left is the same where it is known where the pod is.
func (p Path) Left(format string, args ...any) Path {
	return Path{Far: p.Far, Reason: fmt.Sprintf(format, args...)}
}

// Node is what matters of this node.
type Node struct {
	Interfaces []string // that devices arrive on
	XDP        bool     // messages may be taken at XDP
}

// To finds out how a pod is reached now. What does not work is no error: it
// makes the pod the fallback's.
func (n Node) To(pod netip.Addr) Path {
	src, ifindex, p := route(pod)
	if p.Reason != "" {
		return p
	}
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return p.Left("interface %d, which leads to it, is gone", ifindex)
	}
	p.Far = p.Far || n.leadsOut(l)
	if why := n.unfit(l); why != "" {
		return p.Left("%s", why)
	}
	p = Path{Way: TC, Far: p.Far, Source: src, Interface: l.Attrs().Name, Ifindex: ifindex, Peer: l.Type() == "veth" && l.Attrs().NetNsID >= 0}
	if n.XDP {
		if p.Reason = noXDP(l); p.Reason == "" {
			p.Way = XDP
		}
		p.GRO = p.Way == TC && p.Peer && l.Type() == "veth"
	}
	return p
}

// Source is the address that this node uses towards another one, and the
// interface that leads there.
func Source(to netip.Addr) (netip.Addr, int, error) {
	src, ifindex, p := route(to)
	if p.Reason != "" {
		return src, 0, errors.New(p.Reason)
	}
	return src, ifindex, nil
}

// leadsOut says whether an interface leads to other nodes: it is none of those that pods of
// this node are behind. (A bridge may have both, and says nothing.)
func (n Node) leadsOut(l netlink.Link) bool {
	if slices.Contains(n.Interfaces, l.Attrs().Name) {
		return true
	}
	switch l.Type() {
	case "veth", "bridge", "openvswitch", "tuntap", "dummy", "macvlan", "macvtap", "ipvlan", "ipvtap":
		return false
	}
	return true
}

// route asks the kernel for its route. The path has a reason if there is none
// that leads out of this host; it is Far if it leads through a gateway.
func route(to netip.Addr) (src netip.Addr, ifindex int, p Path) {
	routes, err := netlink.RouteGet(net.IP(to.AsSlice()))
	switch {
	case errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH) || err == nil && len(routes) == 0:
		return src, 0, Path{NoRoute: true, Reason: fmt.Sprintf("no route to %s", to)}
	case err != nil: // blackhole, prohibit, no such address family
		return src, 0, Path{NoRoute: true, Reason: fmt.Sprintf("no route to %s: %v", to, err)}
	}
	r := routes[0]
	switch r.Type {
	case unix.RTN_LOCAL:
		return src, 0, Left("%s is this host itself", to)
	case unix.RTN_UNICAST:
	default:
		return src, 0, Left("%s is no address of a single host", to)
	}
	src, ok := netip.AddrFromSlice(r.Src)
	if !ok {
		return src, 0, Left("the route to %s has no source address", to)
	}
	return src.Unmap(), r.LinkIndex, Path{Far: r.Gw != nil}
}

// unfit says why the programs cannot sit on the interface that leads to a pod.
func (n Node) unfit(l netlink.Link) string {
	name := l.Attrs().Name
	if slices.Contains(n.Interfaces, name) {
		return fmt.Sprintf("it is behind %s, which devices arrive on", name)
	}
	if len(l.Attrs().HardwareAddr) != 6 {
		return fmt.Sprintf("it is behind %s, which is not Ethernet", name)
	}
	switch l.Type() {
	case "macvlan", "macvtap":
		return fmt.Sprintf("it is behind %s, a %s%s", name, l.Type(), parent(l))
	case "ipvlan", "ipvtap":
		return fmt.Sprintf("it is behind %s, an %s%s", name, l.Type(), parent(l))
	case "vlan":
		if up, err := netlink.LinkByIndex(l.Attrs().ParentIndex); err == nil && slices.Contains(n.Interfaces, up.Attrs().Name) {
			return fmt.Sprintf("it is behind %s, a VLAN of %s, which devices arrive on", name, up.Attrs().Name)
		}
	}
	return ""
}

// parent names what an interface is on top of.
func parent(l netlink.Link) string {
	up, err := netlink.LinkByIndex(l.Attrs().ParentIndex)
	if err != nil {
		return ""
	}
	return " of " + up.Attrs().Name
}

// noXDP says why packets cannot be redirected to the interface by XDP.
func noXDP(l netlink.Link) string {
	name := l.Attrs().Name
	if l.Type() == "bridge" {
		return fmt.Sprintf("%s is a bridge, and XDP redirects only to interfaces such as its ports", name)
	}
	switch ok, err := netdev.XDPTarget(l.Attrs().Index); {
	case err != nil:
		return err.Error()
	case ok:
		return ""
	}
	if l.Type() == "veth" {
		return fmt.Sprintf("%s takes no XDP redirects until GRO is on at its far end (ethtool -K, there; or pods_gro: on)", name)
	}
	return fmt.Sprintf("%s (%s) takes no XDP redirects", name, l.Type())
}
