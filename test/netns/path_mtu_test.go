package netns

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// TestPathMTU: a client behind a router with a smaller MTU has been sent so many
// PUBACKs by the programs that no number of the server's socket looks like one on
// the wire. The router's ICMP errors reach that socket all the same: a message
// for the client that is longer than the path arrives, in shorter segments.
func TestPathMTU(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ipv6=%v", mode, ipv6), func(t *testing.T) {
				l, err := lab.NewRouted(lab.Dev, 1280)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(l.Close)
				r := newRecorder()
				r.serveGo(t, l, ipv6, ok, nil)
				s := start(t, l, mode, podConfig(routeConfig, ipv6))
				c, other := rawConnectIn(t, l, ipv6, "far"), rawConnectIn(t, l, ipv6, "other")
				c.write([]byte{0x82, 9, 0, 1, 0, 4, 'n', 'e', 'w', 's', 0})
				c.read([]byte{0x90, 3, 0, 1, 0})
				messages := make([]message, 2000)
				for i := range messages {
					messages[i] = message{topic: "sensors/far/temp", qos: 1, payload: fmt.Sprint(i)}
				}
				c.publishAll(messages, 16)
				if n := s.counts()["tc_pod_in/response"]; n < 1000 {
					t.Fatalf("the programs sent %d PUBACKs: the test tests nothing", n)
				}
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				for size := range 3 { // less than one segment, more, and many
					news := publishPacket("news", 0, 0, strings.Repeat("x", []int{1300, 4000, 60000}[size]))
					other.write(news)
					c.read(news)
				}
				c.publishAll(messages[:100], 16)
				if n := s.counts()["tc_device_in/icmp_translated"]; n == 0 {
					t.Error("no ICMP error was translated: the test tests nothing")
				}
			})
		}
	}
}

// TestPodPathMTU: the path to a pod takes no segment as long as its request. The
// router's ICMP errors quote what no socket of the node has sent: the requests leave
// again at once, in shorter segments, each arrives once, and later ones do not get
// lost at all.
func TestPodPathMTU(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ipv6=%v", mode, ipv6), func(t *testing.T) {
				l, err := lab.NewRouted(lab.Pod0, 1280)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(l.Close)
				r := newRecorder()
				r.serveGo(t, l, ipv6, ok, nil)
				config := strings.Replace(podConfig(routeConfig, ipv6), "    retry:", "    pipeline: 8\n    retry:", 1) + metricsConfig
				s := start(t, l, mode, config)
				c := rawConnectIn(t, l, ipv6, "far")
				messages := make([]message, 400)
				for i := range messages {
					messages[i] = message{topic: "sensors/far/temp", qos: 1, payload: fmt.Sprint(i, " ", strings.Repeat("x", 1150))}
				}
				c.publishAll(messages, 8)
				counts := s.counts()
				if counts["tc_pod_in/request_resent"] == 0 || counts["tc_pod_in/path_mtu"] == 0 {
					t.Error("no request was sent again: the test tests nothing")
				}
				givenUpNone(t, l)
				deliveredOnce(t, r, messages)
			})
		}
	}
}
