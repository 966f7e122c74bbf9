package instances

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/internal/config"
)

// node is a world whose functions share memory, and whose load a test says.
type node struct {
	*world
	mu   sync.Mutex
	busy map[string]bool
	most int64 // that all instances took at a time
}

func newNode(t *testing.T, mib int64) *node {
	t.Helper()
	uplink(t)
	n := &node{world: newWorld(t), busy: make(map[string]bool)}
	n.r.budget = newBudget(mib << 20)
	n.r.Measure(func(name string) Load {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.busy[name] {
			return Load{Requests: 1, PerInstance: 10}
		}
		return Load{PerInstance: 10}
	})
	return n
}

// work says whether functions have some; all at once also for a look at the budget, which asks for one after the other.
func (n *node) work(busy bool, names ...string) {
	n.r.budget.mu.Lock()
	defer n.r.budget.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		n.busy[name] = busy
	}
}

// begins has a message wait for a function, until it has an instance.
func (n *node) begins(name string) {
	n.t.Helper()
	n.work(true, name)
	until(n.t, "function that is followed", func() bool { return n.r.Wake(name) })
	n.found(name, 1)
}

// states are those of the functions.
func (n *node) states() map[string]State {
	out := make(map[string]State)
	for _, f := range n.r.Functions() {
		out[f.Function] = f.State
	}
	return out
}

// are waits until the functions are in states.
func (n *node) are(want map[string]State) {
	n.t.Helper()
	until(n.t, fmt.Sprintf("%v", want), func() bool {
		sum := int64(0)
		for _, s := range n.r.Instances() {
			sum += s.Used
		}
		n.most = max(n.most, sum)
		return maps.Equal(n.states(), want)
	})
}

// holds is a function that has so many MiB, and says which process it is.
func holds(mib int) *config.Run {
	run := says("os.getpid()")
	run.Command[2] = fmt.Sprintf("held = b'x' * (%d << 20)\n", mib) + run.Command[2]
	run.Min, run.Max, run.Lambda, run.Memory = 0, 1, time.Hour, 64<<20
	return run
}

// TestBudget: a function that needs memory has that of idle ones, of the one that is worth least first; none that has work ever
// ends, and what does not fit waits until one is idle.
func TestBudget(t *testing.T) {
	n := newNode(t, 120)
	for name, mib := range map[string]int{"small": 1, "large": 36, "new": 1} {
		n.run(name, holds(mib))
	}
	for _, name := range []string{"small", "large"} {
		n.begins(name)
	}
	n.are(map[string]State{"small": Ready, "large": Ready, "new": Stopped})
	// All have work: what comes waits, and says why.
	n.work(true, "new")
	n.r.Wake("new")
	until(t, "word of why it waits", func() bool {
		for _, f := range n.r.Functions() {
			if f.Function == "new" && strings.HasPrefix(f.Reason, "runtime.memory is spent: ") {
				return true
			}
		}
		return false
	})
	if got := n.states(); got["small"] != Ready || got["large"] != Ready {
		t.Errorf("%v while both have work", got)
	}
	// Both are idle: the large one goes, which costs as much to start as the small one.
	n.work(false, "small", "large")
	n.are(map[string]State{"small": Ready, "large": Stopped, "new": Ready})
	for _, f := range n.r.Functions() {
		if f.Function == "large" && !strings.HasSuffix(f.Reason, "others need its memory (runtime.memory)") {
			t.Errorf("reason %q", f.Reason)
		}
	}
	evicted := make(map[string]uint64)
	n.r.EachEvicted(func(name string, k uint64) { evicted[name] = k })
	if !maps.Equal(evicted, map[string]uint64{"large": 1}) {
		t.Errorf("evicted %v", evicted)
	}
	// It comes back when a message does: what it takes is known now, and fits beside the others.
	n.begins("large")
	n.are(map[string]State{"small": Ready, "large": Ready, "new": Ready})
	if n.most > 120<<20 {
		t.Errorf("%d MiB were taken at a time", n.most>>20)
	}
}

// TestBudgetOverrun: an instance that comes to take more than there is has idle ones stopped; one that is always to be there stays.
func TestBudgetOverrun(t *testing.T) {
	n := newNode(t, 130)
	always := holds(1)
	always.Min = 1
	n.run("always", always)
	n.found("always", 1)
	n.run("idle", holds(20))
	n.begins("idle")
	n.work(false, "idle")
	growing := says("(held := b'x' * (100 << 20), len(held))[1]")
	growing.Command[2] = strings.Replace(growing.Command[2], "def do_GET(self):", "def do_GET(self):\n        global held", 1)
	growing.Min, growing.Max, growing.Lambda, growing.Memory = 0, 1, time.Hour, 128<<20
	n.run("growing", growing)
	n.are(map[string]State{"always": Ready, "idle": Ready, "growing": Stopped})
	n.r.mu.Lock()
	f := n.r.known["growing"]
	n.r.mu.Unlock()
	f.mu.Lock()
	f.most = 16 << 20 // it was small so far
	f.mu.Unlock()
	n.begins("growing")
	n.are(map[string]State{"always": Ready, "idle": Ready, "growing": Ready})
	get(t, n.found("growing", 1)[0])
	n.are(map[string]State{"always": Ready, "idle": Stopped, "growing": Ready})
}
