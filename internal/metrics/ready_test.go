package metrics

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
)

// TestReadiness: /healthz answers from the beginning, /readyz while clients are served.
func TestReadiness(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	m := New()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := m.Serve(ctx, address, nil); err != nil {
		t.Fatal(err)
	}
	status := func(path string) int {
		t.Helper()
		r, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		_, _ = io.Copy(io.Discard, r.Body)
		return r.StatusCode
	}
	for _, ready := range []bool{false, true, false} {
		m.Ready(ready)
		want := http.StatusServiceUnavailable
		if ready {
			want = http.StatusOK
		}
		if got := status("/readyz"); got != want {
			t.Errorf("/readyz answers %d, want %d", got, want)
		}
		if got := status("/healthz"); got != http.StatusOK {
			t.Errorf("/healthz answers %d", got)
		}
	}
}
