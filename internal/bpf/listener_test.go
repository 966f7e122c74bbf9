package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// synOptions are what a client offers: the maximum segment size, SACK and window
// scale, which stay, and timestamps, which do not.
var synOptions = []layers.TCPOption{
	{OptionType: 2, OptionLength: 4, OptionData: []byte{5, 0xb4}}, {OptionType: 4, OptionLength: 2},
	{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}, {OptionType: 1},
	{OptionType: 3, OptionLength: 3, OptionData: []byte{7}},
}

// TestSYNOptionsOfListenersOnly: options that grafting cannot honour are gone from a
// SYN to a listener's address, the others stay, and the checksum is right. A SYN
// to another address stays as it is, of this host or of one that it forwards to,
// though a listener has its port.
func TestSYNOptionsOfListenersOnly(t *testing.T) {
	for _, c := range []struct {
		name      string
		bound, to [2]string // by family
		port      uint16
		forwards  bool
		stripped  bool
	}{
		{"all addresses, this host", [2]string{"", ""}, [2]string{"10.0.0.2", "fd00::2"}, 1883, true, true},
		{"all addresses, forwarded", [2]string{"", ""}, [2]string{"192.0.2.7", "2001:db8::7"}, 1883, true, false},
		{"all addresses, forwarded beyond", [2]string{"", ""}, [2]string{"198.51.100.1", "2001:db8:1::1"}, 1883, true, false},
		{"all addresses, another port", [2]string{"", ""}, [2]string{"10.0.0.2", "fd00::2"}, 1884, true, false},
		{"all addresses, on a host that does not forward", [2]string{"", ""}, [2]string{"10.0.0.2", "fd00::2"}, 1883, false, true},
		{"one address", [2]string{"10.0.0.2", "fd00::2"}, [2]string{"10.0.0.2", "fd00::2"}, 1883, true, true},
		{"one address, another of this host", [2]string{"10.0.0.2", "fd00::2"}, [2]string{"10.0.0.3", "fd00::3"}, 1883, true, false},
		{"one address, forwarded", [2]string{"10.0.0.2", "fd00::2"}, [2]string{"192.0.2.7", "2001:db8::7"}, 1883, true, false},
	} {
		for family, name := range []string{"ipv4", "ipv6"} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				r := newRig(t, family == 1)
				inNamespace(t, func() error { return router(c.forwards) }, func() {
					r.listen(t, c.bound[family])
					s := r.fromDevice(devISS, "S", nil)
					s.to = netip.AddrPortFrom(netip.MustParseAddr(c.to[family]), c.port)
					s.ack, s.options = 0, synOptions
					r.checkSYN(t, s, c.stripped)
				})
			})
		}
	}
}

// listen enters a listener at port 1883 of one address, or of all.
func (r *rig) listen(t *testing.T, addr string) {
	k := EproxyListener{Port: be16(1883)}
	if addr != "" {
		k.Address = rigTuple(netip.AddrPortFrom(netip.MustParseAddr(addr), 0), netip.MustParseAddrPort("[::]:0")).Local
	}
	r.put(r.objs.Listeners, &k, uint32(1))
}

// checkSYN runs a SYN and looks at its options.
func (r *rig) checkSYN(t *testing.T, s seg, stripped bool) {
	ret, out := r.run(r.objs.TcDeviceIn, s)
	kinds := map[layers.TCPOptionKind]bool{}
	for _, o := range checkSegment(t, out).Options {
		kinds[o.OptionType] = true
	}
	if ret != tcOK || !kinds[2] || !kinds[3] || !kinds[4] || kinds[8] == stripped {
		t.Errorf("verdict %d, options left: %v", ret, kinds)
	}
	if n := r.reason(EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_LISTENER_SYN); (n == 1) != stripped {
		t.Errorf("counted %d times", n)
	}
}

// inNamespace runs f in a new network namespace that setup has furnished. Its
// thread ends with it.
func inNamespace(t *testing.T, setup func() error, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: nobody else may get this thread
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = setup()
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// isLocal waits until the host takes an IPv6 address for its own: that happens some
// time after it got it.
func isLocal(addr string) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		rs, err := netlink.RouteGet(netip.MustParseAddr(addr).AsSlice())
		if err == nil && len(rs) > 0 && rs[0].Type == unix.RTN_LOCAL {
			return nil
		}
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("%s is not local: %v, %w", addr, rs, err)
		}
	}
}

// router gives the namespace the addresses 10.0.0.2, 10.0.0.3, fd00::2 and fd00::3, two
// networks behind an interface, and default routes.
func router(forwards bool) error {
	set := func(value string) error {
		return errors.Join(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(value), 0o644),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte(value), 0o644))
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	out := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "out0"}, PeerName: "out1"}
	if err := netlink.LinkAdd(out); err != nil {
		return err
	}
	for _, name := range []string{"out0", "out1"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			return err
		}
	}
	add := func(l netlink.Link, addrs ...string) error {
		for _, a := range addrs {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			addr.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(l, addr); err != nil {
				return err
			}
		}
		return nil
	}
	if err := errors.Join(add(lo, "10.0.0.2/32", "10.0.0.3/32", "fd00::2/128", "fd00::3/128"), add(out, "192.0.2.1/24", "2001:db8::1/64")); err != nil {
		return err
	}
	for _, gw := range []string{"192.0.2.254", "2001:db8::fe"} {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: out.Attrs().Index, Gw: netip.MustParseAddr(gw).AsSlice()}); err != nil {
			return err
		}
	}
	if err := set(map[bool]string{false: "0", true: "1"}[forwards]); err != nil {
		return err
	}
	return isLocal("fd00::2")
}
