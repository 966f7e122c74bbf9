package reach

import (
	"testing"

	"github.com/vishvananda/netlink"
)

// TestInterfacesThatLeadOut: which interfaces lead to other nodes, by their kind.
func TestInterfacesThatLeadOut(t *testing.T) {
	attrs := netlink.LinkAttrs{Name: "x"}
	n := Node{Interfaces: []string{"eth0"}}
	for _, l := range []netlink.Link{&netlink.Veth{LinkAttrs: attrs}, &netlink.Bridge{LinkAttrs: attrs}, &netlink.Macvlan{LinkAttrs: attrs}, &netlink.IPVlan{LinkAttrs: attrs},
		&netlink.Tuntap{LinkAttrs: attrs}, &netlink.Dummy{LinkAttrs: attrs}} {
		if n.leadsOut(l) {
			t.Errorf("%s leads to other nodes", l.Type())
		}
	}
	for _, l := range []netlink.Link{&netlink.Device{LinkAttrs: attrs}, &netlink.Vxlan{LinkAttrs: attrs}, &netlink.Geneve{LinkAttrs: attrs}, &netlink.Wireguard{LinkAttrs: attrs},
		&netlink.Iptun{LinkAttrs: attrs}, &netlink.Vlan{LinkAttrs: attrs}, &netlink.Bond{LinkAttrs: attrs}, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}} {
		if !n.leadsOut(l) {
			t.Errorf("%s %s leads to no other node", l.Type(), l.Attrs().Name)
		}
	}
}
