package netns

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// keepAsking makes requests on connections that stay, pipelined or one at a time, until stop is called, which returns when no
// request is in flight any more. The connections stay open for the next call.
func keepAsking(t *testing.T, conns []net.Conn) (stop func()) {
	const get = "GET /200 HTTP/1.1\r\nHost: a\r\n\r\n"
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i, c := range conns {
		n := 1 + i%2*9 // at a time
		all.Go(func() {
			for ctx.Err() == nil {
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				moreAsk(t, c, strings.Repeat(get, n), n)
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// TestCountsOverARestart: the observer is killed under load and comes back. What it says of the requests since is what the
// servers say: connections that were open are followed from the next request on. Of those that it cannot have seen it says nothing, of those
// that it saw in part each is answered, in flight, or unknown.
func TestCountsOverARestart(t *testing.T) {
	l := newLab(t)
	own := serveCounted(t, l, false)
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	run := func() *lab.Process {
		t.Helper()
		p, err := l.StartEproxy(context.Background(), t.TempDir(), lab.Eproxy{Bin: abs, Mode: "tc", Config: podConfig(routeConfig, false) + monitoringConfig})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := run()
	defer func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}()
	var conns []net.Conn
	for range 4 {
		conns = append(conns, rawAsk(t, l, false, "", 0))
	}
	for range 3 {
		stop := keepAsking(t, conns)
		before := own.get()["2xx"]
		p.Kill()
		p = run()
		up := own.get()["2xx"] // the observer may have seen some more than those since
		waitSeries(t, l, func(s series) bool { return s.sum("eproxy_http_requests_total") > 100 })
		stop()
		s, whole := scrapeSeries(t, l), own.get()["2xx"]
		requests, responses := s.sum("eproxy_http_requests_total"), s.observed()["2xx"]
		if requests < whole-up-len(conns)*10 || requests > whole-before {
			t.Errorf("%d requests, the servers have answered %d since the observer was killed and %d since it is up", requests, whole-before, whole-up)
		}
		if lost := s.sum("eproxy_http_unknown_total") + s.sum("eproxy_http_unanswered_total"); requests != responses+lost || s.sum("eproxy_http_inflight") != 0 {
			t.Errorf("%d requests, %d responses, %d unknown, %d in flight", requests, responses, lost, s.sum("eproxy_http_inflight"))
		}
		followed := s.sum("eproxy_http_unfollowed_total")
		stop = keepAsking(t, conns)
		waitSeries(t, l, func(s series) bool { return s.sum("eproxy_http_requests_total") > requests+100 })
		stop()
		more, now := scrapeSeries(t, l), own.get()["2xx"]
		if n := more.sum("eproxy_http_requests_total") - requests; followed == 0 && n != now-whole {
			t.Errorf("%d requests of connections that were open before, the servers say %d", n, now-whole)
		}
		if n := more.observed()["2xx"] - responses; followed == 0 && n != now-whole || more.sum("eproxy_http_unfollowed_total") != followed {
			t.Errorf("%d responses of connections that were open before, the servers say %d; %d more are not followed", n, now-whole, more.sum("eproxy_http_unfollowed_total")-followed)
		}
		t.Logf("%d requests on %d connections, %d of which were not followed", more.sum("eproxy_http_requests_total"), len(conns), followed)
	}
	ask(t, nodeClient(l), http.MethodGet, podURL(lab.Pod0, false, "/200"), "")
}
