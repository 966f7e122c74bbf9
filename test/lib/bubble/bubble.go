// Package bubble lets time pass in tests that have a clock of their own (testing/synctest), and in no others.
package bubble

import (
	"testing"
	"testing/synctest"
	"time"
)

// began is when the clock of each bubble begins (documentation of testing/synctest).
var began = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// span is how far a test may go on that clock.
const span = 15 * 365 * 24 * time.Hour

// Take is what one goroutine of a bubble takes to do something: so much of the bubble's time. Others may do so at the same time.
func Take(t testing.TB, d time.Duration) {
	t.Helper()
	inside(t)
	<-time.After(d)
}

// inside ends a test that has no clock of its own.
func inside(t testing.TB) {
	t.Helper()
	if since := time.Since(began); since < 0 || since > span {
		t.Fatal("time passes by itself here: this test has no clock of its own (testing/synctest)")
	}
}

// Pass has so much of the bubble's time pass, in which all that is due happens, and returns when nothing goes on any more. It takes
// no real time, and so no event could be waited for instead: outside a bubble it ends the test.
func Pass(t testing.TB, d time.Duration) {
	t.Helper()
	inside(t)
	time.Sleep(d)
	synctest.Wait()
}
