package knative

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"knative.dev/serving/pkg/autoscaler/metrics"

	"eproxy/internal/config"
	"eproxy/internal/knative"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestStat: Knative reads each field, and the longest name fits what it reads.
func TestStat(t *testing.T) {
	s := knative.Stat{PodName: strings.Repeat("n", 300), Concurrency: 1.5, ProxiedConcurrency: 0.25, Requests: 7, ProxiedRequests: 3, Uptime: 1e9}
	b := s.Append(nil)
	if len(b) > knative.MaxStat {
		t.Errorf("%d bytes", len(b))
	}
	var got metrics.Stat
	if err := got.Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	want := metrics.Stat{PodName: s.PodName[:256], AverageConcurrentRequests: 1.5, AverageProxiedConcurrentRequests: 0.25, RequestCount: 7, ProxiedRequestCount: 3, ProcessUptime: 1e9}
	if got != want {
		t.Errorf("%+v", got)
	}
}

// TestFirstMessage: the first message for a function without pods is told of at once, through Knative's own server, and
// not again in the second that it came in.
func TestFirstMessage(t *testing.T) {
	w := newWorld([]event{{from: 100 * time.Millisecond, to: 5 * time.Second, kind: ownFallback}}, []netip.AddrPort{{}})
	pusher, stats := statServer(t)
	r := knative.New(knative.Options{Source: w, Name: "node", Now: func() time.Duration { return clock }, Logger: discard(), Push: pusher.Push})
	r.Follow(&config.Config{Functions: []*config.Function{{Name: functionName,
		Autoscaling: config.Autoscaling{Knative: config.Knative{Namespace: key.Namespace, Revision: key.Name}}}}})
	for _, start := range []time.Duration{0, 10 * time.Hour} { // after hours of silence, too
		w.events, w.next = []event{{from: start + 100*time.Millisecond, to: start + 5*time.Second, kind: ownFallback}}, 0
		clock = start
		r.Tick(t.Context())
		began := time.Now()
		r.Activate(functionName)
		r.Activate(functionName) // once
		if m := <-stats; m.Key != key || m.Stat.AverageConcurrentRequests != 1 || m.Stat.RequestCount != 1 || m.Stat.PodName != "node" {
			t.Errorf("at once: %+v", m)
		}
		t.Logf("told %s after the message", time.Since(began))
		count, concurrency := 1.0, 1.0
		for s := range 6 {
			clock = start + time.Duration(s+1)*time.Second
			w.advance(clock)
			r.Tick(t.Context())
			m := <-stats
			count += m.Stat.RequestCount
			concurrency += m.Stat.AverageConcurrentRequests
		}
		if count != 1 || concurrency < 4.9 || concurrency > 5.1 {
			t.Errorf("%v counted, %v s", count, concurrency)
		}
		for s := range 3 { // nothing is told of nothing
			clock = start + time.Duration(s+8)*time.Second
			r.Tick(t.Context())
		}
		if len(stats) > 1 {
			t.Errorf("%d more", len(stats))
		}
		for len(stats) > 0 {
			<-stats
		}
	}
}

// TestEndpointRefuses: what is not asked for as Knative asks gets one clear answer.
func TestEndpointRefuses(t *testing.T) {
	pod := netip.MustParseAddrPort("127.14.15.3:8080")
	w := newWorld(nil, []netip.AddrPort{pod})
	r := knative.New(knative.Options{Source: w, Now: func() time.Duration { return clock }, Logger: discard()})
	fn := &config.Function{Name: functionName, Pods: []netip.AddrPort{pod}, Autoscaling: config.Autoscaling{Knative: config.Knative{Port: 9090}}}
	r.Follow(&config.Config{Functions: []*config.Function{fn}})
	clock = time.Second
	r.Tick(t.Context())
	ask := func(method, path, accept string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(context.Background(), method, "http://127.14.15.3:9090"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if accept != "" {
			req.Header.Set("Accept", accept)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, resp.Header.Get("Content-Type")
	}
	for _, c := range []struct {
		method, path, accept string
		status               int
	}{
		{"GET", "/metrics", "application/protobuf", 200}, {"GET", "/metrics", "", 200}, {"GET", "/metrics", "text/html, */*;q=0.5", 200},
		{"GET", "/metrics", "text/plain", 406}, {"POST", "/metrics", "", 405}, {"GET", "/", "", 404},
	} {
		status, contentType := ask(c.method, c.path, c.accept)
		if status != c.status || status == 200 && contentType != "application/protobuf" {
			t.Errorf("%s %s accepting %q: %d %q", c.method, c.path, c.accept, status, contentType)
		}
	}
	r.Follow(&config.Config{}) // the pod is none any more
	if resp, err := http.Get("http://127.14.15.3:9090/metrics"); err == nil {
		resp.Body.Close()
		t.Error("it still answers")
	}
}
