package upstream

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"eproxy/internal/config"
	"eproxy/test/lib/address"
)

// TestProbe: what a probe says of servers of different kinds.
func TestProbe(t *testing.T) {
	var host atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host.Store(r.Host)
		switch r.URL.Path {
		case "/ok":
			w.WriteHeader(204)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		default:
			w.WriteHeader(503)
		}
	}))
	defer srv.Close()
	pod := netip.MustParseAddrPort(srv.Listener.Addr().String())
	for what, want := range map[string]string{"": "", config.ProbeTCP: "", "/ok": "", "/ok?x=1": "", "/moved": "GET /moved answered 302", "/no": "GET /no answered 503"} {
		err := probe(t.Context(), pod, what, "temp.local")
		if want == "" && err != nil || want != "" && (!errors.Is(err, errFailed) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", what, err, want)
		}
	}
	if got := host.Load(); got != "temp.local" {
		t.Errorf("Host: %v", got)
	}
	srv.Close()
	if err := probe(t.Context(), pod, config.ProbeTCP, ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
}

// follow runs a Life of one function until the test ends.
func follow(t *testing.T, fn *config.Function) (*Life, *config.Config) {
	t.Helper()
	fn.Name, fn.URL = "f", &url.URL{Host: "f.local"}
	l := New(slog.New(slog.DiscardHandler), func(ID) uint64 { return 0 })
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(t.Context())
	}()
	t.Cleanup(func() { <-done })
	return l, &config.Config{Functions: []*config.Function{fn}}
}

// await waits until so many pods get messages.
func await(t *testing.T, l *Life, cfg *config.Config, want int) {
	t.Helper()
	limit := time.After(time.Minute)
	for len(l.Apply(cfg).Functions[0].Pods) != want {
		select {
		case <-l.Changed():
		case <-limit:
			t.Fatalf("pods are %v, want %d that are ready", l.Pods(), want)
		}
	}
}

// TestPodListensLate: a pod gets messages from when its probe succeeds, and not before.
func TestPodListensLate(t *testing.T) {
	pod := netip.MustParseAddrPort(address.Free(t))
	l, cfg := follow(t, &config.Function{Pods: []netip.AddrPort{pod}, Probe: config.ProbeTCP})
	if got := l.Apply(cfg).Functions[0].Pods; len(got) != 0 {
		t.Fatalf("pods %v get messages at once", got)
	}
	limit := time.After(time.Minute)
	for !strings.Contains(l.Pods()[0].Reason, "refused") {
		select {
		case <-time.After(time.Millisecond):
		case <-limit:
			t.Fatal("the reason of the first probe is not known")
		}
	}
	ln, err := net.Listen("tcp", pod.String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	await(t, l, cfg, 1)
}

// TestFailingPodRests: a pod that answers nothing again and again gets no messages,
// until it has rested and takes connections; the other one gets them meanwhile. Statuses
// that a function answers are no failures of the pod.
func TestFailingPodRests(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	bad, good := netip.MustParseAddrPort(ln.Addr().String()), netip.MustParseAddrPort("127.0.0.2:80")
	l, cfg := follow(t, &config.Function{Pods: []netip.AddrPort{bad, good}})
	await(t, l, cfg, 2)
	for range 2 * failureLimit {
		l.Request("f", bad.String(), 500)
	}
	await(t, l, cfg, 2)
	for range failureLimit {
		l.Request("f", bad.String(), 0)
	}
	if got := l.Apply(cfg).Functions[0].Pods; len(got) != 1 || got[0] != good {
		t.Errorf("pods %v get messages", got)
	}
	await(t, l, cfg, 2)
}

// TestApplyAnnouncesNothingOfItsOwn: what Apply itself changes is in what it returns, and no reason to
// call it once more; what happens afterwards is.
func TestApplyAnnouncesNothingOfItsOwn(t *testing.T) {
	l := New(slog.New(slog.DiscardHandler), func(ID) uint64 { return 0 })
	fn := &config.Function{Name: "f", URL: &url.URL{Host: "f.local"}, Pods: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")}}
	cfg := &config.Config{Functions: []*config.Function{fn}}
	announced := func() bool {
		select {
		case <-l.Changed():
			return true
		default:
			return false
		}
	}
	if live := l.Apply(cfg); len(live.Functions[0].Pods) != 2 || announced() {
		t.Errorf("new pods: %v", live.Functions[0].Pods)
	}
	for range failureLimit {
		l.Request("f", fn.Pods[0].String(), 0)
	}
	if !announced() {
		t.Error("a pod that rests is not announced")
	}
}

// TestWhatIsTheSameIsSeenToBe: a function whose pods get messages, or not, as before is the same one in the next
// configuration that Apply returns, and another one when some pod's state has changed, or it was itself.
func TestWhatIsTheSameIsSeenToBe(t *testing.T) {
	l := New(slog.New(slog.DiscardHandler), func(ID) uint64 { return 0 })
	u, err := url.Parse("http://f.local/")
	if err != nil {
		t.Fatal(err)
	}
	fn := func() *config.Function {
		return &config.Function{Name: "f", URL: u, Pods: []netip.AddrPort{addr(1), addr(2), addr(3)}, Drain: []netip.AddrPort{addr(1)}}
	}
	cfg := &config.Config{Functions: []*config.Function{fn()}}
	first := l.Apply(cfg).Functions[0]
	if len(first.Pods) != 2 || l.Apply(cfg).Functions[0] != first {
		t.Fatalf("the pods %v, and another function for the same", first.Pods)
	}
	for range failureLimit {
		l.Request("f", addr(2).String(), 0)
	}
	second := l.Apply(cfg).Functions[0]
	if len(second.Pods) != 1 || l.Apply(cfg).Functions[0] != second {
		t.Fatalf("a pod rests: the pods %v, and another function for the same", second.Pods)
	}
	cfg.Functions[0] = fn()
	if third := l.Apply(cfg).Functions[0]; third == second || len(third.Pods) != 1 {
		t.Errorf("the function has changed, and is as before: %v", third.Pods)
	}
	cfg.Functions[0] = fn()
	cfg.Functions[0].Drain = nil
	l.Apply(cfg)
	l.Undo()
	if got := l.Apply(&config.Config{Functions: []*config.Function{fn()}}).Functions[0]; len(got.Pods) != 1 {
		t.Errorf("what was undone is in force: %v", got.Pods)
	}
}
