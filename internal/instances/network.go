package instances

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// linkPrefix begins the names of this machine's ends of the veth pairs; what tells loaders from each other
// follows, and the number.
const linkPrefix = "epfn"

// mark tells a loader's interfaces from those of others, in two characters: names have 15 at most.
func mark(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:1])
}

// inside is the name of the instance's end.
const inside = "eth0"

// network gives instances addresses, and connects them to this machine: a route to each
// one's single address (/32) leads to its veth pair, whose near end has the first address
// of all. No instance reaches another, nor this machine; none is reached by others.
type network struct {
	addresses netip.Prefix
	table     string // of nftables
	mark      string // of the interfaces
}

// gateway is this machine's address towards the instances.
func (n *network) gateway() netip.Addr { return n.addresses.Addr().Next() }

// capacity is how many instances there can be; they are numbered from 1.
func (n *network) capacity() int { return 1<<(32-n.addresses.Bits()) - 3 }

// address is that of an instance.
func (n *network) address(number int) netip.Addr {
	b := n.addresses.Addr().As4()
	at := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	at += uint32(number) + 1
	return netip.AddrFrom4([4]byte{byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)})
}

func (n *network) link(number int) string { return fmt.Sprint(linkPrefix, n.mark, "-", number) }

// prepare checks that the addresses are free, and makes the rules for them.
func (n *network) prepare() error {
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		ip, _ := netip.AddrFromSlice(r.Dst.IP)
		ones, _ := r.Dst.Mask.Size()
		if to := netip.PrefixFrom(ip.Unmap(), ones); ones > 0 && to.Overlaps(n.addresses) && !n.own(r.LinkIndex) {
			return fmt.Errorf("the addresses %s are in use here, there is a route to %s: choose others by runtime.addresses", n.addresses, to)
		}
	}
	return n.filter()
}

// own says whether an interface is one that this package made.
func (n *network) own(index int) bool {
	l, err := netlink.LinkByIndex(index)
	return err != nil || strings.HasPrefix(l.Attrs().Name, linkPrefix+n.mark+"-")
}

// connect gives a network namespace of one process its end of a veth pair, its address
// and its routes. The pair goes with the namespace.
func (n *network) connect(number int, ns netns.NsHandle, outgoing bool) error {
	if old, err := netlink.LinkByName(n.link(number)); err == nil { // of a process that the kernel is still clearing away
		if err := netlink.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove old %s: %w", n.link(number), err)
		}
	}
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: inside, PeerNamespace: netlink.NsFd(ns)}
	veth.Name = n.link(number)
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make %s: %w", veth.Name, err)
	}
	if err := n.near(veth, n.address(number), outgoing); err != nil {
		return err
	}
	return n.far(ns, n.address(number), outgoing)
}

// near makes this machine's end ready.
func (n *network) near(veth netlink.Link, to netip.Addr, outgoing bool) error {
	if err := netlink.AddrAdd(veth, &netlink.Addr{IPNet: single(n.gateway()), Flags: unix.IFA_F_NOPREFIXROUTE}); err != nil {
		return fmt.Errorf("address of %s: %w", veth.Attrs().Name, err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+veth.Attrs().Name+"/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	forwarding := []byte("0") // also where this machine passes on what others send
	if outgoing {
		forwarding = []byte("1")
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+veth.Attrs().Name+"/forwarding", forwarding, 0); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("%s: %w", veth.Attrs().Name, err)
	}
	route := netlink.Route{LinkIndex: veth.Attrs().Index, Dst: single(to), Scope: netlink.SCOPE_LINK, Src: n.gateway().AsSlice()}
	if err := netlink.RouteReplace(&route); err != nil {
		return fmt.Errorf("route to %s: %w", to, err)
	}
	return nil
}

// far makes the instance's end ready.
func (n *network) far(ns netns.NsHandle, own netip.Addr, outgoing bool) error {
	h, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer h.Close()
	for _, name := range []string{"lo", inside} {
		l, err := h.LinkByName(name)
		if err != nil {
			return fmt.Errorf("interface %s of the instance: %w", name, err)
		}
		if name == inside {
			if err := h.AddrAdd(l, &netlink.Addr{IPNet: single(own)}); err != nil {
				return fmt.Errorf("address of the instance: %w", err)
			}
		}
		if err := h.LinkSetUp(l); err != nil {
			return fmt.Errorf("interface %s of the instance: %w", name, err)
		}
		if name == inside {
			return n.routes(h, l.Attrs().Index, outgoing)
		}
	}
	return nil
}

// routes are the instance's: to this machine, and by it to others if it may go there.
func (n *network) routes(h *netlink.Handle, index int, outgoing bool) error {
	if err := h.RouteAdd(&netlink.Route{LinkIndex: index, Dst: single(n.gateway()), Scope: netlink.SCOPE_LINK}); err != nil {
		return fmt.Errorf("route of the instance: %w", err)
	}
	if !outgoing {
		return nil
	}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: index, Gw: n.gateway().AsSlice()}); err != nil {
		return fmt.Errorf("default route of the instance: %w", err)
	}
	return nil
}

// disconnect removes an instance's veth pair, which its namespace may not have taken
// along yet.
func (n *network) disconnect(number int) {
	if l, err := netlink.LinkByName(n.link(number)); err == nil {
		_ = netlink.LinkDel(l)
	}
}

func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}
