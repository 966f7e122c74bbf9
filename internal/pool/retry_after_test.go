package pool

import (
	"testing"
	"time"
)

// TestRetryAfterHeader: seconds or a date, and what is neither.
func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "7.5": 0, "soon": 0, "18446744073709551616": 9223372036 * time.Second,
		"Sat, 28 Nov 2026 12:00:30 GMT": 30 * time.Second, "Saturday, 28-Nov-26 12:00:30 GMT": 30 * time.Second, "Sat Nov 28 12:00:30 2026": 30 * time.Second,
		"Sat, 28 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(s, now); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}
