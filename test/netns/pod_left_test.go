package netns

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"eproxy/test/lib/lab"
)

// onNode runs a command on the node that must not fail.
func onNode(t *testing.T, l *lab.Lab, line string) {
	t.Helper()
	words := strings.Fields(line)
	if out, err := l.Run(context.Background(), lab.Node, words[0], words[1:]...); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// leftPods are pods that no program can be put in front of, with what is said of
// them everywhere. Those with a host are served there.
var leftPods = []struct {
	name, address, reason string
	host                  lab.Role
}{
	{"loopback", "127.0.0.1:8081", "127.0.0.1 is this host itself", lab.Node},
	{"loopback6", "[::1]:8081", "::1 is this host itself", lab.Node},
	{"own", "10.88.0.1:8081", "10.88.0.1 is this host itself", lab.Node},
	{"own6", "[fd88::1]:8081", "fd88::1 is this host itself", lab.Node},
	{"outside", "10.88.0.2:8081", "it is behind eth0, which devices arrive on", lab.Dev},
	{"macvlan", "10.88.5.2:8081", "it is behind mv0, a macvlan of eth0", lab.Dev},
	{"tunnel", "10.88.8.2:8081", "it is behind tun0, which is not Ethernet", ""},
	{"nowhere", "192.0.2.1:8081", "no route to 192.0.2.1", ""},
	{"prohibited", "192.0.2.2:8081", "no route to 192.0.2.2: permission denied", ""},
}

// leftConfig has a function for each of them, and one that has pods of all kinds.
func leftConfig() string {
	var functions, routes, all strings.Builder
	for _, p := range leftPods {
		fmt.Fprintf(&functions, "  - {name: %s, url: \"http://%s.local/in\", pods: [\"%s\"], retry: {attempts: 1}}\n", p.name, p.name, p.address)
		fmt.Fprintf(&routes, "  - {topic: \"to/%s\", function: %s}\n", p.name, p.name)
		fmt.Fprintf(&all, ", \"%s\"", p.address)
	}
	return fmt.Sprintf("functions:\n  - {name: mixed, url: \"http://mixed.local/in\", pods: [\"10.88.1.2:8080\", \"10.88.2.2:8080\"%s], concurrency: 2}\n%sroutes:\n"+
		"  - {topic: \"to/mixed\", function: mixed}\n  - {topic: \"twice/mixed\", functions: [mixed, own]}\n%s", all.String(), functions.String(), routes.String())
}

// TestLeftPods: pods that the kernel path cannot reach keep the loader neither
// from starting nor from serving the others. Messages for them go through the
// fallback; run says so once for each, and check, doctor, status and mapsctl with
// the same words.
func TestLeftPods(t *testing.T) {
	l := newLab(t)
	for _, line := range []string{
		"ip link add mv0 link eth0 type macvlan", "ip addr add 10.88.5.1/24 dev mv0", "ip link set mv0 up",
		"ip tuntap add tun0 mode tun", "ip addr add 10.88.8.1/24 dev tun0", "ip link set tun0 up",
		"ip route add prohibit 192.0.2.2",
	} {
		onNode(t, l, line)
	}
	if out, err := l.Run(context.Background(), lab.Dev, "ip", "addr", "add", "10.88.5.2/24", "dev", "eth0"); err != nil {
		t.Fatalf("%s", out)
	}
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	for _, p := range leftPods {
		if p.host != "" {
			serveOn(t, l, p.host, p.address, r.handler(ok), nil)
		}
	}

	s := start(t, l, "xdp", leftConfig())
	checkWords(t, s)

	// Each function is served: those without a pod in the kernel by the fallback.
	c := rawConnect(t, l, "dev")
	sent := 0
	for _, p := range leftPods {
		if p.host == "" {
			continue
		}
		sent++
		c.publish("to/"+p.name, uint16(sent), p.name)
	}
	if got := r.wait(t, sent); len(got) != sent {
		t.Errorf("%d requests for %d messages", len(got), sent)
	}
	if taken, _ := share(nil, s.counts()); taken != 0 {
		t.Errorf("the kernel took %d messages that only the fallback can deliver", taken)
	}
	// A function with pods of all kinds: the kernel takes what it can, and what it
	// leaves reaches some pod, with few connections to each.
	for i := range 10 {
		c.publish("to/mixed", uint16(100+i), "mixed")
	}
	if taken, _ := share(nil, s.counts()); taken != 10 {
		t.Errorf("the kernel took %d of 10 messages for a function that has pods there", taken)
	}
	for i := range 40 {
		c.publish("twice/mixed", uint16(200+i), "twice")
	}
	hosts := make(map[string]int)
	got := r.wait(t, sent+10+80)
	for _, q := range got[sent:] {
		hosts[q.headers["host"]]++
	}
	if hosts["mixed.local"] != 50 || hosts["own.local"] != 40 {
		t.Errorf("requests by function: %v, want 50 and 40", hosts)
	}
}

// checkWords compares what all commands say about the pods.
func checkWords(t *testing.T, s *system) {
	t.Helper()
	_, check := loader(t, s.lab, "check", "--config", s.file)
	_, doctor := loader(t, s.lab, "doctor", "--config", s.file)
	_, status := loader(t, s.lab, "status", "--bpffs", s.lab.BPFFS())
	pods := make(map[string]string)
	for _, row := range s.mapsctl("pods") {
		pods[row["function"].(string)+" "+row["pod"].(string)] = row["reached_by"].(string) + ": " + row["reason"].(string)
	}
	for _, p := range leftPods {
		for _, function := range []string{p.name, "mixed"} {
			words := "served by the fallback: " + p.reason
			name := p.address + " of " + function
			if !strings.Contains(check, "pod "+name+": here "+words+"\n") {
				t.Errorf("check does not say %q of %s:\n%s", words, name, check)
			}
			if !hasLine(doctor, "pod "+name, "degraded", words) {
				t.Errorf("doctor does not say %q of %s:\n%s", words, name, doctor)
			}
			if !hasLine(status, "pod", name, "fallback", words) {
				t.Errorf("status does not say %q of %s:\n%s", words, name, status)
			}
			if got := pods[function+" "+p.address]; got != "fallback: "+p.reason {
				t.Errorf("mapsctl pods says %q of %s, want %q", got, name, p.reason)
			}
			line := fmt.Sprintf("level=WARN msg=\"pod is served by the fallback\" function=%s pod=%s reason=%q", function, p.address, p.reason)
			if strings.Count(s.Log(), line) != 1 {
				t.Errorf("the log has %d times %s", strings.Count(s.Log(), line), line)
			}
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// hasLine says whether some line of a table has these cells, in this order.
func hasLine(table string, cells ...string) bool {
	for line := range strings.SplitSeq(table, "\n") {
		var at int
		all := true
		for _, c := range cells {
			i := strings.Index(line[at:], c)
			if all = all && i >= 0; !all {
				break
			}
			at += i + len(c)
		}
		if all && strings.HasSuffix(strings.TrimRight(line, " "), cells[len(cells)-1]) {
			return true
		}
	}
	return false
}

// TestPodComesIntoReach: a pod without a route is the fallback's; once there is a
// route, a reload gives it to the kernel path, and takes it back when the route is
// gone. A pod behind a new interface under the old address gets new slots.
func TestPodComesIntoReach(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	onNode(t, l, "ip link set pod1 down")
	s := start(t, l, "tc", "functions:\n  - {name: f, url: \"http://f.local/in\", pods: [\"10.88.2.2:8080\"]}\nroutes:\n  - {topic: t, function: f}\ndrain_timeout: 10s\n")
	by := func(want string) {
		t.Helper()
		rows := s.mapsctl("pods")
		if len(rows) != 1 || rows[0]["reached_by"] != want {
			t.Fatalf("%v, want one pod that is reached by %s", rows, want)
		}
	}
	by("fallback")
	c := rawConnect(t, l, "dev")

	onNode(t, l, "ip link set pod1 up")
	s.reload("drain_timeout: 10s\n", "drain_timeout: 11s\n", "msg=reloaded")
	by("tc")
	s.slotsReturn(t)
	c.publish("t", 1, "in the kernel")
	if n := s.counts()["tc_device_in/taken"]; n != 1 {
		t.Errorf("the kernel took %d of 1 message", n)
	}

	onNode(t, l, "ip link set pod1 down")
	s.reload("drain_timeout: 11s\n", "drain_timeout: 10s\n", "msg=reloaded")
	by("fallback")
	onNode(t, l, "ip link set pod1 up")
	c.publish("t", 2, "through the fallback, which needs no reload")
	if got := r.wait(t, 2); len(got) != 2 {
		t.Errorf("%d requests for 2 messages", len(got))
	}
}
