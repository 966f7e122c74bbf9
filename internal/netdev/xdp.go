// Package netdev finds out what network interfaces can do: what the kernel's netdev
// family says, what a trial shows, and what a refusal means.
package netdev

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Numbers of the netdev generic netlink family (include/uapi/linux/netdev.h).
const (
	familyName      = "netdev"
	cmdDevGet       = 1
	groupMgmt       = "mgmt"
	attrIfindex     = 1
	attrXDPFeatures = 3

	featureBasic   = 1 << 0 // native XDP programs
	featureNdoXmit = 1 << 2 // may be the target of XDP_REDIRECT
)

// XDPTarget says whether an interface can be the target of XDP redirects now.
// On veth this changes with the peer's GRO setting and XDP program.
func XDPTarget(ifindex int) (bool, error) {
	f, err := features(ifindex)
	return f&featureNdoXmit != 0, err
}

// XDPNative says whether the interface's driver runs XDP programs itself.
func XDPNative(ifindex int) (bool, error) {
	f, err := features(ifindex)
	return f&featureBasic != 0, err
}

// Subscribe opens a socket that receives a message whenever the XDP features of an
// interface of this network namespace change.
func Subscribe() (*nl.NetlinkSocket, error) {
	family, err := netlink.GenlFamilyGet(familyName)
	if err != nil {
		return nil, fmt.Errorf("find netlink family %s (Linux 6.3 or later): %w", familyName, err)
	}
	for _, g := range family.Groups {
		if g.Name != groupMgmt {
			continue
		}
		s, err := nl.Subscribe(unix.NETLINK_GENERIC)
		if err != nil {
			return nil, fmt.Errorf("watch XDP features: %w", err)
		}
		// Not by the address that the socket is bound to, which has room for the first 32 groups.
		if err := unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(g.ID)); err != nil {
			s.Close()
			return nil, fmt.Errorf("watch XDP features: %w", err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("netlink family %s tells no changes", familyName)
}

// genlHeader is a generic netlink header: command, version, two reserved bytes,
// which the library's own type leaves undefined and this family wants zero.
type genlHeader [nl.SizeofGenlmsg]byte

// Len is the size in bytes.
func (h genlHeader) Len() int { return len(h) }

// Serialize is the header as sent.
func (h genlHeader) Serialize() []byte { return h[:] }

func features(ifindex int) (uint64, error) {
	family, err := netlink.GenlFamilyGet(familyName)
	if err != nil {
		return 0, fmt.Errorf("find netlink family %s (Linux 6.3 or later): %w", familyName, err)
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0)
	req.AddData(genlHeader{cmdDevGet, 1})
	req.AddData(nl.NewRtAttr(attrIfindex, nl.Uint32Attr(uint32(ifindex))))
	msgs, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for XDP features of interface %d: %w", ifindex, err)
	}
	for _, m := range msgs {
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofGenlmsg:])
		if err != nil {
			return 0, fmt.Errorf("parse XDP features of interface %d: %w", ifindex, err)
		}
		for _, a := range attrs {
			if a.Attr.Type&0x3fff == attrXDPFeatures && len(a.Value) >= 8 {
				return binary.NativeEndian.Uint64(a.Value), nil
			}
		}
	}
	return 0, fmt.Errorf("kernel tells no XDP features of interface %d", ifindex)
}
