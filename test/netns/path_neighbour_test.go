package netns

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"eproxy/test/lib/await"
	"eproxy/test/lib/lab"
)

// remap gives a host's interface another link address, of which it tells its neighbours
// (gratuitous ARP, unsolicited neighbour advertisement), and waits until the node's
// kernel believes that.
func remap(t *testing.T, l *lab.Lab, host lab.Role, nodeIf string, at []net.IP, mac net.HardwareAddr) {
	t.Helper()
	do := func(r lab.Role, f func() error) {
		t.Helper()
		if err := l.Do(r, f); err != nil {
			t.Fatal(err)
		}
	}
	do(host, func() error {
		for _, f := range []string{"ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/ndisc_notify"} {
			if err := os.WriteFile("/proc/sys/net/"+f, []byte("1"), 0); err != nil {
				return err
			}
		}
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(link, mac)
	})
	do(lab.Node, func() error {
		link, err := netlink.LinkByName(nodeIf)
		if err != nil {
			return err
		}
		for _, ip := range at {
			var err error
			var ns []netlink.Neigh
			known := await.Within(20*time.Second, func() bool {
				ns, err = netlink.NeighList(link.Attrs().Index, map[bool]int{true: netlink.FAMILY_V4, false: netlink.FAMILY_V6}[ip.To4() != nil])
				return err != nil || slices.ContainsFunc(ns, func(n netlink.Neigh) bool {
					return n.IP.Equal(ip) && n.HardwareAddr.String() == mac.String()
				})
			})
			switch {
			case err != nil:
				return err
			case !known:
				return fmt.Errorf("the node does not believe that %s has moved to %s: %v", ip, mac, ns)
			}
		}
		return nil
	})
}

// connectFrom connects a client whose address is one of the devices' host's own.
func connectFrom(t *testing.T, l *lab.Lab, from net.IP, id string) *rawConn {
	t.Helper()
	var nc net.Conn
	err := l.Do(lab.Dev, func() error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
		d.SetMultipathTCP(false)
		var err error
		nc, err = d.DialContext(context.Background(), "tcp", net.JoinHostPort(lab.NodeAddr(from.To4() == nil).String(), "1883"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	c := &rawConn{nc, t}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	c.connect(id)
	return c
}

// addLoopback gives the devices' host an address that is behind it.
func addLoopback(t *testing.T, l *lab.Lab, far net.IP) *net.IPNet {
	t.Helper()
	farNet := netlink.NewIPNet(far)
	if err := l.Do(lab.Dev, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: farNet})
	}); err != nil {
		t.Fatal(err)
	}
	return farNet
}

// secondGateway makes a second interface on the devices' link that forwards for them, and
// has the node know the link addresses of both, for good.
func secondGateway(t *testing.T, l *lab.Lab, first, second net.IP) {
	t.Helper()
	old, fresh := net.HardwareAddr{2, 0, 0, 0, 8, 1}, net.HardwareAddr{2, 0, 0, 0, 8, 2}
	if err := l.Do(lab.Dev, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetHardwareAddr(eth0, old); err != nil {
			return err
		}
		other := &netlink.Macvlan{LinkAttrs: netlink.NewLinkAttrs(), Mode: netlink.MACVLAN_MODE_BRIDGE}
		other.Name, other.ParentIndex, other.HardwareAddr = "other", eth0.Attrs().Index, fresh
		if err := netlink.LinkAdd(other); err != nil {
			return err
		}
		return netlink.LinkSetUp(other)
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.Do(lab.Node, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, n := range []netlink.Neigh{{IP: first, HardwareAddr: old}, {IP: second, HardwareAddr: fresh}} {
			n.LinkIndex, n.State = eth0.Attrs().Index, netlink.NUD_PERMANENT
			if err := netlink.NeighSet(&n); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestRouteGetsAnotherGateway: the route to a device's network changes to another
// gateway on the same interface, and the one before is no more. What the programs
// send to a device that has long been connected goes by way of the new one.
func TestRouteGetsAnotherGateway(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ipv6=%v", mode, ipv6), func(t *testing.T) {
				l := newLab(t)
				far, first, second := net.ParseIP("10.99.0.2"), net.ParseIP("10.88.0.2"), net.ParseIP("10.88.0.3")
				if ipv6 {
					far, first, second = net.ParseIP("fd99::2"), net.ParseIP("fd88::2"), net.ParseIP("fd88::3")
				}
				farNet := addLoopback(t, l, far)
				secondGateway(t, l, first, second)
				by := func(gateway net.IP) {
					t.Helper()
					if err := l.Do(lab.Node, func() error { return netlink.RouteReplace(&netlink.Route{Dst: farNet, Gw: gateway}) }); err != nil {
						t.Fatal(err)
					}
				}
				by(first)
				r := newRecorder()
				r.serveGo(t, l, ipv6, ok, nil)
				s := start(t, l, mode, podConfig(routeConfig, ipv6))
				c := connectFrom(t, l, far, "far")
				publish := func(n uint16) (taken int) {
					t.Helper()
					before := s.counts()
					for i := range n {
						c.publish("sensors/far/temp", i+1, "x")
					}
					taken, _ = share(before, s.counts())
					return taken
				}
				publish(10)
				by(second)
				if err := l.Do(lab.Dev, func() error {
					eth0, err := netlink.LinkByName("eth0")
					if err != nil {
						return err
					}
					return netlink.LinkSetHardwareAddr(eth0, net.HardwareAddr{2, 0, 0, 0, 8, 3})
				}); err != nil {
					t.Fatal(err)
				}
				if taken := publish(10); taken < 9 {
					t.Errorf("%d of 10 messages were taken: the test tests nothing", taken)
				}
			})
		}
	}
}

// TestGatewayMoves: devices are behind a gateway, which gets another link address. What
// the programs send to a device that has long been connected follows the kernel's
// neighbour table, although no frame of the connection told them. The same for a
// device without a gateway.
func TestGatewayMoves(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ipv6=%v", mode, ipv6), func(t *testing.T) {
				l := newLab(t)
				far, gateway := net.ParseIP("10.99.0.2"), net.ParseIP("10.88.0.2")
				if ipv6 {
					far, gateway = net.ParseIP("fd99::2"), net.ParseIP("fd88::2")
				}
				farNet := addLoopback(t, l, far)
				if err := l.Do(lab.Node, func() error { return netlink.RouteAdd(&netlink.Route{Dst: farNet, Gw: gateway}) }); err != nil {
					t.Fatal(err)
				}
				r := newRecorder()
				r.serveGo(t, l, ipv6, ok, nil)
				s := start(t, l, mode, podConfig(routeConfig, ipv6))
				behind, beside := connectFrom(t, l, far, "behind"), connectFrom(t, l, gateway, "beside")
				publish := func(n uint16) {
					t.Helper()
					for i := range n {
						behind.publish("sensors/behind/temp", i+1, "x")
						beside.publish("sensors/beside/temp", i+1, "x")
					}
				}
				publish(10)
				for move := range 3 {
					remap(t, l, lab.Dev, "eth0", []net.IP{gateway}, net.HardwareAddr{2, 0, 0, 0, 9, byte(move)})
					before := s.counts()
					publish(10)
					taken, eligible := share(before, s.counts())
					if taken < eligible*9/10 || taken == 0 {
						t.Errorf("%d of %d messages were taken: the test tests nothing", taken, eligible)
					}
				}
			})
		}
	}
}

// TestPodMoves: pods get other link addresses while connections to them are open. Requests
// follow, none is given up.
func TestPodMoves(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ipv6=%v", mode, ipv6), func(t *testing.T) {
				l := newLab(t)
				r := newRecorder()
				r.serveGo(t, l, ipv6, ok, nil)
				start(t, l, mode, podConfig(routeConfig, ipv6)+metricsConfig)
				c := rawConnectIn(t, l, ipv6, "d")
				for move := range 3 {
					for i := range uint16(20) {
						c.publish("sensors/d/temp", i+1, "x")
					}
					for n, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
						remap(t, l, pod, string(pod), []net.IP{net.IP(lab.PodAddr(pod, ipv6).AsSlice())}, net.HardwareAddr{2, 0, 0, 0, byte(n), byte(move)})
					}
				}
				for i := range uint16(20) {
					c.publish("sensors/d/temp", i+1, "x")
				}
				givenUpNone(t, l)
			})
		}
	}
}

// TestRouteChangesGateway: the route to a device changes to another gateway on the same
// interface, of which the node knows no link address yet; the old gateway is dead. What
// the programs send to a device that has long been connected, and that sends nothing
// but what they take, goes to the new one.
func TestRouteChangesGateway(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			run := func(host lab.Role, args ...string) {
				t.Helper()
				if out, err := l.Run(context.Background(), host, "ip", args...); err != nil {
					t.Fatalf("ip %v: %v: %s", args, err, out)
				}
			}
			// The device is its own gateway, by two link addresses: each says only its own IP address.
			if err := l.SetSysctl(lab.Dev, "ipv4/conf/all/arp_ignore", "1"); err != nil {
				t.Fatal(err)
			}
			run(lab.Dev, "addr", "add", "10.99.0.2/32", "dev", "lo")
			run(lab.Dev, "link", "add", "gw2", "link", "eth0", "type", "macvlan")
			run(lab.Dev, "addr", "add", "10.88.0.3/32", "dev", "gw2")
			run(lab.Dev, "link", "set", "gw2", "up")
			run(lab.Node, "route", "add", "10.99.0.2", "via", "10.88.0.2")
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(routeConfig, false))
			c := connectFrom(t, l, net.ParseIP("10.99.0.2"), "behind")
			publish := func(from uint16) {
				t.Helper()
				for i := range uint16(10) {
					c.publish("sensors/behind/temp", from+i, "x")
				}
			}
			publish(1)

			// Nobody hears the old gateway's address any more, and nobody tells the node.
			run(lab.Node, "neigh", "replace", "10.88.0.2", "lladdr", "02:00:00:00:09:01", "dev", "eth0", "nud", "permanent")
			run(lab.Node, "route", "replace", "10.99.0.2", "via", "10.88.0.3")
			before := s.counts()
			publish(11)
			if taken, eligible := share(before, s.counts()); taken < eligible*9/10 || taken == 0 {
				t.Errorf("%d of %d messages were taken: the test tests nothing", taken, eligible)
			}
		})
	}
}
