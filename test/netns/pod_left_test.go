package netns

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

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

// TestUnreachablePodsAreLeft: pods that the kernel path cannot reach keep the loader neither
// from starting nor from serving the others. Messages for them go through the
// fallback; run says so once for each, and check, doctor, status and mapsctl with
// the same words.
func TestUnreachablePodsAreLeft(t *testing.T) {
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

	s := start(t, l, "xdp", leftConfig()+metricsConfig)
	checkWords(t, s)
	inFlight := scrapeSeries(t, l)
	for _, p := range leftPods {
		if v, known := inFlight[fmt.Sprintf("eproxy_function_inflight{function=%q,pod=%q}", p.name, p.address)]; !known || v != 0 {
			t.Errorf("requests in flight to %s of %s: %v, told: %v", p.address, p.name, v, known)
		}
	}

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
	s.warm(t, "to/mixed", 1)
	sent = len(first(r.all()))
	before := s.counts()
	for i := range 10 {
		c.publish("to/mixed", uint16(100+i), "mixed")
	}
	if taken, _ := share(before, s.counts()); taken != 10 {
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

// oneFunction has a pod behind pod1 only.
const oneFunction = "functions:\n  - {name: f, url: \"http://f.local/in\", pods: [\"10.88.2.2:8080\"]}\nroutes:\n  - {topic: t, function: f}\n" +
	"metrics: {listen: \"127.0.0.1:9464\"}\n"

// reachedBy checks how the only pod is reached.
func (s *system) reachedBy(want string) {
	s.t.Helper()
	rows := s.mapsctl("pods")
	if len(rows) != 1 || rows[0]["reached_by"] != want {
		s.t.Fatalf("%v, want one pod that is reached by %s", rows, want)
	}
}

// kernelTakes publishes n messages that the kernel must take, once it has a connection for them.
func (s *system) kernelTakes(c *rawConn, n int) {
	s.t.Helper()
	s.warm(s.t, "t", 1)
	before := s.counts()
	for range n {
		serial.Add(1)
		c.publish("t", uint16(serial.Load()), "in the kernel")
	}
	if taken, _ := share(before, s.counts()); taken != n {
		s.t.Errorf("the kernel took %d of %d messages", taken, n)
	}
}

// TestPodComesIntoReach: a pod without a route is the fallback's; as there is a
// route it is given to the kernel path, without a reload, and taken back when the
// route is gone. A reload in either state changes nothing about it.
func TestPodComesIntoReach(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	onNode(t, l, "ip link set pod1 down")
	s := start(t, l, "tc", oneFunction)
	s.reachedBy("fallback")
	s.reload("metrics:", "drain_timeout: 11s\nmetrics:", "msg=reloaded")
	s.reachedBy("fallback")
	c := rawConnect(t, l, "dev")

	line := s.Expect("pod is served by the kernel path from now on")
	onNode(t, l, "ip link set pod1 up")
	if err := line(); err != nil {
		t.Fatal(err)
	}
	s.reachedBy("tc")
	s.slotsReturn(t)
	s.kernelTakes(c, 3)
	s.reload("drain_timeout: 11s", "drain_timeout: 12s", "msg=reloaded")
	s.kernelTakes(c, 3)

	line = s.Expect("pod is served by the fallback")
	onNode(t, l, "ip link set pod1 down")
	if err := line(); err != nil {
		t.Fatal(err)
	}
	s.reachedBy("fallback")
}

// TestPodReplacedAtTheLimit: where limits.pods has no entry to spare, the pod that
// replaces another is the fallback's only until the other one has left.
func TestPodReplacedAtTheLimit(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "tc", oneFunction+"limits: {pods: 1}\n")
	c := rawConnect(t, l, "dev")
	s.kernelTakes(c, 3)
	line := s.Expect("pod is served by the kernel path from now on")
	s.reload("10.88.2.2", "10.88.1.2", "msg=reloaded")
	if err := line(); err != nil {
		t.Fatal(err)
	}
	s.slotsReturn(t)
	s.kernelTakes(c, 3)
}

// TestTranslatedPod: a pod's address that netfilter translates, as a ClusterIP
// is, gets connections that the programs never see as they were dialled. It is
// the fallback's, and a reload tries again.
func TestTranslatedPod(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	onNode(t, l, "ip route add 10.99.0.1 via 10.88.2.2")
	for _, line := range []string{"nft add table ip nat", "nft add chain ip nat output { type nat hook output priority -100 ; }",
		"nft add rule ip nat output ip daddr 10.99.0.1 dnat to 10.88.2.2"} {
		onNode(t, l, line)
	}
	s := start(t, l, "tc", strings.Replace(oneFunction, "10.88.2.2", "10.99.0.1", 1))
	s.waitReachedBy("fallback")
	if !strings.Contains(s.Log(), `reason="connections to it do not leave through pod1 as they are dialled: its address is translated, or its traffic routed by policy"`) {
		t.Error("the log does not say why")
	}
	c := rawConnect(t, l, "dev")
	c.publish("t", 1, "through the fallback")
	if got := r.wait(t, 1); len(got) != 1 {
		t.Errorf("%d requests for a message", len(got))
	}
	onNode(t, l, "nft delete table ip nat")
	if out, err := l.Run(context.Background(), lab.Pod1, "ip", "addr", "add", "10.99.0.1/32", "dev", "lo"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	serveOn(t, l, lab.Pod1, "10.99.0.1:8080", r.handler(ok), nil)
	s.reload("metrics:", "drain_timeout: 11s\nmetrics:", "msg=reloaded")
	s.reachedBy("tc")
	s.slotsReturn(t)
	s.kernelTakes(c, 3)
}

// waitReachedBy waits until the only pod is reached in a way.
func (s *system) waitReachedBy(want string) {
	s.t.Helper()
	late := time.After(30 * time.Second)
	for {
		rows := s.mapsctl("pods")
		if len(rows) == 1 && rows[0]["reached_by"] == want {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-late:
			s.t.Fatalf("%v, want one pod that is reached by %s", rows, want)
		}
	}
}

// TestPodInterfaceMadeAgain: a pod comes back under its address behind a new
// interface, as a pod that is recreated does. Its slots follow.
func TestPodInterfaceMadeAgain(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "xdp", oneFunction)
	c := rawConnect(t, l, "dev")
	s.kernelTakes(c, 3)
	for range 2 {
		left := s.Expect("pod is served by the fallback")
		if err := l.Cut(lab.Pod1); err != nil {
			t.Fatal(err)
		}
		if err := left(); err != nil {
			t.Fatal(err)
		}
		back := s.Expect("pod is served by the kernel path from now on")
		if err := l.Join(lab.Pod1); err != nil {
			t.Fatal(err)
		}
		if err := back(); err != nil {
			t.Fatal(err)
		}
		s.slotsReturn(t)
		s.kernelTakes(c, 3)
	}
	if n := strings.Count(s.Log(), `msg="interface is gone" interface=pod1`); n != 1 {
		t.Errorf("the log says %d times that the interface is gone, want once, and a count later", n)
	}
	if want := `eproxy_interfaces_gone_total{interface="pod1"} 2` + "\n"; !strings.Contains(scrape(t, l), want) {
		t.Errorf("metrics lack %s", want)
	}
}

// TestNodeInterfaceMadeAgain: the interface that devices arrive on is deleted and
// made again. New clients are served in the kernel again.
func TestNodeInterfaceMadeAgain(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "xdp", oneFunction)
	s.kernelTakes(rawConnect(t, l, "before"), 3)
	gone := s.Expect(`msg="interface is gone" interface=eth0`)
	if err := l.Cut(lab.Dev); err != nil {
		t.Fatal(err)
	}
	if err := gone(); err != nil {
		t.Fatal(err)
	}
	back := s.Expect(`msg="attached again" interface=eth0 xdp=native`)
	if err := l.Join(lab.Dev); err != nil {
		t.Fatal(err)
	}
	if err := back(); err != nil {
		t.Fatal(err)
	}
	s.kernelTakes(rawConnect(t, l, "after"), 3)
}

// TestPodRefuses: a function that takes no connections is seen at the default
// log level, once for a pod, and counted.
func TestPodRefuses(t *testing.T) {
	for _, mode := range []string{"tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			s := start(t, l, mode, strings.Replace(oneFunction, "]}", "], retry: {attempts: 1}}", 1))
			line := `level=WARN msg="no connection to a pod" function=f pod=10.88.2.2:8080 error="dial tcp`
			count := `eproxy_function_requests_total{code="0",function="f",pod="10.88.2.2:8080"} `
			if mode == "tc" {
				count = `eproxy_connect_failures_total{function="f",pod="10.88.2.2:8080"} `
			} else {
				c := rawConnect(t, l, "dev")
				for i := range 3 {
					c.write(publishPacket("t", 0, 0, fmt.Sprint(i)))
				}
			}
			late := time.After(30 * time.Second)
			for {
				text := scrape(t, l)
				_, after, _ := strings.Cut(text, count)
				n, _, _ := strings.Cut(after, "\n")
				dialling := strings.Contains(text, `pod="10.88.2.2:8080",state="dialling"`) // not between two tries
				if v, err := strconv.ParseFloat(n, 64); err == nil && v >= 3 && !dialling {
					break
				}
				select {
				case <-time.After(20 * time.Millisecond):
				case <-late:
					t.Fatalf("not counted three times, or still dialling (%v): %s%s", dialling, count, n)
				}
			}
			if got := strings.Count(s.Log(), line); got != 1 {
				t.Errorf("the log has %d times %s", got, line)
			}
		})
	}
}

// TestPodBehindBridge: pods behind a bridge, as those of docker0 and cni0, are
// served in the kernel, at TC; nobody is advised to change an interface over it.
func TestPodBehindBridge(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	for _, line := range []string{"ip link add br0 type bridge", "ip addr flush dev pod1", "ip link set pod1 master br0",
		"ip addr add 10.88.2.1/24 dev br0", "ip link set br0 up"} {
		onNode(t, l, line)
	}
	s := start(t, l, "xdp", oneFunction)
	s.reachedBy("tc")
	why := "taken at TC: br0 is a bridge, and XDP redirects only to interfaces such as its ports"
	if code, out := loader(t, l, "doctor", "--config", s.file); code != 0 || !hasLine(out, "pod 10.88.2.2:8080 of f", "degraded", why) {
		t.Errorf("doctor: exit %d, want 0 and %q:\n%s", code, why, out)
	}
	if _, out := loader(t, l, "status", "--bpffs", l.BPFFS()); !hasLine(out, "pod", "10.88.2.2:8080 of f", "tc", why) {
		t.Errorf("status does not say %q:\n%s", why, out)
	}
	s.slotsReturn(t)
	s.kernelTakes(rawConnect(t, l, "dev"), 5)
}

// TestPodInterfaceRenamed: what is attached to an interface stays with it under
// another name, and another interface may have the old one.
func TestPodInterfaceRenamed(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "tc", oneFunction)
	c := rawConnect(t, l, "dev")
	s.kernelTakes(c, 1)
	for _, step := range []struct{ line, want string }{
		{"ip link set pod1 down", "pod is served by the fallback"},
		{"ip link set pod1 name podx", ""},
		{"ip link set podx up", "pod is served by the kernel path from now on"},
	} {
		line := s.Expect(step.want)
		onNode(t, l, step.line)
		if step.want == "" {
			continue
		}
		if err := line(); err != nil {
			t.Fatal(err)
		}
	}
	s.slotsReturn(t)
	s.kernelTakes(c, 3)

	line := s.Expect("pod is served by the fallback")
	onNode(t, l, "ip link set podx down")
	if err := line(); err != nil {
		t.Fatal(err)
	}
	line = s.Expect("pod is served by the kernel path from now on")
	for _, step := range []string{"ip addr flush dev podx", "ip link set podx nomaster", "ip link add pod1 type bridge", "ip link set podx master pod1",
		"ip addr add 10.88.2.1/24 dev pod1", "ip link set podx up", "ip link set pod1 up"} {
		onNode(t, l, step)
	}
	if err := line(); err != nil {
		t.Fatal(err)
	}
	s.slotsReturn(t)
	s.kernelTakes(c, 3)
	if _, out := loader(t, l, "status", "--bpffs", l.BPFFS()); !hasLine(out, "tc_pod_in-pod1", "attached", "podx", "tcx ingress") || !hasLine(out, "tc_pod_in-pod1-", "attached", "pod1", "tcx ingress") {
		t.Errorf("status:\n%s", out)
	}
}
