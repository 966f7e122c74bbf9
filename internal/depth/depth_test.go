package depth

import (
	"testing"
	"time"

	"eproxy/internal/config"
)

func automatic(most int) *Depth {
	var d Depth
	d.Configure(config.PipelineAuto, most)
	return &d
}

// TestDepthIsProvenStepByStep: one request at a time at first; twice as many are tried, and
// allowed only once that went well; never more than the programs can do.
func TestDepthIsProvenStepByStep(t *testing.T) {
	d := automatic(24)
	if d.Proven != 1 || d.Tried != 1 || !d.May(0) {
		t.Fatalf("at first: %+v", *d)
	}
	d.Proved()
	if d.Proven != 1 {
		t.Errorf("%d proven, and nothing was tried", d.Proven)
	}
	d.Try()
	if d.May(0) {
		t.Error("more is tried while something is tried")
	}
	for _, want := range []struct{ proven, depth int }{{1, 2}, {2, 4}, {4, 8}, {8, 16}, {16, 24}, {24, 24}, {24, 24}} {
		if d.Proven != want.proven || d.Tried != want.depth {
			t.Fatalf("%d proven, %d tried, want %+v", d.Proven, d.Tried, want)
		}
		d.Proved()
	}
	if d.May(time.Hour) || d.Why != Proven {
		t.Errorf("at its most: %+v", *d)
	}
}

// TestDepthAfterTrouble: the first trouble ends it all, and each one keeps the pod longer from
// another try, but for one after a long quiet time; what comes of the same depth on other
// connections is no other trouble.
func TestDepthAfterTrouble(t *testing.T) {
	d, now := automatic(64), time.Hour
	trouble := func(want time.Duration) {
		t.Helper()
		if !d.May(now) {
			t.Fatalf("nothing may be tried: %+v", *d)
		}
		d.Try()
		d.Proved()
		d.Failed(Stalled, now)
		d.Failed(Closed, now)
		if d.Proven != 1 || d.Tried != 1 || d.Why != Stalled || d.Penalty != want {
			t.Fatalf("after trouble: %+v, want a penalty of %v", *d, want)
		}
		if d.May(now + want - 1) {
			t.Errorf("tried again after less than %v", want)
		}
		now += want
	}
	for want := troubleMin; want < troubleMost; want *= 2 {
		trouble(want)
	}
	trouble(troubleMost)
	trouble(troubleMost)
	now += troubleQuiet * troubleMost
	trouble(troubleMin)
	d.Forget() // the pod refuses a connection: perhaps for what was tried
	now -= troubleMin
	if d.May(now) {
		t.Error("a pod that took no connections is tried at once")
	}
}

// TestDepthIsForgotten: what comes back may be another server.
func TestDepthIsForgotten(t *testing.T) {
	d := automatic(64)
	d.Try()
	d.Proved()
	d.Cut(100)
	d.Forget()
	if d.Proven != 1 || d.Tried != 1 || d.Quota != 0 || !d.May(0) {
		t.Errorf("%+v", *d)
	}
}

// TestFixedDepth: what the configuration says is neither found out nor given up.
func TestFixedDepth(t *testing.T) {
	d := automatic(24)
	d.Try()
	for n, want := range map[int]int{1: 1, 8: 8, 64: 24} {
		d.Configure(n, 24)
		d.Failed(Closed, time.Hour)
		d.Proved()
		d.Forget()
		if d.Proven != want || d.Tried != want || d.May(time.Hour) || d.Why != Fixed {
			t.Errorf("pipeline %d: %+v", n, *d)
		}
	}
	d.Configure(config.PipelineAuto, 24)
	if d.Proven != 1 || !d.May(0) {
		t.Errorf("auto again: %+v", *d)
	}
	d.Try()
	d.Proved()
	d.Configure(config.PipelineAuto, 24)
	if d.Proven != 2 {
		t.Errorf("a reload has forgotten what the pod does: %+v", *d)
	}
}

// TestQuota: after as many requests as a server has once closed a connection with more in
// flight, until a connection has carried far more.
func TestQuota(t *testing.T) {
	d := automatic(64)
	for _, c := range []struct{ cut, want int }{{100, 100}, {120, 100}, {90, 90}, {0, 1}} {
		if d.Cut(c.cut); d.Quota != c.want {
			t.Errorf("closed after %d: quota %d, want %d", c.cut, d.Quota, c.want)
		}
	}
	d.Quota = 90
	if d.Carried(180); d.Quota != 90 {
		t.Errorf("quota %d after 180", d.Quota)
	}
	if d.Carried(181); d.Quota != 0 {
		t.Errorf("quota %d after 181", d.Quota)
	}
}
