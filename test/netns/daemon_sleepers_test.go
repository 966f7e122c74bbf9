package netns

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"eproxy/test/lib/idlers"
)

// sleeperCycles is how often TestSleepersLoseNothing has functions sleep, unless EPROXY_SLEEPERS says otherwise; then they are killed, too.
const sleeperCycles = 120

// TestSleepersLoseNothing: messages that come when functions are about to be frozen, just are, or have been for a while are
// all acknowledged, and delivered once. Where functions are killed meanwhile, those that they had may be delivered again.
func TestSleepersLoseNothing(t *testing.T) {
	const (
		functions = 20
		patience  = 2 * time.Minute // an instance that is killed again and again is started again after up to 30 s
	)
	cycles, kill := sleeperCycles, false
	if s := os.Getenv("EPROXY_SLEEPERS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < functions {
			t.Fatalf("EPROXY_SLEEPERS: %q is no number from %d", s, functions)
		}
		cycles, kill = n, true
	}
	function := copyFunction(t)
	config := "listeners: [{address: \":1883\"}]\nfunctions:\n"
	routes := "routes:\n"
	for n := range functions {
		config += fmt.Sprintf("  - {name: f%d, url: \"http://f%d.local/\", run: {command: [%q], env: {EPROXY_TEST_FUNCTION: \"1\"}, memory: 128Mi, idle: 1s}}\n", n, n, function)
		routes += fmt.Sprintf("  - {topic: \"s/%d/+\", function: f%d}\n", n, n)
	}
	l := newLab(t)
	s := start(t, l, "tc", config+routes)
	s.inState("ready", functions)
	var devices, killer sync.WaitGroup
	done := make(chan struct{})
	for n := range functions {
		c := rawConnect(t, l, fmt.Sprintf("d%d", n))
		_ = c.SetDeadline(time.Time{})
		devices.Go(func() {
			for m := range cycles / functions {
				// An instance is frozen 1 to 1.5 s after its last request.
				if m > 0 {
					time.Sleep(950*time.Millisecond + time.Duration(rand.Int64N(int64(750*time.Millisecond))))
				}
				_ = c.SetDeadline(time.Time{}) // that of the message before, which may have waited for a restart
				if err := c.tryPublishAll(func(yield func(message) bool) {
					yield(message{topic: fmt.Sprintf("s/%d/%d", n, m), qos: 1, payload: "x"})
				}, 1, patience); err != nil {
					t.Errorf("message %d for function %d: %v", m, n, err)
					return
				}
			}
		})
	}
	if kill {
		killer.Go(func() { s.killInstances(done) })
	}
	devices.Wait()
	close(done)
	killer.Wait()
	until(t, "all that functions have said", func() bool { return strings.Count(s.Log(), "line=s/") >= cycles/functions*functions })
	said := s.Log() + "\n"
	again, slept := 0, 0
	for n := range functions {
		for m := range cycles / functions {
			switch got := strings.Count(said, fmt.Sprintf("line=s/%d/%d\n", n, m)); {
			case got == 0:
				t.Errorf("message %d for function %d was acknowledged, and not delivered", m, n)
			case got > 1 && !kill:
				t.Errorf("message %d for function %d was delivered %d times", m, n, got)
			case got > 1:
				again++
			}
		}
	}
	counts := s.counts()
	slept = counts["tc_pod_out/slot_syn"] - functions // each time one is frozen a connection is made
	t.Logf("%d messages, about %d sleeps, %d delivered again, %d taken over by userspace", cycles, slept, again, counts["control/taken_over"])
	if slept < functions/2 { // else it tests nothing; how many it is depends on the machine
		t.Errorf("functions slept %d times only", slept)
	}
}

// killInstances kills an instance now and then.
func (s *system) killInstances(done chan struct{}) {
	for {
		select {
		case <-done:
			return
		case <-time.After(500 * time.Millisecond):
		}
		rows := s.mapsctl("instances")
		if pid := int(rows[rand.IntN(len(rows))]["pid"].(float64)); pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// copyFunction is a copy of this program that anybody may start.
func copyFunction(t *testing.T) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "eproxy-sleepers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path, err = idlers.Copy(dir)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
