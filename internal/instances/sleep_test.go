package instances

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"eproxy/internal/cgroup"
)

// asleep waits until a function's only instance is frozen, as the kernel has it, too.
func (w *world) asleep(name string) Status {
	w.t.Helper()
	var s Status
	until(w.t, "frozen instance", func() bool {
		for _, s = range w.r.Instances() {
			if s.Function == name && s.State == Frozen {
				return true
			}
		}
		return false
	})
	if !w.frozen(s) {
		w.t.Error("the kernel does not have it frozen")
	}
	return s
}

func (w *world) frozen(s Status) bool {
	groups, err := cgroup.Find()
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(groups.Unified(), top, w.id, fmt.Sprintf("%d-%s", s.Instance, s.Function), "cgroup.events"))
	return err == nil && strings.Contains(string(b), "frozen 1")
}

// TestSleep: an instance without requests is frozen and no pod; a message, or a
// connection, has it go on as the same process; it can be stopped, killed and cleared away
// while it is frozen.
func TestSleep(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	run := says("os.getpid()")
	run.Idle = time.Second
	stop := w.run("f", run)
	w.found("f", 1)
	w.r.Touch("f")
	before := w.asleep("f")
	w.found("f", 0)
	if !w.r.Wake("f") {
		t.Error("none is said to be asleep")
	}
	pod := w.found("f", 1)[0]
	if w.r.Wake("f") {
		t.Error("one is said to be asleep")
	}
	if got := get(t, pod); got != "1" {
		t.Errorf("it says %q", got)
	}
	w.r.Touch("f")
	if again := w.asleep("f"); again.PID != before.PID || again.Starts != 1 {
		t.Errorf("%+v, was %+v", again, before)
	}
	if got := get(t, pod); got != "1" { // of somebody who does not know
		t.Errorf("it says %q", got)
	}
	w.found("f", 1)
	w.r.Touch("f")
	if err := syscall.Kill(w.asleep("f").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "another process", func() bool { s := w.r.Instances()[0]; return s.State == Ready && s.Starts == 2 })
	w.r.Touch("f")
	w.asleep("f")
	stop()
	w.close()
}

// TestKeptAwake: an instance with a request under way, or with requests from time to time,
// is not frozen.
func TestKeptAwake(t *testing.T) {
	start := time.Now()
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	c := clock{idle: 2 * time.Second}
	c.woken(start, 10)
	for _, x := range []struct {
		at       float64
		requests uint64
		want     bool
	}{
		{1, 10, false}, {29, 10, false}, {30, 10, true}, // never used
		{31, 11, false}, {32.5, 11, false}, {33, 11, true},
		{34, 12, false}, {35, 13, false}, {36.9, 13, false},
		{37, 0, false}, {38.9, 0, false}, {39, 0, true}, // its counters are gone
	} {
		if got := c.due(at(x.at), x.requests); got != x.want {
			t.Errorf("at %v, %d requests: due %v", x.at, x.requests, got)
		}
	}
	c.woken(at(50), 0)
	if c.due(at(53), 0) {
		t.Error("frozen before the message that woke it was sent")
	}
	c.owed = true // nobody wakes it again for the message that waits
	if c.due(at(5000), 0) {
		t.Error("frozen while the message that woke it waits for it to be a pod")
	}
	if c.due(at(5001), 1) || !c.due(at(5004), 1) {
		t.Error("not frozen after the message that woke it")
	}
}
