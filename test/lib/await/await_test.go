package await

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWithin: what becomes so in time is seen soon after, what does not ends at the limit, and is looked at once more then.
func TestWithin(t *testing.T) {
	for name, c := range map[string]struct {
		after, took time.Duration
		want        bool
	}{
		"at once":       {0, 0, true},
		"after a while": {98 * time.Millisecond, 100 * time.Millisecond, true},
		"too late":      {time.Hour, time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				got := Within(time.Second, func() bool { return time.Since(began) >= c.after })
				if took := time.Since(began); got != c.want || took != c.took {
					t.Errorf("%t after %v, want %t after %v", got, took, c.want, c.took)
				}
			})
		})
	}
}
