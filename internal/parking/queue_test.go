package parking

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/config"
)

// waiting stands for the programs: the messages that wait in one queue, of which none finds a slot.
type waiting struct {
	messages []message
	taken    []string
}

type message struct {
	name   string
	family int
	waits  time.Duration
}

// put is what the programs show of a queue with these messages.
func (w *waiting) put(q *queue) {
	q.mem.Count = uint32(len(w.messages))
	q.mem.FirstTurn = [4]uint16{}
	for _, m := range w.messages {
		q.mem.FirstTurn[m.family] = 1
	}
}

func (w *waiting) send(*queue) (refused bool) { return false }

// take takes one of the family of what was refused last, or else of the other one, as park_take does.
func (w *waiting) take(q *queue, wait time.Duration) bool {
	for _, family := range []int{int(q.mem.Refused), 1 - int(q.mem.Refused)} {
		i := slices.IndexFunc(w.messages, func(m message) bool { return m.family == family && m.waits >= wait })
		if i < 0 {
			continue
		}
		w.taken = append(w.taken, w.messages[i].name)
		w.messages = slices.Delete(w.messages, i, i+1)
		w.put(q)
		return true
	}
	return false
}

// TestFamilyWithoutPodsIsHandedOver: what waits for pods of an address family that has none any more is userspace's
// at once, and only that: the other family's messages keep their turns until their time is nearly up.
func TestFamilyWithoutPodsIsHandedOver(t *testing.T) {
	const v4, v6 = 0, 1
	const handover = 10 * time.Second
	messages := []message{{"four", v4, 0}, {"six", v6, 0}, {"old six", v6, handover}, {"four again", v4, time.Second}}
	for name, c := range map[string]struct {
		served Families
		gone   bool
		want   []string
	}{
		"both are served":     {Families{true, true}, false, []string{"old six"}},
		"IPv4 has no pod":     {Families{false, true}, false, []string{"four", "four again", "old six"}},
		"IPv6 has no pod":     {Families{true, false}, false, []string{"six", "old six"}},
		"there is no pod":     {Families{}, false, []string{"four", "four again", "old six", "six"}},
		"the function is not": {Families{true, true}, true, []string{"four", "four again", "old six", "six"}},
	} {
		t.Run(name, func(t *testing.T) {
			programs := &waiting{messages: slices.Clone(messages)}
			all := &Queues{programs: programs, Options: Options{Served: func(string) Families { return c.served }}}
			q := &queue{all: all, mem: &bpf.EproxyQueue{HandoverMs: uint32(handover / time.Millisecond)}}
			q.fn.Store(&config.Function{Name: "f"})
			q.gone.Store(c.gone)
			programs.put(q)
			q.handOver()
			slices.Sort(programs.taken)
			want := slices.Sorted(slices.Values(c.want))
			if !slices.Equal(programs.taken, want) {
				t.Errorf("handed over: %q, want %q", programs.taken, want)
			}
		})
	}
}

// TestReady: the programs can send what has its turn, of that address family; not what is behind another message of its line.
func TestReady(t *testing.T) {
	q := &queue{mem: &bpf.EproxyQueue{Count: 5}}
	all := &Queues{table: make([]atomic.Pointer[queue], 2)}
	all.table[1].Store(q)
	for name, c := range map[string]struct {
		turns  [4]uint16
		v4, v6 bool
	}{
		"all are behind others": {[4]uint16{0, 0, 7, 8}, false, false},
		"one of IPv4":           {[4]uint16{7, 0, 0, 0}, true, false},
		"one of IPv6":           {[4]uint16{0, 7, 8, 0}, false, true},
	} {
		q.mem.FirstTurn = c.turns
		if v4, v6 := all.Ready(1, 0), all.Ready(1, 1); v4 != c.v4 || v6 != c.v6 {
			t.Errorf("%s: IPv4 %t, IPv6 %t", name, v4, v6)
		}
	}
	if all.Ready(0, 0) || all.Ready(2, 0) {
		t.Error("a queue that is not there has messages")
	}
}
