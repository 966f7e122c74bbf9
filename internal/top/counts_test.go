package top

import (
	"fmt"
	"testing"
	"time"
)

// TestCounts: sums over the series with the same values of some labels, and their growth.
func TestCounts(t *testing.T) {
	a, b := snapshot(t, first, 0), snapshot(t, second, 2*time.Second)
	now := Counts(a, b, "eproxy_function_inflight")[0].Total
	got := fmt.Sprint(Counts(a, b, "eproxy_messages_total", "function"), now, Counts(a, b, "eproxy_none", "x"))
	if want := "[{[f] 195 20} {[g] 2 1}] 7 []"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestRoutes: by route and function, and all of them together.
func TestRoutes(t *testing.T) {
	a, b := snapshot(t, first, 0), snapshot(t, second, 2*time.Second)
	var got string
	for _, r := range append(Routes(a, b), All(a, b)) {
		got += fmt.Sprintf("%s->%s %.4g %.4g %.4g %.5g %.5g\n", r.Name, r.Function, r.Rate, r.Share, r.Errors, r.P50, r.P99)
	}
	want := "a/#->f 20 75 2 1250 1985\nb->g 1 100 0 NaN NaN\n-> 21 76.19 2 1250 1985\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
