package scale

import (
	"testing"
	"time"

	"eproxy/internal/abi"
	"eproxy/internal/slot"
)

// TestGrowth: what is known of a server by its connections, and when more of them are dialled.
func TestGrowth(t *testing.T) {
	const patience = 250 * time.Millisecond
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	idle := func(ready int) slot.State {
		return slot.State{Connected: true, Idle: true, Ready: ms(ready), Since: ms(ready)}
	}
	waits := func(ready, asked int) slot.State {
		return slot.State{Connected: true, Ready: ms(ready), Asked: ms(asked), Since: ms(ready), Requests: 1}
	}
	answered := func(ready, since int) slot.State {
		return slot.State{Connected: true, Answered: true, Ready: ms(ready), Since: ms(since), Asked: ms(since), Requests: 2}
	}
	for _, c := range []struct {
		name  string
		conns []slot.State
		now   int
		most  int
	}{
		{"none", nil, 1000, abi.SlotsPerPod},
		{"one that dials", []slot.State{{}}, 1000, abi.SlotsPerPod},
		{"one that is closed, since nothing came to it", []slot.State{{Connected: true, Closing: true}}, 100, abi.SlotsPerPod},
		{"one that nothing came to", []slot.State{idle(0)}, 1000, abi.SlotsPerPod},
		{"all have answered", []slot.State{answered(0, 900), answered(800, 810)}, 1000, abi.SlotsPerPod},
		{"a young request", []slot.State{waits(0, 800)}, 1000, 0},
		{"a young request beside one that has answered", []slot.State{answered(0, 1000), waits(790, 800)}, 1000, 0},
		{"a slow function: none is answered", []slot.State{waits(0, 700)}, 1000, 1},
		{"a slow function: those that were answered are not since", []slot.State{answered(0, 600), waits(650, 700)}, 1000, 1},
		{"a slow function, and one of the new ones is young", []slot.State{waits(0, 700), waits(760, 800)}, 1000, 0},
		{"a slow request: a younger connection has answered", []slot.State{waits(0, 100), answered(500, 990)}, 1000, abi.SlotsPerPod},
		{"a slow request that is young, too", []slot.State{waits(0, 990), answered(500, 900)}, 1000, abi.SlotsPerPod},
		{"one at a time", []slot.State{answered(0, 1000), waits(500, 700)}, 1000, 0},
		{"one at a time: another is tried later", []slot.State{answered(0, 1300), waits(500, 700)}, 1300, 1},
		{"one at a time: more wait", []slot.State{answered(0, 1300), waits(500, 700), waits(900, 910)}, 1300, 0},
		{"one at a time: another is tried still later", []slot.State{answered(0, 1700), waits(500, 700), waits(900, 910)}, 1700, 1},
	} {
		if got := growth(c.conns, ms(c.now), patience); got != c.most {
			t.Errorf("%s: %d more, want %d", c.name, got, c.most)
		}
	}
	// however many wait, it is not forever
	var conns []slot.State
	for range 16 {
		conns = append(conns, waits(0, 0))
	}
	conns = append(conns, slot.State{Connected: true, Answered: true, Since: time.Hour << 10})
	if growth(conns, time.Hour, patience) != 0 || growth(conns, 10*time.Hour, patience) == 0 {
		t.Error("16 that wait are waited for, or forever")
	}
}
