package lab

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routerAddrs are the router's own addresses in a host's subnet, from which it sends
// ICMP errors.
var routerAddrs = map[Role][]string{
	Dev:  {"10.88.0.3/32", "fd88::3/128"},
	Pod0: {"10.88.1.3/32", "fd88:1::3/128"},
	Pod1: {"10.88.2.3/32", "fd88:2::3/128"},
}

// route makes a router of the namespace Wire. The host behind it and the node stay in
// one subnet: each finds the router's link address in place of the other's.
func (l *Lab) route() error {
	if err := l.forward(Wire); err != nil {
		return err
	}
	hostEnd, nodeEnd := WireEnds(l.routed)
	err := l.Do(Wire, func() error {
		for _, name := range []string{hostEnd, nodeEnd} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("0"), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("switch IPv6 on: %w", err)
	}
	if err := l.configure(Wire, nodeEnd, routerAddrs[l.routed]); err != nil {
		return err
	}
	e := ends[l.routed]
	for i := range e.hostAddrs {
		for _, side := range []struct {
			host    Role
			hostIf  string
			wireIf  string
			address string // of the host
			other   string // what it reaches by way of the router
			mtu     int
		}{
			{l.routed, "eth0", hostEnd, e.hostAddrs[i], e.nodeAddrs[i], l.pathMTU},
			{Node, e.node, nodeEnd, e.nodeAddrs[i], e.hostAddrs[i], 0},
		} {
			if err := l.routeTo(side.host, side.hostIf, side.wireIf, side.address, side.other, side.mtu); err != nil {
				return fmt.Errorf("route to %s at %s: %w", side.host, side.address, err)
			}
		}
	}
	return nil
}

// routeTo makes the router's interface wireIf the way to a host's address, for
// packets of at most mtu bytes (0: its interface's), and its link address that of
// `other` for the host.
func (l *Lab) routeTo(host Role, hostIf, wireIf, address, other string, mtu int) error {
	router, err := netlink.NewHandleAt(l.handles[Wire])
	if err != nil {
		return err
	}
	defer router.Close()
	h, err := netlink.NewHandleAt(l.handles[host])
	if err != nil {
		return err
	}
	defer h.Close()
	near, err := router.LinkByName(wireIf)
	if err != nil {
		return err
	}
	far, err := h.LinkByName(hostIf)
	if err != nil {
		return err
	}
	ip, _, err := net.ParseCIDR(address)
	if err != nil {
		return err
	}
	otherIP, _, err := net.ParseCIDR(other)
	if err != nil {
		return err
	}
	bits := 8 * len(ip)
	if v4 := ip.To4(); v4 != nil {
		bits = 32
	}
	r := &netlink.Route{LinkIndex: near.Attrs().Index, Dst: &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}, MTU: mtu, MTULock: mtu > 0}
	if err := router.RouteAdd(r); err != nil {
		return err
	}
	for _, n := range []struct {
		h    *netlink.Handle
		from netlink.Link
		ip   net.IP
		to   netlink.Link
	}{{router, near, ip, far}, {h, far, otherIP, near}} {
		err := n.h.NeighSet(&netlink.Neigh{LinkIndex: n.from.Attrs().Index, IP: n.ip, HardwareAddr: n.to.Attrs().HardwareAddr, State: unix.NUD_PERMANENT})
		if err != nil {
			return err
		}
	}
	return nil
}
