package instances

import (
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fromZero is a function that has no instance at rest.
func fromZero(lambda time.Duration) (w func(*testing.T) *world) {
	return func(t *testing.T) *world {
		t.Helper()
		uplink(t)
		w := newWorld(t)
		run := says("os.getpid()")
		run.Min, run.Max, run.Lambda = 0, 1, lambda
		w.run("f", run)
		return w
	}
}

// stopped waits until the function has no instance.
func (w *world) stopped() {
	w.t.Helper()
	until(w.t, "end of all instances", func() bool {
		all := w.r.Functions()
		return len(all) == 1 && all[0].State == Stopped && all[0].Instances == 0 && len(w.r.Instances()) == 0
	})
}

// none waits until it is said that the function has no pod: it is followed then.
func (w *world) none() {
	w.t.Helper()
	until(w.t, "word that there is no pod", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.pods["f"] != nil && len(w.pods["f"]) == 0
	})
}

// TestFromZero: a function without instances has one when a message waits, is shown as it is, and has none when nothing has come
// for lambda; each time another process.
func TestFromZero(t *testing.T) {
	w := fromZero(time.Second)(t)
	w.none()
	w.stopped()
	if why := w.r.Functions()[0].Reason; why != "no message has come yet" {
		t.Errorf("reason %q", why)
	}
	var waits atomic.Bool // the message, until it is answered
	w.r.Measure(func(string) Load {
		if waits.Load() {
			return Load{Requests: 1, PerInstance: 1}
		}
		return Load{PerInstance: 1}
	})
	for range 3 {
		waits.Store(true)
		if !w.r.Wake("f") {
			t.Fatal("none is begun")
		}
		pod := w.found("f", 1)[0]
		if got := get(t, pod); got != "1" {
			t.Errorf("it says %q", got)
		}
		waits.Store(false)
		w.none()
		w.stopped()
	}
	if d := w.r.Patience("f"); d < leastPatience {
		t.Errorf("a message waits for %s", d)
	}
	if w.r.Wake("no such function") || w.r.Patience("no such function") != 0 {
		t.Error("a function that is not followed is begun")
	}
}

// TestKilledBeforeReady: one that dies at any moment between stopped and ready is begun again as long as a message waits.
func TestKilledBeforeReady(t *testing.T) {
	w := fromZero(time.Hour)(t)
	w.none()
	w.r.Measure(func(string) Load { return Load{Requests: 1, PerInstance: 1} }) // the message waits
	w.r.Wake("f")
	w.found("f", 1)
	for range 5 {
		all := w.r.Instances()
		if len(all) != 1 || all[0].PID == 0 {
			continue // it is between two processes
		}
		if err := syscall.Kill(all[0].PID, syscall.SIGKILL); err != nil {
			continue // it has ended by itself
		}
		until(t, "another process", func() bool {
			now := w.r.Instances()
			return len(now) == 1 && now[0].State == Ready && now[0].Starts > all[0].Starts
		})
	}
}

// TestBrokenFromZero: what does not start is tried while a message waits, and not when none does any more; then it is shown why.
func TestBrokenFromZero(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	run := command("/no/such/program")
	run.Min, run.Max, run.Lambda = 0, 4, time.Hour
	w.run("f", run)
	w.none()
	w.r.Measure(func(string) Load { return Load{Requests: 50, PerInstance: 1} })
	w.r.Wake("f")
	until(t, "failure", func() bool { all := w.r.Instances(); return len(all) == 1 && all[0].State == Failed })
	w.r.Measure(func(string) Load { return Load{} })
	w.stopped()
	if why := w.r.Functions()[0].Reason; !strings.HasPrefix(why, `the last start failed: command "/no/such/program"`) {
		t.Errorf("reason %q", why)
	}
}

// TestScaledByLoad: load has more instances begun, up to max; which of them go first when it has gone.
func TestScaledByLoad(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	run := says("os.getpid()")
	run.Min, run.Max, run.Lambda = 1, 3, time.Hour
	w.run("f", run)
	first := w.found("f", 1)[0]
	w.r.Measure(func(string) Load { return Load{Requests: 40, PerInstance: 10} })
	w.r.Wake("f")
	if pods := w.found("f", 3); !slices.Contains(pods, first) {
		t.Errorf("%s is not among %s", first, pods)
	}
	if len(w.r.Instances()) != 3 {
		t.Errorf("%+v", w.r.Instances())
	}
}

// TestSurplus: first those go that serve nobody, then those that sleep, then the latest.
func TestSurplus(t *testing.T) {
	s := &set{r: newRuntime("unused", t.TempDir(), t.Output())}
	var all []*instance
	for n, state := range []State{Ready, Frozen, Ready, Starting, Failed} {
		all = append(all, &instance{number: n, status: Status{State: state}})
	}
	var order []int
	for _, i := range s.surplus(slices.Clone(all), 0) {
		order = append(order, i.number)
	}
	if !slices.Equal(order, []int{4, 3, 1, 2, 0}) {
		t.Errorf("order %v", order)
	}
	if got := s.surplus(slices.Clone(all), 4); len(got) != 1 || got[0] != all[4] {
		t.Errorf("%d go", len(got))
	}
}
