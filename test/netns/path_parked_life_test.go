package netns

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// parkedBurst has a client's messages wait in the kernel, but for those that the pods were given.
func parkedBurst(t *testing.T, s *system, id string, n int) (c *rawConn, want []string) {
	t.Helper()
	c = rawConnect(t, s.lab, id)
	want = c.flood(id, n, 1)
	s.await(t, "all wait", func(counts map[string]int) bool {
		taken, _ := share(nil, counts)
		return taken+counts["tc_device_in/partial"] >= n
	})
	if s.counts()["tc_device_in/parked"] == 0 {
		t.Fatal("no message waits in the kernel: the test tests nothing")
	}
	return c, want
}

// TestParkedPodGoes: a pod is removed while messages wait; the other one gets them, each once.
func TestParkedPodGoes(t *testing.T) {
	s, r, open := gatedPods(t)
	const n = 60
	c, want := parkedBurst(t, s, "goes", n)
	s.reload(", \""+lab.PodAddr(lab.Pod1, false).String()+":8080\"]", "]", "msg=reloaded")
	open()
	c.pubacks(n)
	r.once(t, want)
}

// TestParkedFunctionGoes: a function is removed while messages wait for it. What a pod was not given becomes a dead letter;
// every message is acknowledged.
func TestParkedFunctionGoes(t *testing.T) {
	s, _, open := gatedPods(t)
	const n = 60
	c, _ := parkedBurst(t, s, "function", n)
	s.reload("- name: temp", "- name: other", "reload refused") // a route leads there still
	s.reload("function: temp", "function: other", "msg=reloaded")
	open()
	c.pubacks(n)
	if handed := s.counts()["control/park_handed"]; handed == 0 {
		t.Errorf("userspace took nothing over: %v", s.counts())
	}
}

// TestParkedOverPause: messages that wait while their function is paused reach it when it is resumed.
func TestParkedOverPause(t *testing.T) {
	s, r, open := gatedPods(t)
	const n = 60
	c, want := parkedBurst(t, s, "pause", n)
	s.verb("functions", "pause", "temp")
	open()
	s.verb("functions", "resume", "temp")
	c.pubacks(n)
	r.once(t, want)
}

// TestParkedIsDrained: messages that wait when the loader is told to stop are delivered and acknowledged before it does.
func TestParkedIsDrained(t *testing.T) {
	s, r, open := gatedPods(t)
	const n = 60
	c, want := parkedBurst(t, s, "drain", n)
	parked := s.counts()["tc_device_in/parked"]
	draining := s.Expect("msg=draining")
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop() }()
	if err := draining(); err != nil {
		t.Fatal(err)
	}
	open()
	c.pubacks(n)
	r.once(t, want)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	_, text, _ := strings.Cut(s.Log(), "in_flight=")
	text, _, _ = strings.Cut(text, "\n")
	if inFlight, err := strconv.Atoi(text); err != nil || inFlight < parked {
		t.Errorf("%q in flight while %d messages wait in the kernel", text, parked)
	}
}

// TestParkedAreShown: mapsctl says how many messages wait, and Prometheus the same.
func TestParkedAreShown(t *testing.T) {
	s, r, open := gatedPods(t)
	const n = 60
	c, want := parkedBurst(t, s, "shown", n)
	waits := func() int {
		for _, f := range s.mapsctl("functions") {
			if f["name"] == "temp" {
				return int(f["waiting"].(float64))
			}
		}
		return -1
	}
	shown := func() int {
		for _, m := range s.mapsctl("metrics") {
			labels, _ := m["labels"].(map[string]any)
			if m["name"] == "eproxy_function_queue_messages" && labels["path"] == "kernel" {
				return int(m["value"].(float64))
			}
		}
		return -1
	}
	parked := s.counts()["tc_device_in/parked"]
	if got, metric := waits(), shown(); got < parked/2 || got != metric {
		t.Errorf("mapsctl functions says that %d wait, metrics %d; %d were parked", got, metric, parked)
	}
	if _, out := loader(t, s.lab, "status", "--bpffs", s.lab.BPFFS()); !strings.Contains(out, "messages wait in the kernel") {
		t.Errorf("loader status says nothing of what waits: %s", out)
	}
	open()
	c.pubacks(n)
	r.once(t, want)
	eventually(t, func() (bool, string) { return waits() == 0, "messages wait that were delivered" })
}

// TestParkedWhenLoaderIsKilled: what waits in the kernel when the loader is killed, whether its programs are then unloaded or
// another loader takes their place, was not acknowledged: the connection ends, the client sends it
// again on its next one, and a function gets all of it.
func TestParkedWhenLoaderIsKilled(t *testing.T) {
	for _, unload := range []bool{false, true} {
		t.Run(fmt.Sprintf("unload=%v", unload), func(t *testing.T) {
			l, r, open, cfg := gatedLab(t)
			abs, err := filepath.Abs(bin)
			if err != nil {
				t.Fatal(err)
			}
			run := func() *system {
				p, err := l.StartEproxy(context.Background(), t.TempDir(), lab.Eproxy{Bin: abs, Mode: "tc", Config: cfg})
				if err != nil {
					t.Fatal(err)
				}
				return &system{Process: p, t: t, lab: l, mode: "tc"}
			}
			s := run()
			const n = 60
			c, want := parkedBurst(t, s, "killed", n)
			s.Kill()
			if unload {
				if code, out := loader(t, l, "unload", "--bpffs", l.BPFFS()); code != 0 || !strings.Contains(out, "nothing of eproxy is attached or pinned") {
					t.Fatalf("unload: exit %d: %s", code, out)
				}
			}
			open() // what the pods were given they answer, to nobody
			s = run()
			defer func() {
				if err := s.Stop(); err != nil {
					t.Error(err)
				}
			}()
			if rest, err := io.ReadAll(c); len(rest) > 0 {
				t.Errorf("% x came after the loader was killed (%v)", rest, err)
			}
			again := rawConnect(t, l, "killed")
			_ = again.SetDeadline(time.Now().Add(stallLimit))
			for i, payload := range want {
				again.write(publishAs(4, "sensors/killed/temp", uint16(i+1), payload, true))
			}
			again.pubacks(n)
			have := make(map[string]bool)
			for _, q := range first(r.all()) {
				have[q.body] = true
			}
			for _, payload := range want {
				if !have[payload] {
					t.Errorf("no function had %q, which was acknowledged", payload)
				}
			}
			for _, f := range s.mapsctl("functions") {
				if f["waiting"].(float64) != 0 {
					t.Errorf("%v: messages of the killed loader wait in the new one", f)
				}
			}
		})
	}
}

// TestParkedFamilyGoes: a function has a pod of IPv4 and one of IPv6, and messages of clients of both wait. When one of
// the pods goes, what waits for its family is handed over at once, and reaches the other pod; what waits for that
// one waits on in the kernel.
func TestParkedFamilyGoes(t *testing.T) {
	for _, goes := range []bool{false, true} {
		t.Run(fmt.Sprintf("ipv6=%v", goes), func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			gate := make(chan struct{})
			open := sync.OnceFunc(func() { close(gate) })
			t.Cleanup(open)
			h := r.handler(func(n int64, w http.ResponseWriter, q *http.Request) {
				<-gate
				ok(n, w, q)
			})
			pods := map[bool]string{}
			for ipv6, role := range map[bool]lab.Role{false: lab.Pod0, true: lab.Pod1} {
				pods[ipv6] = net.JoinHostPort(lab.PodAddr(role, ipv6).String(), "8080")
				serveOn(t, l, role, pods[ipv6], h, nil)
			}
			// Long: it is not their time that has messages handed over.
			config := strings.Replace(parkedConfig, "timeout: 10s", "timeout: 2m\n    deadline: 5m", 1)
			config = strings.Replace(config, `, "%[2]s"`, "", 1)
			s := start(t, l, "tc", fmt.Sprintf(config, pods[!goes]))
			const n = 40
			var want []string
			clients := map[bool]*rawConn{}
			flood := func(ipv6 bool, all int) {
				id := fmt.Sprintf("family%v", ipv6)
				clients[ipv6] = rawConnectIn(t, l, ipv6, id)
				want = append(want, clients[ipv6].flood(id, n, 1)...)
				s.await(t, "all wait", func(counts map[string]int) bool {
					taken, _ := share(nil, counts)
					return taken+counts["tc_device_in/partial"] >= all
				})
			}
			// One after the other: as long as a pod of the other family has a free connection, a message may meet that.
			flood(!goes, n)
			s.verb("pods", "add", "temp", pods[goes])
			flood(goes, 2*n)
			waiting := func() int { return int(s.mapsctl("functions")[0]["waiting"].(float64)) }
			before := waiting()
			s.verb("pods", "del", "temp", pods[goes])
			eventually(t, func() (bool, string) {
				handed, left := s.counts()["control/park_handed"], waiting()
				return handed > n/2 && left <= before-handed, fmt.Sprintf("%d waited, %d were handed over, %d wait", before, handed, left)
			})
			handed, left := s.counts()["control/park_handed"], waiting()
			if handed > n || left < n/2 { // some were sent meanwhile, as connections were made
				t.Errorf("%d waited, %d of each family at most; %d were handed over, %d wait", before, n, handed, left)
			}
			open()
			for _, c := range clients {
				c.pubacks(n)
			}
			r.once(t, want)
			if now := s.counts()["control/park_handed"]; now != handed {
				t.Errorf("%d were handed over, %d of them after the pod of the other family could answer", now, now-handed)
			}
		})
	}
}
