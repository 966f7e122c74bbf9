package netns

import (
	"net/http"
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
