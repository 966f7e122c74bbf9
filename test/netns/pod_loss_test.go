package netns

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"eproxy/test/lib/lab"
)

// lose has nftables drop every n-th segment that brings a pod a request, and every
// n-th that it sends.
func lose(t *testing.T, l *lab.Lab, pod lab.Role, n int) {
	t.Helper()
	rules := fmt.Sprintf("table inet loss { chain i { type filter hook input priority 0; tcp dport 8080 meta length > 100 numgen inc mod %d == %d drop; }; "+
		"chain o { type filter hook output priority 0; tcp sport 8080 numgen inc mod %d == %d drop; }; }", n, n/2, n, n/2)
	err := l.Do(pod, func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		cmd.Stderr = os.Stderr
		return cmd.Run()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// deliveredOnce: the functions got each of these messages, and once.
func deliveredOnce(t *testing.T, r *recorder, messages []message) {
	t.Helper()
	seen := map[string]int{}
	ids := map[string][]string{}
	for _, q := range r.wait(t, len(messages)) {
		seen[q.body]++
		ids[q.body] = append(ids[q.body], q.headers["ce-id"])
	}
	for _, m := range messages {
		if seen[m.payload] != 1 {
			t.Errorf("message %.8q was delivered %d times: %v", m.payload, seen[m.payload], ids[m.payload])
		}
	}
}

// givenUpNone: each request got its response, none waited until it was given up.
func givenUpNone(t *testing.T, l *lab.Lab) {
	t.Helper()
	if n := scrapeSeries(t, l).sum("eproxy_function_requests_total", `code="0"`); n > 0 {
		t.Errorf("%d requests were given up", n)
	}
}

// TestPodLoss: segments get lost between the node and the pods, in both directions, with
// many requests in flight on a connection. What the pod's duplicate ACKs show to be
// missing is sent again at once; no message is lost, doubled, or given up.
func TestPodLoss(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ipv6=%v", mode, ipv6), func(t *testing.T) {
				l := newLab(t)
				r := newRecorder()
				r.serveGo(t, l, ipv6, ok, nil)
				config := strings.Replace(podConfig(routeConfig, ipv6), "    retry:", "    concurrency: 2\n    pipeline: 32\n    retry:", 1) + metricsConfig
				s := start(t, l, mode, config)
				for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
					lose(t, l, pod, 37)
				}
				c := rawConnectIn(t, l, ipv6, "lossy")
				messages := make([]message, 3000)
				for i := range messages {
					messages[i] = message{topic: "sensors/lossy/temp", qos: 1, payload: fmt.Sprintf("%d %0128d", i, 0)}
				}
				c.publishAll(messages, 32)
				deliveredOnce(t, r, messages)
				if s.counts()["tc_pod_in/request_resent"] == 0 {
					t.Error("duplicate ACKs had nothing sent again: the test tests nothing")
				}
				givenUpNone(t, l)
			})
		}
	}
}

// TestPodLossOfOne: a request gets lost with none behind it, so that no duplicate ACK shows it: it comes again when its
// time is up, long before userspace would take the message over, and no message is lost or doubled.
func TestPodLossOfOne(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("ipv6=%v", ipv6), func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, ipv6, ok, nil)
			s := start(t, l, "tc", podConfig(routeConfig, ipv6)+metricsConfig)
			for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
				lose(t, l, pod, 17)
			}
			c := rawConnectIn(t, l, ipv6, "lossy")
			messages := make([]message, 200)
			for i := range messages {
				messages[i] = message{topic: "sensors/lossy/temp", qos: 1, payload: fmt.Sprint(i)}
			}
			c.publishAll(messages, 1)
			deliveredOnce(t, r, messages)
			counts := s.counts()
			if counts["control/request_resent"] == 0 || counts["control/taken_over"] > 0 {
				t.Errorf("%d requests were sent again because their time was up, %d messages were taken over", counts["control/request_resent"], counts["control/taken_over"])
			}
			givenUpNone(t, l)
		})
	}
}

// TestPodLossOfResponses: responses of several segments lose some of them on their way to
// the node, with many requests in flight. What comes behind a hole passes to the slot's
// socket, userspace reads those responses, and nothing is lost or doubled.
func TestPodLossOfResponses(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ipv6=%v", mode, ipv6), func(t *testing.T) {
				l, err := lab.NewRouted(lab.Pod0, 1500) // without offloads: segments get lost, not bursts of them
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(l.Close)
				r := newRecorder()
				body := strings.Repeat("long ", 1000)
				r.serveGo(t, l, ipv6, func(_ int64, w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Length", strconv.Itoa(len(body)))
					_, _ = io.WriteString(w, body)
				}, nil)
				config := strings.Replace(podConfig(routeConfig, ipv6), "    retry:", "    concurrency: 4\n    pipeline: 8\n    retry:", 1) + metricsConfig
				s := start(t, l, mode, config)
				end, _ := lab.WireEnds(lab.Pod0) // the router loses them: what a host itself drops it does not count as sent
				if err := l.Do(lab.Wire, func() error { return lab.SetGRO(end, false) }); err != nil {
					t.Fatal(err)
				}
				rules := "table inet loss { chain f { type filter hook forward priority 0; tcp sport 8080 meta length > 1000 numgen inc mod 29 == 3 drop; }; }"
				if out, err := l.Run(context.Background(), lab.Wire, "nft", rules); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				c := rawConnectIn(t, l, ipv6, "lossy")
				messages := make([]message, 1500)
				for i := range messages {
					messages[i] = message{topic: "sensors/lossy/temp", qos: 1, payload: fmt.Sprint(i)}
				}
				c.publishAll(messages, 24)
				deliveredOnce(t, r, messages)
				givenUpNone(t, l)
				if counts := s.counts(); counts["tc_pod_in/ahead"] == 0 || counts["tc_pod_in/response_handed"] == 0 || counts["tc_pod_in/response"] == 0 {
					t.Errorf("nothing passed beyond a hole: the test tests nothing: %v", counts)
				}
			})
		}
	}
}
