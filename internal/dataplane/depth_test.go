package dataplane

import (
	"testing"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/config"
)

func automatic(most int) *pipelining {
	var d pipelining
	d.configure(config.PipelineAuto, most)
	return &d
}

// TestDepthIsProvenStepByStep: one request at a time at first; twice as many are tried, and
// allowed only once that went well; never more than the programs can do.
func TestDepthIsProvenStepByStep(t *testing.T) {
	d := automatic(24)
	if d.proven != 1 || d.depth != 1 || !d.may(0) {
		t.Fatalf("at first: %+v", *d)
	}
	d.proved()
	if d.proven != 1 {
		t.Errorf("%d proven, and nothing was tried", d.proven)
	}
	d.try()
	if d.may(0) {
		t.Error("more is tried while something is tried")
	}
	for _, want := range []struct{ proven, depth int }{{1, 2}, {2, 4}, {4, 8}, {8, 16}, {16, 24}, {24, 24}, {24, 24}} {
		if d.proven != want.proven || d.depth != want.depth {
			t.Fatalf("%d proven, %d tried, want %+v", d.proven, d.depth, want)
		}
		d.proved()
	}
	if d.may(time.Hour) || d.why != bpf.EproxyDepthWhyDEPTH_PROVEN {
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
		if !d.may(now) {
			t.Fatalf("nothing may be tried: %+v", *d)
		}
		d.try()
		d.proved()
		d.failed(bpf.EproxyDepthWhyDEPTH_STALLED, now)
		d.failed(bpf.EproxyDepthWhyDEPTH_CLOSED, now)
		if d.proven != 1 || d.depth != 1 || d.why != bpf.EproxyDepthWhyDEPTH_STALLED || d.penalty != want {
			t.Fatalf("after trouble: %+v, want a penalty of %v", *d, want)
		}
		if d.may(now + want - 1) {
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
	d.forget() // the pod refuses a connection: perhaps for what was tried
	now -= troubleMin
	if d.may(now) {
		t.Error("a pod that took no connections is tried at once")
	}
}

// TestDepthIsForgotten: what comes back may be another server.
func TestDepthIsForgotten(t *testing.T) {
	d := automatic(64)
	d.try()
	d.proved()
	d.cut(100)
	d.forget()
	if d.proven != 1 || d.depth != 1 || d.quota != 0 || !d.may(0) {
		t.Errorf("%+v", *d)
	}
}

// TestFixedDepth: what the configuration says is neither found out nor given up.
func TestFixedDepth(t *testing.T) {
	d := automatic(24)
	d.try()
	for n, want := range map[int]int{1: 1, 8: 8, 64: 24} {
		d.configure(n, 24)
		d.failed(bpf.EproxyDepthWhyDEPTH_CLOSED, time.Hour)
		d.proved()
		d.forget()
		if d.proven != want || d.depth != want || d.may(time.Hour) || d.why != bpf.EproxyDepthWhyDEPTH_FIXED {
			t.Errorf("pipeline %d: %+v", n, *d)
		}
	}
	d.configure(config.PipelineAuto, 24)
	if d.proven != 1 || !d.may(0) {
		t.Errorf("auto again: %+v", *d)
	}
	d.try()
	d.proved()
	d.configure(config.PipelineAuto, 24)
	if d.proven != 2 {
		t.Errorf("a reload has forgotten what the pod does: %+v", *d)
	}
}

// TestQuota: after as many requests as a server has once closed a connection with more in
// flight, until a connection has carried far more.
func TestQuota(t *testing.T) {
	d := automatic(64)
	for _, c := range []struct{ cut, want int }{{100, 100}, {120, 100}, {90, 90}, {0, 1}} {
		if d.cut(c.cut); d.quota != c.want {
			t.Errorf("closed after %d: quota %d, want %d", c.cut, d.quota, c.want)
		}
	}
	d.quota = 90
	if d.carried(180); d.quota != 90 {
		t.Errorf("quota %d after 180", d.quota)
	}
	if d.carried(181); d.quota != 0 {
		t.Errorf("quota %d after 181", d.quota)
	}
}
