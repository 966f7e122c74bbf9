package instances

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"eproxy/internal/predict"
)

// played is a scaler in made-up time.
type played struct {
	t  *testing.T
	c  scaler
	x  seen
	at time.Duration
}

func play(t *testing.T, least, most int) *played {
	return &played{t: t, at: 1e6 * time.Hour, x: seen{min: least, max: most, lambda: time.Minute, start: time.Second}}
}

// ask has the scaler decide after a while.
func (p *played) ask(after time.Duration, requests int, arrived bool) (int, time.Duration) {
	p.at += after
	x := p.x
	x.now, x.arrived, x.load = p.at, arrived, Load{Requests: requests, PerInstance: 10}
	return p.c.want(x)
}

// expect is ask with the right answer.
func (p *played) expect(want int, after time.Duration, requests int, arrived bool) (look time.Duration) {
	p.t.Helper()
	got, look := p.ask(after, requests, arrived)
	if got != want {
		p.t.Fatalf("%d instances, want %d", got, want)
	}
	return look
}

// TestScaleFromZero: none without a message; one for a message; it stays for lambda, is not looked at while it sleeps, and goes.
func TestScaleFromZero(t *testing.T) {
	p := play(t, 0, 1)
	if look := p.expect(0, 0, 0, false); look != never {
		t.Errorf("a stopped function is looked at after %s", look)
	}
	p.expect(1, time.Hour, 1, true)
	p.x.pods, p.x.awake = 1, 1
	p.expect(1, time.Second, 0, false)
	p.x.awake = 0
	look := p.expect(1, 10*time.Second, 0, false)
	if look < 30*time.Second || look > time.Minute {
		t.Errorf("a frozen one is looked at after %s, its keep-alive is a minute", look)
	}
	if look = p.expect(0, look, 0, false); look != never {
		t.Errorf("then after %s", look)
	}
	p.expect(1, 0, 1, false) // that waits, whoever told of it
}

// TestScaleWithLoad: so many as the load needs within a second or two, never beyond max; fewer when it has gone, down to min.
func TestScaleWithLoad(t *testing.T) {
	p := play(t, 1, 4)
	p.x.pods, p.x.awake = 1, 1
	p.expect(1, 0, 0, false)
	most := 0
	for range 20 {
		n, look := p.ask(busyLook, 25, true)
		most = max(most, n)
		if look != busyLook {
			t.Fatalf("it is looked at after %s", look)
		}
	}
	if most != 4 { // 25 / (0.7 × 10)
		t.Errorf("at most %d instances, want 4", most)
	}
	p.x.pods, p.x.awake = 4, 4
	for range 200 {
		p.x.pods, _ = p.ask(idleLook, 0, false)
	}
	p.expect(1, idleLook, 0, false)
}

// TestScaleOfBroken: a function that does not start is tried for messages that wait, by one instance, and no longer.
func TestScaleOfBroken(t *testing.T) {
	p := play(t, 0, 8)
	p.expect(1, 0, 1, true)
	p.x.failed = "why"
	for range 50 {
		p.expect(1, busyLook, 100, false)
	}
	if look := p.expect(0, busyLook, 0, false); look > never {
		t.Errorf("%s", look)
	}
	p.x.failed = ""
	p.expect(0, idleLook, 0, false)
	p.expect(1, idleLook, 1, true)
}

// TestScalePredicts: a function with a message each quarter of an hour is stopped in between, and begun just before the next.
func TestScalePredicts(t *testing.T) {
	const period = 15 * time.Minute
	p := play(t, 0, 1)
	cold, up := 0, time.Duration(0)
	for n := range 60 {
		next, ready := p.at+period, p.x.pods == 1
		if n >= 40 && !ready {
			cold++
		}
		p.x.pods = 1
		var look time.Duration
		p.x.pods, look = p.ask(0, 0, true)
		for p.at < next {
			step := min(look, next-p.at)
			if n >= 40 && p.x.pods == 1 {
				up += step
			}
			p.x.pods, look = p.ask(step, 0, false)
		}
	}
	if cold > 0 || up > 20*period/4 {
		t.Errorf("%d of 20 are cold, it is up for %s of %s, by %s", cold, up, 20*period, p.c.policy())
	}
	if from, to, ok := p.c.expected(); !ok || from > p.at || to < p.at-time.Second || from < p.at-time.Minute {
		t.Errorf("expected from %s to %s (%v), it is %s", from, to, ok, p.at)
	}
}

// TestArrivals: a message counts once, when it comes or when it is answered, however the pods' counters come and go.
func TestArrivals(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.2:80"), netip.MustParseAddrPort("10.0.0.3:80")
	type counts = map[netip.AddrPort]uint64
	var x arrivals
	for n, step := range []struct {
		called   bool
		asked    uint64
		answered counts
		busy     bool
		want     bool
	}{
		{false, 0, nil, false, false},
		{true, 0, nil, true, true},                   // it waits for a pod
		{false, 0, counts{a: 0}, true, false},        // there is one
		{false, 0, counts{a: 1}, false, false},       // which has answered it
		{false, 0, counts{a: 2}, false, true},        // and another one
		{false, 0, counts{a: 2}, false, false},       //
		{false, 0, nil, false, false},                // the pod has gone
		{false, 0, counts{a: 2, b: 0}, false, false}, // and comes back
		{false, 1, counts{a: 2, b: 0}, false, true},  // by userspace
		{false, 1, counts{a: 1, b: 0}, false, true},  // its counter began anew
		{true, 1, counts{a: 1}, true, true},          //
		{false, 1, counts{a: 1}, false, false},       // it was given up
		{false, 1, counts{a: 1, b: 1}, false, true},  //
	} {
		x.called = step.called
		if got := x.since(step.asked, step.answered, step.busy); got != step.want {
			t.Errorf("step %d: %v", n, got)
		}
	}
}

// TestStarts: the quantiles are those of the latest starts.
func TestStarts(t *testing.T) {
	var s starts
	if s.quantile(0.95) != 0 {
		t.Error("of none")
	}
	for n := range 100 {
		s.add(time.Duration(n+1) * time.Millisecond)
	}
	if half, most := s.quantile(0.5), s.quantile(0.95); half != 85*time.Millisecond || most != 99*time.Millisecond {
		t.Errorf("%s, %s", half, most)
	}
}

// TestMemoryOfFunction: what is kept of a function fits 16 KiB.
func TestMemoryOfFunction(t *testing.T) {
	p := play(t, 0, 8)
	for range 600 {
		p.ask(time.Minute, 1, true)
	}
	size := unsafe.Sizeof(function{}) + unsafe.Sizeof(predict.KPA{}) + unsafe.Sizeof(predict.Concurrency{})
	t.Logf("%d bytes beside the policies", size)
	if size > 8<<10 { // the policies themselves: TestMemoryPerFunction of internal/predict
		t.Errorf("%d bytes", size)
	}
}

// BenchmarkWant is one look at a function that has had a message: all that is done for it.
func BenchmarkWant(b *testing.B) {
	c, x := scaler{}, seen{min: 0, max: 8, lambda: time.Minute, start: time.Second, arrived: true, pods: 1, awake: 1}
	x.load = Load{Requests: 3, PerInstance: 10}
	for n := range 300 {
		x.now = time.Duration(n*n) * time.Second
		c.want(x)
	}
	for b.Loop() {
		x.now += 90 * time.Second
		c.want(x)
	}
}

// TestReasonOfWhatIsPagedOut: what is in swap says how much of it is, and how long that is to be so; others say one of the two.
func TestReasonOfWhatIsPagedOut(t *testing.T) {
	p := play(t, 0, 1)
	p.expect(1, 0, 1, true)
	p.expect(1, time.Second, 0, false)
	const why = "last message at "
	for _, c := range []struct {
		state       State
		reason      string
		begins, has string
	}{
		{PagedOut, "it had 40 MiB in memory, and has 2", "it had 40 MiB in memory, and has 2; " + why, "; it stays until "},
		{Frozen, "", why, "; it stays until "},
		{Failed, "exit status 1", "exit status 1", ""},
	} {
		x := FunctionStatus{State: c.state, Reason: c.reason}
		if p.c.tell(&x, p.at); !strings.HasPrefix(x.Reason, c.begins) || !strings.Contains(x.Reason, c.has) || c.has == "" && x.Reason != c.reason {
			t.Errorf("%s: %q", c.state, x.Reason)
		}
	}
	p.c.evict(p.at)
	x := FunctionStatus{State: Stopped}
	if p.c.tell(&x, p.at); !strings.HasSuffix(x.Reason, "others need its memory (runtime.memory)") {
		t.Errorf("%q", x.Reason)
	}
}
