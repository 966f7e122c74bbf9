package netns

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// TestStrayConnections: connections of devices that no program sees, because netfilter translates their
// address as for a NodePort, or because they come by another interface, are served, counted and logged with the
// reason; others are neither.
func TestStrayConnections(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		t.Run(family(ipv6), func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, ipv6, ok, nil)
			table := map[bool]string{false: "ip", true: "ip6"}[ipv6]
			for _, line := range []string{"nft add table " + table + " nat", "nft add chain " + table + " nat prerouting { type nat hook prerouting priority -100 ; }",
				"nft add rule " + table + " nat prerouting tcp dport 31883 redirect to :1883"} {
				onNode(t, l, line)
			}
			s := start(t, l, "tc", podConfig(oneFunctionAt, ipv6))
			node := lab.NodeAddr(ipv6).String()
			dial := func(from lab.Role, port, id string) *rawConn {
				nc, err := l.Dial(context.Background(), from, net.JoinHostPort(node, port))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = nc.Close() })
				_ = nc.SetDeadline(time.Now().Add(time.Minute))
				c := &rawConn{nc, t}
				c.connect(id)
				return c
			}
			direct := rawConnectIn(t, l, ipv6, "direct")
			translated, elsewhere := dial(lab.Dev, "31883", "translated"), dial(lab.Pod0, "1883", "elsewhere")
			s.served(direct, "t", r, true)
			before := s.counts()
			translated.publish("t", 1, "translated")
			elsewhere.publish("t", 1, "elsewhere")
			if taken, _ := share(before, s.counts()); taken != 0 {
				t.Errorf("the kernel took %d messages that it cannot see: the test tests nothing", taken)
			}
			eventually(t, func() (bool, string) {
				text := scrape(t, l)
				return strings.Contains(text, `eproxy_stray_connections_total{reason="translated"} 1`+"\n") && strings.Contains(text, `eproxy_stray_connections_total{reason="elsewhere"} 1`+"\n"), text
			})
			for _, part := range []string{"client=translated local=", "client=elsewhere local=", "has connected to " + net.JoinHostPort(node, "31883") + ", which is translated", "by an interface that is not among interfaces"} {
				if n := strings.Count(s.Log(), part); n != 1 {
					t.Errorf("the log has %d times %q", n, part)
				}
			}
			if strings.Contains(s.Log(), "no program sees it\" client=direct") {
				t.Error("a connection that the programs see is called a stray")
			}
		})
	}
}

// oneFunctionAt is oneFunction with pods of a family.
const oneFunctionAt = "functions:\n  - {name: f, url: \"http://f.local/in\", pods: [\"%s\", \"%s\"]}\nroutes:\n  - {topic: t, function: f}\n" +
	"metrics: {listen: \"127.0.0.1:9464\"}\n"
