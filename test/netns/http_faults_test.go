package netns

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// What other observers of HTTP are known to get wrong; TestHTTPOfOthersIsCounted has keep-alive and pipelining, TestCollectorDown
// of internal/spans spans that nobody gets.

// value is that of all samples of a name together.
func (s series) value(name string) (sum float64) {
	for k, v := range s {
		if strings.HasPrefix(k, name+"{") {
			sum += v
		}
	}
	return sum
}

// TestReapedConnectionsFailNothing: connections that the server ends because they are idle, and those that the client does, have
// no request that was not answered.
func TestReapedConnectionsFailNothing(t *testing.T) {
	l := newLab(t)
	var own atomic.Int64
	var left sync.WaitGroup
	serveOn(t, l, lab.Pod0, net.JoinHostPort(lab.PodAddr(lab.Pod0, false).String(), "8080"), http.HandlerFunc(func(http.ResponseWriter, *http.Request) { own.Add(1) }), func(s *http.Server) {
		s.IdleTimeout = 50 * time.Millisecond
		var asked sync.Map // eproxy has connections as well, on which nothing is asked
		s.ConnState = func(c net.Conn, state http.ConnState) {
			if state == http.StateActive {
				if _, before := asked.LoadOrStore(c, true); !before {
					left.Add(1)
				}
			} else if _, was := asked.Load(c); was && state == http.StateClosed {
				left.Done()
			}
		}
	})
	start(t, l, "tc", podConfig(routeConfig, false)+monitoringConfig)
	get := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	for i := range 10 {
		c := rawAsk(t, l, false, strings.Repeat(get, 1+i%3), 1+i%3)
		if i%2 == 0 {
			_ = c.Close()
		}
	}
	left.Wait()
	s := waitSeries(t, l, func(s series) bool { return s.sum("eproxy_http_inflight") == 0 })
	if n := int(own.Load()); s.sum("eproxy_http_requests_total") != n || s.observed()["2xx"] != n {
		t.Errorf("%d requests, responses %v, the server says %d", s.sum("eproxy_http_requests_total"), s.observed(), n)
	}
	for _, name := range []string{"eproxy_http_unanswered_total", "eproxy_http_unknown_total", "eproxy_http_unfollowed_total"} {
		if n := s.sum(name); n != 0 {
			t.Errorf("%s is %d", name, n)
		}
	}
}

// TestDurationsAreTheRequestsOwn: on a connection that is used again a request has begun with its own first byte. What the
// function waited is in the duration, and what the connection was idle is not: that is longer than all that the client waited.
func TestDurationsAreTheRequestsOwn(t *testing.T) {
	l := newLab(t)
	serveCounted(t, l, false)
	start(t, l, "tc", podConfig(routeConfig, false)+monitoringConfig)
	const served = 100 * time.Millisecond
	c := nodeClient(l)
	var waited, idle time.Duration
	for i, wait := range []time.Duration{served, 0, served, 0} {
		began := time.Now()
		ask(t, c, http.MethodGet, podURL(lab.Pod0, false, fmt.Sprint("/200?wait=", wait)), "")
		waited += time.Since(began)
		for began = time.Now(); i < 3 && idle <= 2*waited; idle += time.Since(began) {
			time.Sleep(waited) // of which none may be counted
		}
	}
	s := scrapeSeries(t, l)
	for _, name := range []string{"eproxy_http_request_duration_seconds", "eproxy_http_first_byte_seconds"} {
		if got := s.value(name + "_sum"); got < 2*served.Seconds() || got > waited.Seconds() || s.sum(name+"_count") != 4 {
			t.Errorf("%s: %.3f s in %d requests; the function took %v, the client waited %v, the connection was idle for %v", name, got, s.sum(name+"_count"), 2*served, waited, idle)
		}
	}
}

// TestStreamsOfHTTP2: of two requests at a time on a connection of HTTP/2 the connection and its bytes are known, nothing is
// guessed of the requests, and HTTP/1 beside it is counted.
func TestStreamsOfHTTP2(t *testing.T) {
	l := newLab(t)
	var both sync.WaitGroup
	both.Add(2)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			both.Done()
			both.Wait() // the other stream's is here, too
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 10000))
	})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	serveOn(t, l, lab.Pod0, net.JoinHostPort(lab.PodAddr(lab.Pod0, false).String(), "8080"), h, func(s *http.Server) {
		s.Protocols = new(http.Protocols)
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetUnencryptedHTTP2(true)
	})
	start(t, l, "tc", podConfig(routeConfig, false)+monitoringConfig)
	c := nodeClient(l)
	c.Transport.(*http.Transport).Protocols = protocols
	conn := make(chan struct{}, 1)
	dial := c.Transport.(*http.Transport).DialContext
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn <- struct{}{} // a second one would wait for ever
		return dial(ctx, network, address)
	}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() { ask(t, c, http.MethodGet, podURL(lab.Pod0, false, "/"), "") })
	}
	all.Wait()
	ask(t, nodeClient(l), http.MethodGet, podURL(lab.Pod0, false, "/"), "")
	s := scrapeSeries(t, l)
	for labels, want := range map[string]int{`protocol="http2"`: 1, `protocol="http1"`: 1, `protocol="other"`: 0} {
		if n := s.sum("eproxy_http_connections_total", labels); n != want {
			t.Errorf("%d connections with %s, want %d", n, labels, want)
		}
	}
	if n := s.sum("eproxy_http_requests_total"); n != 1 || s.observed()["2xx"] != 1 || s.sum("eproxy_http_unfollowed_total") != 0 || s.sum("eproxy_http_inflight") != 0 {
		t.Errorf("%d requests, responses %v", n, s.observed())
	}
	if n := s.sum("eproxy_http_bytes_total", `direction="response"`); n < 30000 {
		t.Errorf("%d bytes of responses", n)
	}
}

// TestSendfileTakesTime: what a server hands to the kernel at once (sendfile) is answered when its last byte is on the wire, not
// when the server has done its part. The reader rests in the middle of a file that no buffer between them holds.
func TestSendfileTakesTime(t *testing.T) {
	l := newLab(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const size = 32 << 20
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, size), 0o644); err != nil {
		t.Fatal(err)
	}
	serveNginx(t, l, func(request) {}, 8080, nginxServer(8080, "root "+dir+"; sendfile on; sendfile_max_chunk 0; tcp_nopush on;"))
	start(t, l, "tc", podConfig(routeConfig, false)+monitoringConfig)
	began := time.Now()
	c := rawAsk(t, l, false, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n", 0)
	if err := c.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := time.Since(began)
	const rest = 300 * time.Millisecond
	time.Sleep(rest)
	if n := scrapeSeries(t, l).sum("eproxy_http_inflight"); n != 1 {
		t.Errorf("%d requests in flight while half of the response is to come", n)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != size {
		t.Fatalf("%d bytes: %v", n, err)
	}
	waited := time.Since(began)
	s := scrapeSeries(t, l)
	if got := s.value("eproxy_http_request_duration_seconds_sum"); got < rest.Seconds() || got > waited.Seconds() || s.observed()["2xx"] != 1 {
		t.Errorf("the request took %.3f s, the client has waited %v, of which it rested %v; responses %v", got, waited, rest, s.observed())
	}
	if got := s.value("eproxy_http_first_byte_seconds_sum"); got > first.Seconds() {
		t.Errorf("the first byte came after %.3f s, the client had it after %v", got, first)
	}
	if n := s.sum("eproxy_http_bytes_total", `direction="response"`); n <= size || n > size+1000 {
		t.Errorf("%d bytes of a response with %d of body", n, size)
	}
}
