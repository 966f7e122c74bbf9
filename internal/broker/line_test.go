package broker

import (
	"slices"
	"testing"

	"eproxy/internal/config"
)

// programs stands for the kernel path's part of one client's line on each route.
type programs struct {
	busy  bool              // they have messages in front
	again map[string]func() // who wants to know when not, by route
	held  map[string]int
	n     uint32
}

func newPrograms() *programs {
	return &programs{again: make(map[string]func()), held: make(map[string]int)}
}

func (p *programs) Established(ConnInfo) Graft { return nil }

func (p *programs) Hold(_, filter string, again func()) (f Front, ok bool) {
	if p.busy {
		p.again[filter] = again
		return f, false
	}
	p.held[filter]++
	p.n++
	return Front{Line: uint64(len(filter)), Number: p.n}, true
}

func (p *programs) Release(f Front) {
	for filter := range p.held {
		if uint64(len(filter)) == f.Line {
			p.held[filter]--
		}
	}
}

// may says whether a message's turn has come.
func may(p *place) bool {
	select {
	case <-p.first():
		return true
	default:
		return false
	}
}

func mustBe(t *testing.T, when string, places []*place, want ...bool) {
	t.Helper()
	got := make([]bool, len(places))
	for i, p := range places {
		got[i] = may(p)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: the turns of the messages are %v, want %v", when, got, want)
	}
}

// TestLines: what the programs have of a line comes before what the server gets meanwhile, and what the server has before what they get.
func TestLines(t *testing.T) {
	route := &config.Route{Filter: "a/#"}
	yes := func() bool { return true }
	p := newPrograms()
	l := &lines{programs: p}
	if !l.clear("c", yes) {
		t.Error("the programs may not take a client's first message")
	}
	p.busy = true
	all := []*place{l.join("c", route), l.join("c", route)}
	mustBe(t, "behind the programs' messages", all, false, false)
	if l.clear("c", yes) {
		t.Error("the programs may take what would come in front")
	}
	p.busy = false
	p.again["a/#"]()
	mustBe(t, "when they have none", all, true, false)
	if !l.clear("c", yes) || p.held["a/#"] != 1 {
		t.Errorf("the programs may not take what comes behind; held %d times", p.held["a/#"])
	}
	all = append(all, l.join("c", route)) // behind what the programs may have taken since
	p.busy = true
	l.leave(all[0])
	mustBe(t, "the second one", all, true, true, false)
	l.leave(all[1])
	if p.held["a/#"] != 0 {
		t.Error("the line is held still")
	}
	mustBe(t, "behind what the programs took", all, true, true, false)
	p.busy = false
	p.again["a/#"]()
	mustBe(t, "at last", all, true, true, true)
	if other := l.join("other", route); !may(other) {
		t.Error("another client's message waits")
	}
	if l.clear("c", func() bool { return false }); len(l.m["c"]["a/#"].batches) != 1 {
		t.Error("sealed though the programs take nothing")
	}
	if next := l.join("c", route); may(next) || len(l.m["c"]["a/#"].batches) != 1 {
		t.Error("a message that nothing can be in front of does not stand with the others")
	}
	p.busy = true
	waits := l.join("d", route)
	l.leave(waits) // given up before its turn
	p.again["a/#"]()
	if l.m["d"] != nil {
		t.Error("a line that is empty is kept")
	}
}
