package reach

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestUnfitInterfaces: interfaces that programs cannot be put on, of kinds that not every
// test machine can make. Interface 1 is lo.
func TestUnfitInterfaces(t *testing.T) {
	attrs := func(name string) netlink.LinkAttrs {
		return netlink.LinkAttrs{Name: name, ParentIndex: 1, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	}
	plain := attrs("wg0")
	plain.HardwareAddr = nil
	for _, c := range []struct {
		link netlink.Link
		want string
	}{
		{&netlink.Device{LinkAttrs: attrs("pod0")}, ""},
		{&netlink.Veth{LinkAttrs: attrs("veth0")}, ""},
		{&netlink.Bridge{LinkAttrs: attrs("cni0")}, ""},
		{&netlink.Vxlan{LinkAttrs: attrs("flannel.1")}, ""},
		{&netlink.Device{LinkAttrs: attrs("lo")}, "it is behind lo, which devices arrive on"},
		{&netlink.Wireguard{LinkAttrs: plain}, "it is behind wg0, which is not Ethernet"},
		{&netlink.Macvlan{LinkAttrs: attrs("mv0")}, "it is behind mv0, a macvlan of lo"},
		{&netlink.Macvtap{Macvlan: netlink.Macvlan{LinkAttrs: attrs("mt0")}}, "it is behind mt0, a macvtap of lo"},
		{&netlink.IPVlan{LinkAttrs: attrs("iv0")}, "it is behind iv0, an ipvlan of lo"},
		{&netlink.Vlan{LinkAttrs: attrs("lo.7")}, "it is behind lo.7, a VLAN of lo, which devices arrive on"},
	} {
		if got := (Node{Interfaces: []string{"lo"}}).unfit(c.link); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.link.Type(), c.link.Attrs().Name, got, c.want)
		}
	}
	if got := (Node{}).unfit(&netlink.Vlan{LinkAttrs: attrs("lo.7")}); got != "" {
		t.Errorf("VLAN of an interface that no device arrives on: %q", got)
	}
}

// TestAddressesOfThisHost: addresses of this host and of nobody.
func TestAddressesOfThisHost(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1":       "served by the fallback: 127.0.0.1 is this host itself",
		"127.9.9.9":       "served by the fallback: 127.9.9.9 is this host itself",
		"255.255.255.255": "served by the fallback: 255.255.255.255 is no address of a single host",
	} {
		if got := (Node{}).To(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}
