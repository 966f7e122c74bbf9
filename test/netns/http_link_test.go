package netns

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/link"
)

// badLink loses and reorders segments; they come again from the ends' own TCP.
var badLink = link.Params{Delay: time.Millisecond, Jitter: 500 * time.Microsecond, Loss: 0.04, Reorder: 0.08, Hold: 3 * time.Millisecond}

// askMany makes so many requests to Pod0 from each of several clients at a time, with bodies of up to three segments, and
// returns how long the clients have waited, all together.
func askMany(t *testing.T, l *lab.Lab, clients, each int, path string, keepAlive bool) time.Duration {
	t.Helper()
	var waited time.Duration
	var mu sync.Mutex
	var all sync.WaitGroup
	for range clients {
		c := nodeClient(l)
		c.Transport.(*http.Transport).DisableKeepAlives = !keepAlive
		all.Go(func() {
			for n := range each {
				began := time.Now()
				ask(t, c, http.MethodPost, podURL(lab.Pod0, false, path), strings.Repeat("b", 500*(n%8)))
				mu.Lock()
				waited += time.Since(began)
				mu.Unlock()
			}
			c.CloseIdleConnections()
		})
	}
	all.Wait()
	return waited
}

// TestHTTPOverABadLink: segments between the node and a pod are lost, come again and overtake each other. While each
// response is one segment, requests and responses are those that the server has counted, and what is in flight over time
// is no less than the server, and no more than the clients have seen of it. Of longer responses each is counted, or counted as unknown.
func TestHTTPOverABadLink(t *testing.T) {
	l, k := newLinkedTo(t, lab.Pod0)
	own := serveCounted(t, l, false)
	start(t, l, "tc", podConfig(routeConfig, false)+monitoringConfig)
	k.Begin(seedOf(t), both(badLink))

	const clients, each = 8, 12
	waited := askMany(t, l, clients, each, "/200?wait=100ms", true)
	s := waitSeries(t, l, func(s series) bool { return s.sum("eproxy_http_inflight") == 0 })
	if n := own.get()["2xx"]; n != clients*each || s.observed()["2xx"] != n || s.sum("eproxy_http_requests_total") != n {
		t.Errorf("%d requests and %v responses, the server says %d", s.sum("eproxy_http_requests_total"), s.observed(), n)
	}
	for _, name := range []string{"eproxy_http_unanswered_total", "eproxy_http_unknown_total", "eproxy_http_untimed_total", "eproxy_http_unfollowed_total"} {
		if n := s.sum(name); n != 0 {
			t.Errorf("%s is %d", name, n)
		}
	}
	integral, busy := s.inFlightSeconds(), own.inHandler().Seconds()
	if integral < 0.98*busy || integral > 1.02*waited.Seconds() {
		t.Errorf("the integral is %.3f s, requests were in the server for %.3f s, the clients have waited %.3f s", integral, busy, waited.Seconds())
	}
	for _, d := range []link.Direction{uplink, downlink} {
		if k.Counts(d).LostData == 0 {
			t.Errorf("direction %d lost nothing: the test tests nothing", d)
		}
	}

	k.Begin(seedOf(t), both(link.Params{Delay: time.Millisecond, Loss: 0.03})) // with jitter hardly any long response is in order
	askMany(t, l, clients, each, "/200?chunks=1", false)
	s = waitSeries(t, l, func(s series) bool { return s.sum("eproxy_http_inflight") == 0 })
	requests, answered, unknown := s.sum("eproxy_http_requests_total"), s.observed()["2xx"], s.sum("eproxy_http_unknown_total")
	if requests != 2*clients*each || answered+unknown != requests || s.sum("eproxy_http_unanswered_total") != 0 {
		t.Errorf("of %d requests %d were seen, %d answered, %d unknown, %d unanswered", 2*clients*each, requests, answered, unknown, s.sum("eproxy_http_unanswered_total"))
	}
	if answered < clients*each+clients {
		t.Errorf("only %d of %d long responses were followed", answered-clients*each, clients*each)
	}
	if gaps := s.sum("eproxy_http_unfollowed_total", `reason="gap"`); gaps == 0 || gaps != s.sum("eproxy_http_unfollowed_total") || gaps < unknown {
		t.Errorf("%d connections had gaps, %d could not be followed, %d responses are unknown", gaps, s.sum("eproxy_http_unfollowed_total"), unknown)
	}
	if t.Failed() {
		t.Log(scrape(t, l))
	}
}

// TestSendfileTakesItsTime: a response that its server has handed over by sendfile, all at once, is in flight until its last byte
// has passed, which is when the client reads.
func TestSendfileTakesItsTime(t *testing.T) {
	l := newLab(t)
	const size = 32 << 20 // more than any socket's buffers hold
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	serveNginx(t, l, func(request) {}, 8080, nginxServer(8080, "sendfile on; sendfile_max_chunk 0; root "+dir+";"))
	start(t, l, "tc", podConfig(routeConfig, false)+monitoringConfig)
	c, err := l.Dial(context.Background(), lab.Node, net.JoinHostPort(lab.PodAddr(lab.Pod0, false).String(), "8080"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	defer resp.Body.Close()
	began := time.Now()
	s := waitSeries(t, l, func(s series) bool { return s.sum("eproxy_http_first_byte_seconds_count") == 1 })
	if s.sum("eproxy_http_request_duration_seconds_count") != 0 || s.sum("eproxy_http_inflight") != 1 {
		t.Errorf("while the client reads nothing: %d responses are complete, %d in flight", s.sum("eproxy_http_request_duration_seconds_count"), s.sum("eproxy_http_inflight"))
	}
	waited := time.Since(began)
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	s = waitSeries(t, l, func(s series) bool { return s.sum("eproxy_http_request_duration_seconds_count") == 1 })
	took := 0.0
	for name, v := range s {
		if strings.HasPrefix(name, "eproxy_http_request_duration_seconds_sum{") {
			took += v
		}
	}
	if took < waited.Seconds() {
		t.Errorf("it took %.3f s, the client did not read for %.3f s of them", took, waited.Seconds())
	}
	if n := s.sum("eproxy_http_bytes_total", `direction="response"`); n < size {
		t.Errorf("%d bytes, the file has %d", n, size)
	}
}
