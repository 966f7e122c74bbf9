// Package await waits in tests for what comes by itself, and of which nothing tells.
package await

import (
	"testing"
	"time"
)

// look is how often it is looked.
const look = 5 * time.Millisecond

// True waits until something is so, for as long as limit; then it ends the test with what it is.
func True(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	None(t, limit, func() string {
		if ok() {
			return ""
		}
		return "waited in vain: " + what
	})
}

// None waits until there is nothing to complain of; after limit it ends the test with the last complaint.
func None(t testing.TB, limit time.Duration, complaint func() string) {
	t.Helper()
	var why string
	if !Within(limit, func() bool { why = complaint(); return why == "" }) {
		t.Fatal(why)
	}
}

// Within waits until something is so, and says whether it has become so within limit.
func Within(limit time.Duration, ok func() bool) bool {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for late := time.After(limit); !ok(); {
		select {
		case <-tick.C:
		case <-late:
			return ok()
		}
	}
	return true
}
