package podns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Listen listens at an address in the pod's network namespace that has it. ifname leads
// there from this one: a veth, or a bridge with veths as ports. The namespace lives as
// long as the listener is open. The error is ErrNotFound if no namespace is found that
// has the address.
func Listen(ctx context.Context, ifname string, at netip.AddrPort) (net.Listener, error) {
	ids, err := behind(ifname)
	if err != nil {
		return nil, err
	}
	var l net.Listener
	err = each(func(f *os.File) (kept bool, err error) {
		if l, err = listenIn(ctx, f, ids, at); l == nil {
			return false, err
		}
		_ = f.Close() // the socket holds the namespace
		return true, nil
	})
	return l, err
}

// behind are the ids of the namespaces at the far ends of the veths of an interface.
func behind(ifname string) (map[int]bool, error) {
	near, err := netlink.LinkByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", ifname, err)
	}
	links := []netlink.Link{near}
	if near.Type() == "bridge" {
		if links, err = netlink.LinkList(); err != nil {
			return nil, fmt.Errorf("list the ports of %s: %w", ifname, err)
		}
	}
	ids := make(map[int]bool)
	for _, l := range links {
		a := l.Attrs()
		if l.Type() == "veth" && a.NetNsID >= 0 && (l == near || a.MasterIndex == near.Attrs().Index) {
			ids[a.NetNsID] = true
		}
	}
	return ids, nil
}

// listenIn listens in a namespace, if it is one of those with such ids and has the
// address; nil without an error if not.
func listenIn(ctx context.Context, ns *os.File, ids map[int]bool, at netip.AddrPort) (l net.Listener, err error) {
	if id, err := netlink.GetNetNsIdByFd(int(ns.Fd())); err != nil || !ids[id] {
		return nil, nil
	}
	err = Inside(ns, func() error {
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, "tcp", at.String())
		return err
	})
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil, nil
	}
	return l, err
}
