package netns

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"eproxy/test/lib/lab"
)

// served is a label set of eproxy_function_requests_total, as the functions
// themselves count.
type served struct{ function, pod, code string }

// census serves functions on several ports of both pods and counts what they
// answer, by the name in the Host header.
type census struct {
	mu  sync.Mutex
	own map[served]int
}

func (c *census) serve(t *testing.T, l *lab.Lab, ports []int) {
	t.Helper()
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		for _, port := range ports {
			address := net.JoinHostPort(lab.PodAddr(pod, false).String(), strconv.Itoa(port))
			ln, err := l.Listen(pod, address)
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				body, _ := io.ReadAll(q.Body)
				code := string(body[:3])
				function, _, _ := strings.Cut(q.Host, ".")
				c.mu.Lock()
				c.own[served{function, address, code}]++
				c.mu.Unlock()
				n, _ := strconv.Atoi(code)
				w.WriteHeader(n)
			})}
			go func() { _ = srv.Serve(ln) }()
			t.Cleanup(func() { _ = srv.Close() })
		}
	}
}

// layout is a configuration of the test: which route leads to which function,
// and which pods the functions have.
type layout struct {
	routes map[string]string   // by filter
	pods   map[string][]string // by function
}

var censusPorts = []int{8081, 8082, 8083, 8084, 8085}

// randomLayout has one to three of eight routes, to functions of which each has one or
// two pods; the route "always" has a function of its own.
func randomLayout(rng *rand.Rand) layout {
	pod := func() string {
		role := []lab.Role{lab.Pod0, lab.Pod1}[rng.IntN(2)]
		return net.JoinHostPort(lab.PodAddr(role, false).String(), strconv.Itoa(censusPorts[rng.IntN(len(censusPorts))]))
	}
	x := layout{map[string]string{"always/+": "f0"}, map[string][]string{"f0": {pod()}}}
	for range 1 + rng.IntN(3) {
		f := fmt.Sprint("f", rng.IntN(4))
		x.routes[fmt.Sprintf("r%d/+", rng.IntN(8))] = f
		if x.pods[f] == nil {
			x.pods[f] = []string{pod()}
			if p := pod(); rng.IntN(2) == 0 && p != x.pods[f][0] {
				x.pods[f] = append(x.pods[f], p)
			}
		}
	}
	return x
}

func (x layout) config() string {
	var b strings.Builder
	b.WriteString("limits: {routes: 4, pods: 16}\nfunctions:\n")
	for f, pods := range x.pods {
		fmt.Fprintf(&b, "  - {name: %s, url: \"http://%s.local/x\", concurrency: 2, retry: {attempts: 5, backoff: 1ms}, pods: [\"%s\"]}\n", f, f, strings.Join(pods, `", "`))
	}
	b.WriteString("routes:\n")
	for filter, f := range x.routes {
		fmt.Fprintf(&b, "  - {topic: \"%s\", function: %s}\n", filter, f)
	}
	return b.String()
}

// TestCountersOverReloads: routes are renamed, removed and added again, pods move
// between functions, and there are more label sets than counters in the maps. No
// counter of any label set ever gets less or is forgotten, each message is
// counted once, and each request as the function did that answered it.
func TestCountersOverReloads(t *testing.T) {
	l := newLab(t)
	c := &census{own: map[served]int{}}
	c.serve(t, l, censusPorts)
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	x := randomLayout(rng)
	s := start(t, l, "tc", x.config()+metricsConfig)
	dev := rawConnect(t, l, "dev")
	beside := &publisher{stop: make(chan struct{}), ended: make(chan struct{})}
	go beside.run(rawConnect(t, l, "beside"))
	sent := map[string]int{} // messages by filter
	before := scrapeSeries(t, l)
	check := func(when string) series {
		t.Helper()
		now := scrapeSeries(t, l)
		if fell := now.fell(before); len(fell) > 0 {
			t.Fatalf("%s: less than before, or gone: %v", when, fell)
		}
		before = now
		return now
	}
	const rounds = 20
	id := uint16(0)
	for round := range rounds {
		for filter := range x.routes {
			if filter == "always/+" {
				continue
			}
			for range 1 + rng.IntN(4) {
				id++
				dev.publish(strings.Replace(filter, "+", "dev", 1), id, []string{"200", "201", "204"}[rng.IntN(3)])
				sent[filter]++
			}
		}
		check(fmt.Sprintf("round %d, after messages", round))
		x = randomLayout(rng)
		s.install(x.config() + metricsConfig)
		check(fmt.Sprintf("round %d, after the reload", round))
	}
	close(beside.stop)
	<-beside.ended
	if beside.err != nil {
		t.Fatal(beside.err)
	}
	sent["always/+"] = beside.sent
	now := check("at the end")
	for filter, n := range sent {
		if got := now.sum("eproxy_messages_total", `route="`+filter+`"`); got != n {
			t.Errorf("route %s: %d messages counted, %d sent", filter, got, n)
		}
		if got := now.sum("eproxy_message_duration_seconds_count", `route="`+filter+`"`); got != n {
			t.Errorf("route %s: %d durations counted, %d messages sent", filter, got, n)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for l, n := range c.own {
		got := now.sum("eproxy_function_requests_total", `function="`+l.function+`"`, `pod="`+l.pod+`"`, `code="`+l.code+`"`)
		// A pod that leaves while it owes a response: what it answered is not read.
		unread := now.sum("eproxy_function_requests_total", `function="`+l.function+`"`, `pod="`+l.pod+`"`, `code="0"`)
		if got > n || got+unread < n || l.function != "f0" && got != n {
			t.Errorf("%v: %d requests counted and %d unanswered, the function says %d", l, got, unread, n)
		}
	}
	if n := now.sum("eproxy_messages_total", `path="kernel"`); n < len(sent) {
		t.Errorf("the kernel path had %d messages: the test tests little", n)
	}
	t.Logf("%d label sets of requests, %d messages beside the reloads", len(c.own), beside.sent)
	s.sameInMaps(now)
}

// publisher publishes to the route that every configuration has, while the
// others are exchanged.
type publisher struct {
	stop, ended chan struct{}
	sent        int
	err         error
}

func (p *publisher) run(c *rawConn) {
	defer close(p.ended)
	for {
		select {
		case <-p.stop:
			return
		default:
		}
		id := uint16(p.sent%60000 + 1)
		if _, p.err = c.Write(publishPacket("always/x", 1, id, "200")); p.err != nil {
			return
		}
		var b [4]byte
		if _, p.err = io.ReadFull(c, b[:]); p.err != nil {
			return
		}
		p.sent++
	}
}

// install makes this the whole configuration, but for what the file begins and
// ends with, and waits until it is in force.
func (s *system) install(config string) {
	s.t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	at := strings.Index(string(text), "limits:")
	end := strings.Index(string(text), metricsConfig) + len(metricsConfig)
	if err := os.WriteFile(s.file, slices.Concat(text[:at], []byte(config), text[end:]), 0o600); err != nil {
		s.t.Fatal(err)
	}
	line := s.Expect("msg=reloaded")
	if err := s.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	if err := line(); err != nil {
		s.t.Fatal(err)
	}
}

// sameInMaps checks that mapsctl shows what Prometheus gets of the kernel path,
// as far as the maps still hold it.
func (s *system) sameInMaps(now series) {
	s.t.Helper()
	same := 0
	for _, row := range s.mapsctl("metrics") {
		if row["name"] != "eproxy_messages_total" {
			continue
		}
		labels := row["labels"].(map[string]any)
		var want []string
		for k, v := range labels {
			want = append(want, fmt.Sprintf(`%s="%v"`, k, v))
		}
		got, value := now.sum("eproxy_messages_total", want...), int(row["value"].(float64))
		if value > got {
			s.t.Errorf("mapsctl shows %d for %v, Prometheus gets %d", value, labels, got)
		}
		if value == got {
			same++
		}
	}
	if same == 0 {
		s.t.Error("mapsctl shows none of the counters that Prometheus gets")
	}
}
