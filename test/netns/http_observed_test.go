package netns

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

const monitoringConfig = "monitoring: true\n" + metricsConfig

// ownCounts are what the servers of a test have answered, by class of the status.
type ownCounts struct {
	mu      sync.Mutex
	classes map[string]int
	busy    time.Duration // that requests were in the handler, all together
}

// serveCounted serves both pods: the path says the status, and how long it takes.
func serveCounted(t *testing.T, l *lab.Lab, ipv6 bool) *ownCounts {
	own := &ownCounts{classes: make(map[string]int)}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PRI" { // net/http hands the preface of HTTP/2 over
			return
		}
		if r.Header.Get("Upgrade") != "" {
			echoUpgraded(w)
			return
		}
		began := time.Now()
		_, _ = io.Copy(io.Discard, r.Body)
		status, wait := 200, time.Duration(0)
		if s, err := strconv.Atoi(strings.Trim(r.URL.Path, "/")); err == nil {
			status = s
		}
		if d, err := time.ParseDuration(r.URL.Query().Get("wait")); err == nil {
			wait = d
		}
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return // nobody gets a response
		}
		w.WriteHeader(status)
		if r.URL.Query().Get("chunks") != "" {
			for range 3 {
				_, _ = io.WriteString(w, strings.Repeat("c", 3000))
				w.(http.Flusher).Flush()
			}
		}
		own.mu.Lock()
		defer own.mu.Unlock()
		own.classes[fmt.Sprint(status/100, "xx")]++
		own.busy += time.Since(began)
	})
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		serveOn(t, l, pod, net.JoinHostPort(lab.PodAddr(pod, ipv6).String(), "8080"), h, nil)
	}
	return own
}

// echoUpgraded switches a connection to a protocol that sends back what it gets.
func echoUpgraded(w http.ResponseWriter) {
	c, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_, _ = io.Copy(c, rw)
}

func (o *ownCounts) get() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[string]int{}
	for k, n := range o.classes {
		out[k] = n
	}
	return out
}

// inHandler is how long requests were in the servers' handler, all together.
func (o *ownCounts) inHandler() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.busy
}

// inFlightSeconds is the integral of what is in flight, of both pods.
func (s series) inFlightSeconds() (all float64) {
	for k, v := range s {
		if strings.HasPrefix(k, "eproxy_http_inflight_seconds_total{") {
			all += v
		}
	}
	return all
}

// observed are the observer's responses by class, of both pods.
func (s series) observed() map[string]int {
	out := map[string]int{}
	for _, class := range []string{"2xx", "3xx", "4xx", "5xx"} {
		if n := s.sum("eproxy_http_responses_total", `class="`+class+`"`); n > 0 {
			out[class] = n
		}
	}
	return out
}

// nodeClient is a client on the node, as a gateway is.
func nodeClient(l *lab.Lab) *http.Client { return clientAt(l, lab.Node) }

// clientAt is a client on a host.
func clientAt(l *lab.Lab, host lab.Role) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		return l.Dial(ctx, host, address)
	}}}
}

func podURL(pod lab.Role, ipv6 bool, path string) string {
	return "http://" + net.JoinHostPort(lab.PodAddr(pod, ipv6).String(), "8080") + path
}

// ask makes a request and reads the response.
func ask(t *testing.T, c *http.Client, method, url, body string) {
	t.Helper()
	q, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// rawAsk writes requests to a pod as they are, and reads so many responses. It leaves the connection open.
func rawAsk(t *testing.T, l *lab.Lab, ipv6 bool, text string, n int) net.Conn {
	t.Helper()
	c, err := l.Dial(context.Background(), lab.Node, net.JoinHostPort(lab.PodAddr(lab.Pod0, ipv6).String(), "8080"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	moreAsk(t, c, text, n)
	return c
}

func moreAsk(t *testing.T, c net.Conn, text string, n int) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for range n {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// TestHTTPOfOthersIsCounted: what others than eproxy send to pods is counted as the
// servers themselves count it, over keep-alive, pipelining, aborts, connections that were
// open before, and whatever a response looks like.
func TestHTTPOfOthersIsCounted(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		t.Run(fmt.Sprint("ipv6=", ipv6), func(t *testing.T) {
			l := newLab(t)
			own := serveCounted(t, l, ipv6)
			get := "GET /200 HTTP/1.1\r\nHost: a\r\n\r\n"
			before := rawAsk(t, l, ipv6, get, 1)
			unseen := own.get()["2xx"]
			start(t, l, "tc", podConfig(routeConfig, ipv6)+monitoringConfig)
			moreAsk(t, before, get, 1)
			c := nodeClient(l)
			for i := range 20 { // each on one connection to each pod
				for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
					ask(t, c, http.MethodGet, podURL(pod, ipv6, "/"+[]string{"200", "204", "304", "404", "503"}[i%5]), "")
					ask(t, c, http.MethodPost, podURL(pod, ipv6, "/201?chunks=1"), strings.Repeat("b", 5000*(i%3)))
					ask(t, c, http.MethodHead, podURL(pod, ipv6, "/200"), "")
				}
			}
			rawAsk(t, l, ipv6, strings.Repeat(get, 10), 10) // pipelined
			reaped := rawAsk(t, l, ipv6, get, 1)
			_ = reaped.Close()
			aborted := rawAsk(t, l, ipv6, get+"GET /200?wait=1m HTTP/1.1\r\nHost: a\r\n\r\n", 1)
			waitSeries(t, l, func(s series) bool { return s.sum("eproxy_http_inflight") == 1 })
			_ = aborted.(*net.TCPConn).SetLinger(0)
			_ = aborted.Close()
			rawAsk(t, l, ipv6, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0)
			rawAsk(t, l, ipv6, "\x16\x03\x01\x00\x05hello", 0)
			rawAsk(t, l, ipv6, "PUT /200 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok", 2) // 100, and 200
			upgraded := rawAsk(t, l, ipv6, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", 1)
			if _, err := io.WriteString(upgraded, get); err != nil { // which is no request
				t.Fatal(err)
			}
			if _, err := io.ReadFull(upgraded, make([]byte, len(get))); err != nil {
				t.Fatal(err)
			}
			c.CloseIdleConnections()
			waitSeries(t, l, func(s series) bool { return s.sum("eproxy_http_inflight") == 0 })
			want := own.get()
			want["2xx"] -= unseen
			s := scrapeSeries(t, l)
			if got := s.observed(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("responses %v, the servers say %v", got, want)
			}
			total := 0
			for _, n := range want {
				total += n
			}
			for name, n := range map[string]int{
				"eproxy_http_requests_total": total + 2, "eproxy_http_unanswered_total": 1, "eproxy_http_unknown_total": 0,
				"eproxy_http_untimed_total": 0, "eproxy_http_unfollowed_total": 0, "eproxy_http_request_duration_seconds_count": total,
				"eproxy_http_first_byte_seconds_count": total,
			} {
				if got := s.sum(name); got != n {
					t.Errorf("%s is %d, want %d", name, got, n)
				}
			}
			if n := s.sum("eproxy_http_responses_total", `class="1xx"`); n != 2 {
				t.Errorf("%d responses 1xx, want 100 and 101", n)
			}
			for protocol, n := range map[string]int{"http2": 1, "tls": 1, "upgraded": 1} {
				if got := s.sum("eproxy_http_connections_total", `protocol="`+protocol+`"`); got != n {
					t.Errorf("%d connections with %s, want %d", got, protocol, n)
				}
			}
			if t.Failed() {
				t.Log(scrape(t, l))
			}
		})
	}
}

// TestGraftedHTTPIsCounted: requests that the programs put into connections are counted
// once, with their durations, at XDP and at TC, and so are the fallback's own.
func TestGraftedHTTPIsCounted(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			own := serveCounted(t, l, false)
			s := start(t, l, mode, podConfig(routeConfig, false)+monitoringConfig)
			c := rawConnect(t, l, "dev")
			for i := range 30 {
				c.publish("sensors/dev/temp", uint16(i+1), "payload")
			}
			c.publish("sensors/dev/temp", 31, strings.Repeat("too long for the kernel path", 100))
			if n := s.counts()["xdp_device/taken"] + s.counts()["tc_device_in/taken"]; n != 30 {
				t.Fatalf("the kernel took %d of 30 messages", n)
			}
			got := scrapeSeries(t, l)
			if a, b := fmt.Sprint(got.observed()), fmt.Sprint(own.get()); a != b {
				t.Errorf("responses %v, the servers say %v", a, b)
			}
			if n := got.sum("eproxy_http_requests_total"); n != 31 {
				t.Errorf("%d requests", n)
			}
			if n := got.sum("eproxy_http_request_duration_seconds_count"); n != 31 {
				t.Errorf("%d durations", n)
			}
			if n := got.sum("eproxy_http_unfollowed_total") + got.sum("eproxy_http_untimed_total"); n != 0 {
				t.Errorf("%d not followed or not timed", n)
			}
			if t.Failed() {
				t.Log(scrape(t, l))
			}
		})
	}
}

// TestInFlightOverTime: the integral of what is in flight is what the clients' waiting adds up to.
func TestInFlightOverTime(t *testing.T) {
	l := newLab(t)
	serveCounted(t, l, false)
	start(t, l, "tc", podConfig(routeConfig, false)+monitoringConfig)
	c := nodeClient(l)
	var waited time.Duration
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 3 {
				began := time.Now()
				ask(t, c, http.MethodGet, podURL(lab.Pod0, false, "/200?wait=700ms"), "")
				mu.Lock()
				waited += time.Since(began)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	s := scrapeSeries(t, l)
	integral := s.inFlightSeconds()
	if off := integral/waited.Seconds() - 1; off > 0.02 || off < -0.02 {
		t.Errorf("the integral is %.3f s, the clients have waited %.3f s", integral, waited.Seconds())
	}
	if n := s.sum("eproxy_http_inflight_peak"); n != 4 {
		t.Errorf("at most %d were in flight, want 4", n)
	}
}

// TestHTTPBetweenPodsIsCounted: what pods behind one bridge ask each other passes its ports, and no interface of the node's
// own; each request is counted once, at the pod that it is for, as those of the node are.
func TestHTTPBetweenPodsIsCounted(t *testing.T) {
	l := newLab(t)
	own := serveCounted(t, l, false)
	for _, line := range []string{"ip link add br0 type bridge", "ip addr flush dev pod0", "ip addr flush dev pod1", "ip link set pod0 master br0", "ip link set pod1 master br0",
		"ip addr add 10.88.1.1/24 dev br0", "ip addr add 10.88.2.1/24 dev br0", "ip link set br0 up"} {
		onNode(t, l, line)
	}
	run(t, l, lab.Pod0, "ip route add "+lab.PodAddr(lab.Pod1, false).String()+" dev eth0")
	run(t, l, lab.Pod1, "ip route add "+lab.PodAddr(lab.Pod0, false).String()+" dev eth0")
	start(t, l, "tc", podConfig(routeConfig, false)+monitoringConfig)
	for from, n := range map[lab.Role]int{lab.Pod1: 5, lab.Node: 3} {
		c := clientAt(l, from)
		for range n {
			ask(t, c, http.MethodPost, podURL(lab.Pod0, false, "/200"), "body")
		}
	}
	s := waitSeries(t, l, func(s series) bool { return s.sum("eproxy_http_inflight") == 0 })
	if got := own.get()["2xx"]; got != 8 {
		t.Fatalf("the servers have answered %d requests", got)
	}
	for pod, want := range map[lab.Role]int{lab.Pod0: 8, lab.Pod1: 0} {
		label := `pod="` + lab.PodAddr(pod, false).String() + `:8080"`
		if asked, answered := s.sum("eproxy_http_requests_total", label), s.sum("eproxy_http_responses_total", label, `class="2xx"`); asked != want || answered != want {
			t.Errorf("%s: %d requests and %d responses, want %d", pod, asked, answered, want)
		}
	}
}
