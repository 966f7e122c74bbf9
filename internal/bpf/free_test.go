package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
)

// TestFreeOnlyItsOwnGeneration: a connection that is forgotten late takes nothing from
// whoever has its entry by then.
func TestFreeOnlyItsOwnGeneration(t *testing.T) {
	r := newRig(t, false)
	free := func(gen uint32) uint32 {
		args := EproxyFreeArgs{Conn: rigDevice, Gen: gen}
		if _, err := r.objs.ConnFree.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
			t.Fatal(err)
		}
		return args.Ok
	}
	r.change(rigDevice, func(c *EproxyConn) { c.Gen = 7 })
	for _, gen := range []uint32{0, 6, 8} {
		if free(gen) != 0 || r.readConn(rigDevice).State != uint16(EproxyConnStateCONN_OPEN) {
			t.Errorf("generation %d freed", gen)
		}
	}
	if free(7) != 1 {
		t.Error("not freed")
	}
	if c := r.readConn(rigDevice); c.State != uint16(EproxyConnStateCONN_FREE) || c.Gen != 8 {
		t.Errorf("state %d, generation %d", c.State, c.Gen)
	}
	if free(7) != 0 {
		t.Error("freed twice")
	}
}
