package netns

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
)

// Options of a connection in its TCP_INFO (include/uapi/linux/tcp.h).
const (
	tcpiTimestamps = 1
	tcpiSACK       = 2
)

// negotiated are the TCP options that a connection of the device's host to port 1883 has.
func negotiated(t *testing.T, l *lab.Lab, to netip.Addr) byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c, err := l.Dial(ctx, lab.Dev, netip.AddrPortFrom(to, 1883).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rc, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	if cerr := rc.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return info.Options
}

// TestForwardedConnectionsKeepOptions: connections to the MQTT server have SACK and no
// timestamps; those that the node only forwards, to the same port of
// another host, have both.
func TestForwardedConnectionsKeepOptions(t *testing.T) {
	for _, listeners := range []string{"", "listeners: [{address: \"10.88.0.1:1883\"}, {address: \"[fd88::1]:1883\"}]\n"} {
		l := newLab(t)
		for _, ipv6 := range []bool{false, true} {
			ln, err := l.Listen(lab.Pod0, netip.AddrPortFrom(lab.PodAddr(lab.Pod0, ipv6), 1883).String())
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
		}
		newRecorder().serveGo(t, l, false, ok, nil)
		start(t, l, "tc", strings.Replace(podConfig(failureConfig, false), "DEAD", "", 1)+listeners)
		for _, ipv6 := range []bool{false, true} {
			if o := negotiated(t, l, lab.NodeAddr(ipv6)); o&(tcpiTimestamps|tcpiSACK) != tcpiSACK {
				t.Errorf("listeners %q, ipv6 %v: options %#x with the server", listeners, ipv6, o)
			}
			if o := negotiated(t, l, lab.PodAddr(lab.Pod0, ipv6)); o&(tcpiTimestamps|tcpiSACK) != tcpiTimestamps|tcpiSACK {
				t.Errorf("listeners %q, ipv6 %v: options %#x with the other host", listeners, ipv6, o)
			}
		}
	}
}
