package netns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"eproxy/test/lib/lab"
)

// cniDir is where Debian's containernetworking-plugins are.
const cniDir = "/usr/lib/cni"

// cni has a CNI plugin join a host's namespace, or leave it, as a container runtime does
// (CNI specification 1.0, section 2). Returns the addresses that the plugin has chosen.
func cni(t *testing.T, l *lab.Lab, command string, host lab.Role, network map[string]any) []string {
	t.Helper()
	network["cniVersion"], network["name"] = "1.0.0", "pods"
	in, err := json.Marshal(network)
	if err != nil {
		t.Fatal(err)
	}
	plugin := filepath.Join(cniDir, network["type"].(string))
	var out bytes.Buffer
	cmd := exec.Command(plugin)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &out
	cmd.Env = []string{"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + l.Name(host), "CNI_NETNS=" + l.Path(host), "CNI_IFNAME=eth0", "CNI_PATH=" + cniDir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if err := l.Do(lab.Node, cmd.Run); err != nil {
		t.Fatalf("%s %s (make test-deps installs the plugins): %v: %s", plugin, command, err, out.Bytes())
	}
	var result struct{ IPs []struct{ Address string } }
	if err := json.Unmarshal(out.Bytes(), &result); command == "ADD" && err != nil {
		t.Fatalf("%s: %v: %s", plugin, err, out.Bytes())
	}
	var addresses []string
	for _, ip := range result.IPs {
		a, _, err := net.ParseCIDR(ip.Address)
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, a.String())
	}
	return addresses
}

// network is the configuration of a CNI plugin, with addresses of both families from host-local.
func network(t *testing.T, plugin string, more map[string]any) map[string]any {
	out := map[string]any{"type": plugin, "ipam": map[string]any{"type": "host-local", "dataDir": t.TempDir(),
		"ranges": []any{[]any{map[string]any{"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.10"}}, []any{map[string]any{"subnet": "fd77::/64", "rangeStart": "fd77::10"}}},
		"routes": []any{map[string]any{"dst": "0.0.0.0/0"}, map[string]any{"dst": "::/0"}}}}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// run runs commands on a host that must not fail.
func run(t *testing.T, l *lab.Lab, host lab.Role, lines ...string) {
	t.Helper()
	for _, line := range lines {
		words := strings.Fields(line)
		if out, err := l.Run(context.Background(), host, words[0], words[1:]...); err != nil {
			t.Fatalf("%s: %s: %v: %s", host, line, err, out)
		}
	}
}

// place is where a pod is, for whom it is made there.
type place struct {
	name string
	host lab.Role // that serves
	join func(t *testing.T, l *lab.Lab) []string
	way  string
	why  string // part of the reason why not better
}

// places are how CNI plugins join pods to a node, Debian's plugins for real, others as they do it.
var places = []place{
	{"bridge", lab.Pod1, func(t *testing.T, l *lab.Lab) []string {
		return cni(t, l, "ADD", lab.Pod1, network(t, "bridge", map[string]any{"bridge": "cni0", "isGateway": true}))
	}, "tc", "cni0 is a bridge"},
	{"ptp", lab.Pod1, func(t *testing.T, l *lab.Lab) []string {
		return cni(t, l, "ADD", lab.Pod1, network(t, "ptp", nil))
	}, "tc", "takes no XDP redirects until GRO is on at its far end"},
	// A pod and its node reach each other by a macvlan of the node's own beside the pod's.
	{"macvlan", lab.Pod1, func(t *testing.T, l *lab.Lab) []string {
		run(t, l, lab.Node, "ip link add up0 type veth peer name up1", "ip link set up0 up", "ip link set up1 up", "ip link add mv0 link up0 type macvlan mode bridge",
			"ip addr add 10.77.0.1/24 dev mv0", "ip addr add fd77::1/64 dev mv0 nodad", "ip link set mv0 up")
		return cni(t, l, "ADD", lab.Pod1, network(t, "macvlan", map[string]any{"master": "up0"}))
	}, "fallback", "it is behind mv0, a macvlan of up0"},
	{"host network", lab.Node, func(t *testing.T, l *lab.Lab) []string {
		run(t, l, lab.Node, "ip addr add 10.77.0.10/32 dev lo", "ip addr add fd77::10/128 dev lo nodad")
		return []string{"10.77.0.10", "fd77::10"}
	}, "fallback", "is this host itself"},
	// As Calico: the address alone at the pod, whose gateway is nobody's address and answered for by the
	// node; a route for each pod at the node, whose end of the pair has no address.
	{"routed veth", lab.Pod1, func(t *testing.T, l *lab.Lab) []string {
		run(t, l, lab.Node, "ip link add cali0 type veth peer name eth0 netns "+l.Name(lab.Pod1), "ip link set cali0 address ee:ee:ee:ee:ee:ee addrgenmode none up",
			"ip -6 addr add fe80::1/64 dev cali0 nodad", "sysctl -q -w net.ipv4.conf.cali0.proxy_arp=1", "ip route add default via 10.88.0.2") // proxy ARP is for what is routed
		run(t, l, lab.Pod1, "ip addr add 10.77.0.10/32 dev eth0", "ip addr add fd77::10/128 dev eth0 nodad", "ip link set eth0 up",
			"ip route add 169.254.1.1 dev eth0 scope link", "ip route add default via 169.254.1.1 dev eth0", "ip -6 route add default via fe80::1 dev eth0")
		run(t, l, lab.Node, "ip route add 10.77.0.10/32 dev cali0 scope link", "ip -6 route add fd77::10/128 dev cali0")
		return []string{"10.77.0.10", "fd77::10"}
	}, "tc", "takes no XDP redirects until GRO is on at its far end"},
	// As Flannel: the pod is on another node, behind an overlay over the interface that devices arrive on.
	{"overlay", lab.Dev, func(t *testing.T, l *lab.Lab) []string {
		for _, end := range []struct {
			host                lab.Role
			local, remote, v4   string
			gateway, subnet, v6 string
		}{{lab.Node, "10.88.0.1", "10.88.0.2", "10.77.0.1", "10.77.1.1", "10.77.1.0/24", "fd77::1"}, {lab.Dev, "10.88.0.2", "10.88.0.1", "10.77.1.1", "10.77.0.1", "10.77.0.0/24", "fd77::2"}} {
			run(t, l, end.host, "ip link add flannel.1 type vxlan id 1 local "+end.local+" remote "+end.remote+" dstport 4789 dev eth0",
				"ip addr add "+end.v4+"/32 dev flannel.1", "ip addr add "+end.v6+"/64 dev flannel.1 nodad", "ip link set flannel.1 up",
				"ip route add "+end.subnet+" via "+end.gateway+" dev flannel.1 onlink")
		}
		run(t, l, lab.Dev, "ip addr add 10.77.1.10/32 dev lo")
		return []string{"10.77.1.10", "fd77::2"}
	}, "tc", "flannel.1 (vxlan) takes no XDP redirects"},
	{"another node", lab.Dev, func(t *testing.T, l *lab.Lab) []string {
		run(t, l, lab.Dev, "ip addr add 10.77.0.10/32 dev lo", "ip addr add fd77::10/128 dev lo nodad")
		run(t, l, lab.Node, "ip route add 10.77.0.0/24 via 10.88.0.2", "ip -6 route add fd77::/64 via fd88::2")
		return []string{"10.77.0.10", "fd77::10"}
	}, "fallback", "it is behind eth0, which devices arrive on"},
}

// TestPlaces: pods wherever CNI plugins put them, of both address families, are taken in the kernel, or
// served by the fallback for a reason that is told; messages arrive in either case.
func TestPlaces(t *testing.T) {
	for _, at := range places {
		t.Run(at.name, func(t *testing.T) {
			l := newLab(t)
			if err := l.Cut(lab.Pod1); err != nil {
				t.Fatal(err)
			}
			addresses := at.join(t, l)
			if len(addresses) != 2 {
				t.Fatalf("the pod has the addresses %q, want two", addresses)
			}
			r := newRecorder()
			config := "functions:\n"
			for i, a := range addresses {
				addresses[i] = net.JoinHostPort(a, "8080")
				serveOn(t, l, at.host, addresses[i], r.handler(ok), nil)
				config += fmt.Sprintf("  - {name: f%d, url: \"http://f.local/in\", pods: [\"%s\"]}\n", i, addresses[i])
			}
			s := start(t, l, "xdp", config+"routes:\n  - {topic: t0, function: f0}\n  - {topic: t1, function: f1}\n")
			for _, row := range s.mapsctl("pods") {
				if row["reached_by"] != at.way || !strings.Contains(row["reason"].(string), at.why) {
					t.Errorf("%s is reached by %s: %s; want %s: %s", row["pod"], row["reached_by"], row["reason"], at.way, at.why)
				}
				if remote := at.host == lab.Dev; (row["place"] == "remote") != remote {
					t.Errorf("%s: %s, on another node: %v", row["pod"], row["place"], remote)
				}
			}
			for i := range addresses {
				s.served(rawConnectIn(t, l, i == 1, fmt.Sprint("dev", i)), fmt.Sprint("t", i), r, at.way != "fallback")
			}
		})
	}
}

// served publishes messages that must reach the function; if the kernel is to take them, at last by it alone.
func (s *system) served(c *rawConn, topic string, r *recorder, kernel bool) {
	s.t.Helper()
	const n = 5
	eventually(s.t, func() (bool, string) {
		before, had := s.counts(), len(first(r.all()))
		for i := range n {
			c.publish(topic, uint16(i+1), "message")
		}
		r.wait(s.t, had+n)
		taken, _ := share(before, s.counts())
		return kernel == (taken == n) && (kernel || taken == 0), fmt.Sprintf("the kernel took %d of %d messages", taken, n)
	})
}
