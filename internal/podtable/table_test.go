package podtable

import (
	"math/rand/v2"
	"slices"
	"testing"

	"eproxy/internal/abi"
)

type pod struct {
	index uint32
	over  chan struct{}
	slots []*slot
}

type slot struct{ pod *pod }

// TestModel: pods come and go at random, and their slots end some time later. No index is two pods', none is given out
// before the slots of its last pod have ended, and each slot and pod is found where it is.
func TestModel(t *testing.T) {
	const size = 5
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		table := New[pod, slot](size)
		var here, ending []*pod
		for range 300 {
			switch rng.IntN(3) {
			case 0:
				index, ok := table.Free()
				if taken := len(here) + len(ending); ok != (taken < size) {
					t.Fatalf("seed %d: a free index: %v, of %d %d are taken", seed, ok, size, taken)
				}
				if !ok {
					continue
				}
				if slices.ContainsFunc(append(slices.Clone(here), ending...), func(p *pod) bool { return p.index == index }) {
					t.Fatalf("seed %d: index %d is given out twice", seed, index)
				}
				p := &pod{index: index, over: make(chan struct{})}
				for range abi.SlotsPerPod {
					p.slots = append(p.slots, &slot{p})
				}
				table.Enter(index, p, p.slots)
				here = append(here, p)
			case 1:
				if len(here) > 0 {
					i := rng.IntN(len(here))
					table.Leave(here[i].index, here[i].over)
					ending, here = append(ending, here[i]), slices.Delete(here, i, i+1)
				}
			default:
				if len(ending) > 0 {
					close(ending[0].over)
					ending = ending[1:]
				}
			}
			check(t, seed, table, here, ending)
		}
	}
}

// check compares a table with the pods in service, and with those whose slots have not ended.
func check(t *testing.T, seed uint64, table *Table[pod, slot], here, ending []*pod) {
	t.Helper()
	inUse := table.InUse()
	if len(inUse) != len(here)+len(ending) {
		t.Fatalf("seed %d: %v are in use, want %d and %d", seed, inUse, len(here), len(ending))
	}
	pods, slots := 0, 0
	for p := range table.All() {
		if pods++; table.Pod(p.index) != p || !slices.Contains(here, p) || !slices.Contains(inUse, p.index) {
			t.Fatalf("seed %d: pod %d is not where it is", seed, p.index)
		}
		for n, s := range p.slots {
			if at := table.SlotIndex(p.index, uint32(n)); table.Slot(at) != s || table.Of(at) != p {
				t.Fatalf("seed %d: slot %d of pod %d is not where it is", seed, n, p.index)
			}
		}
	}
	for range table.Slots() {
		slots++
	}
	if pods != len(here) || slots != pods*abi.SlotsPerPod {
		t.Fatalf("seed %d: %d pods and %d slots in service, want %d pods", seed, pods, slots, len(here))
	}
	if len(ending) > 0 && !table.Left() {
		t.Fatalf("seed %d: nothing is said to leave", seed)
	}
}

// TestAwait: what was given up is waited for.
func TestAwait(t *testing.T) {
	table := New[pod, slot](1)
	over := make(chan struct{})
	table.Enter(0, &pod{}, nil)
	table.Leave(0, over)
	done := make(chan struct{})
	go func() {
		table.Await()
		close(done)
	}()
	if _, ok := table.Free(); ok {
		t.Error("the index is free while slots have not ended")
	}
	close(over)
	<-done
	if _, ok := table.Free(); !ok {
		t.Error("the index is not free")
	}
}
