package kube

import (
	"os"
	"testing"
	"time"
)

// TestMain has the API server asked again sooner than outside of tests, which wait for that.
func TestMain(m *testing.M) {
	backoff.Duration, backoff.Cap = 20*time.Millisecond, 100*time.Millisecond
	os.Exit(m.Run())
}
