package places

import (
	"testing"

	"eproxy/internal/bpf"
)

// TestTurnsOfTheFallback: where there are few places the programs send three messages for each of the fallback's before its
// next one, but none for what its connection carried while nobody else wanted the place.
func TestTurnsOfTheFallback(t *testing.T) {
	for name, c := range map[string]struct {
		concurrency uint16
		proven      uint32
		requests    int
		owed        int32
	}{
		"one request":                {1, 1, 1, 3},
		"as many as may be":          {3, 8, 8, 24},
		"a connection that was busy": {1, 8, 1_000_000, 24},
		"no request was sent":        {1, 8, 0, 0},
		"nothing is known of it":     {2, 0, 5, 3},
		"there are places enough":    {4, 8, 8, 0},
	} {
		p := New(nil, &bpf.EproxyPod{Concurrency: c.concurrency, Proven: c.proven}, nil)
		p.endTurn(c.requests)
		if p.entry.Owed != c.owed || p.owes() != (c.owed > 0) {
			t.Errorf("%s: %d owed, want %d", name, p.entry.Owed, c.owed)
		}
	}
}
