package netdev

import (
	"testing"

	"github.com/vishvananda/netlink"

	"eproxy/test/lib/lab"
)

// TestAutoIsByDriver: auto is off on a veth pair, and itself where nothing is known against XDP; what somebody has
// chosen stays.
func TestAutoIsByDriver(t *testing.T) {
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = l.Do(lab.Node, func() error {
		if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tap0"}, Mode: netlink.TUNTAP_MODE_TAP}); err != nil {
			return err
		}
		for _, c := range []struct{ name, choice, want string }{
			{"eth0", "auto", "off"}, {"tap0", "auto", "auto"}, {"none", "auto", "auto"},
			{"eth0", "on", "on"}, {"eth0", "native", "native"}, {"eth0", "generic", "generic"}, {"tap0", "off", "off"},
		} {
			if used, why := ChooseXDP(c.name, c.choice); used != c.want || (why != "") != (used != c.choice) {
				t.Errorf("%s, xdp: %s: %q, %q, want %q", c.name, c.choice, used, why, c.want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
