package metrics

import (
	"context"
	"io"
	"net/http"
	"testing"

	"eproxy/test/lib/address"
)

// TestReadiness: /healthz answers from the beginning, /readyz while clients are served.
func TestReadiness(t *testing.T) {
	at := address.Free(t)
	m := New()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := m.Serve(ctx, at, nil); err != nil {
		t.Fatal(err)
	}
	status := func(path string) int {
		t.Helper()
		r, err := http.Get("http://" + at + path)
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
