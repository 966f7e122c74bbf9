package trials

import (
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/config"
	"eproxy/internal/depth"
)

// made are Trials of a pod with these slots, which have memory.
func made(open *atomic.Uint64) *Trials {
	t := New(Options{Entry: &bpf.EproxyPod{}, Open: open.Load, Most: 64, Log: slog.New(slog.DiscardHandler)})
	t.Configure(config.PipelineAuto)
	return t
}

// TestShownToThePrograms: what is tried and what is proven is in the pod's entry, one slot has the trials as long as it is connected, proofs count only
// when all that were wanted are there, and the first trouble ends it.
func TestShownToThePrograms(t *testing.T) {
	var open atomic.Uint64
	open.Store(0b1100)
	tr := made(&open)
	e := tr.Entry
	shown := func(what string, proven, depth uint32, wanted int32, trial uint64) {
		t.Helper()
		if e.Proven != proven || e.Depth != depth || e.Wanted != wanted || e.Trial != trial {
			t.Errorf("%s: %d proven, %d at most, %d proofs are wanted, of slots %b; want %d, %d, %d, %b", what, e.Proven, e.Depth, e.Wanted, e.Trial, proven, depth, wanted, trial)
		}
	}
	shown("at first", 1, 1, 0, 0)
	if tr.Deep() || !tr.May(clock.Monotonic()) {
		t.Errorf("slots have memory for more: %v; more may be tried: %v", tr.Deep(), tr.May(clock.Monotonic()))
	}
	tr.Try(clock.Monotonic())
	shown("trying", 1, 2, depth.Proofs, 0b100)
	if !tr.Deep() {
		t.Error("it is tried without memory")
	}
	e.Wanted = 3 // the programs have seen some
	open.Store(0b1110)
	tr.Show()
	tr.Proved()
	shown("while some proofs are missing", 1, 2, 3, 0b100)
	open.Store(0b1010)
	tr.Show()
	shown("when the slot of the trials is closed", 1, 2, 3, 0b10)
	e.Wanted = 0
	tr.Proved()
	shown("proven", 2, 4, depth.Proofs, 0b10)
	tr.Failed(depth.Broken, io.EOF)
	shown("after trouble", 1, 1, 0, 0)
	tr.Try(clock.Monotonic()) // by who had asked before
	shown("tried behind trouble", 1, 1, 0, 0)
	if proven, troubles := tr.Known(); proven != 1 || troubles != 1 || tr.May(clock.Monotonic()) || tr.Retry() == 0 || e.Why != uint32(depth.Broken) {
		t.Errorf("%d proven after %d troubles (%d); tried again at %s", proven, troubles, e.Why, tr.Retry())
	}
	tr.Cut(5)
	if e.Quota != 5 {
		t.Errorf("%d requests on a connection, of a pod that closed one after 5", e.Quota)
	}
	if tr.Carried(11); e.Quota != 0 {
		t.Errorf("%d requests on a connection, of a pod that has served 11", e.Quota)
	}
	tr.Configure(3)
	shown("as configured", 3, 3, 0, 0)
}

// TestFromAllSides: what is known stays one thing, whoever tells it.
func TestFromAllSides(t *testing.T) {
	var open atomic.Uint64
	open.Store(1)
	tr := made(&open)
	var wg sync.WaitGroup
	for _, does := range []func(){func() { tr.Try(clock.Monotonic()) }, tr.Proved, tr.Show, tr.Forget, func() { tr.Failed(depth.Stalled, io.EOF) }, func() { tr.Carried(9) }, func() { tr.Cut(3) }} {
		wg.Go(func() {
			for range 1000 {
				does()
			}
		})
	}
	wg.Wait()
	tr.Show()
	if e := tr.Entry; e.Proven > e.Depth || e.Troubles != 1000 || (e.Wanted > 0) != (e.Depth > e.Proven) {
		t.Errorf("%d proven, %d at most, %d proofs are wanted, %d troubles", e.Proven, e.Depth, e.Wanted, e.Troubles)
	}
}
