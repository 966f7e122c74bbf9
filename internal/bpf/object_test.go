package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// TestChoose: the object with may_goto is chosen exactly where the kernel takes it.
func TestChoose(t *testing.T) {
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := MayGoto.Load()
	if err != nil {
		t.Fatal(err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err == nil {
		defer coll.Close()
	}
	if chosen := Choose().Name; (chosen == MayGoto.Name) != (err == nil) {
		t.Errorf("%s is chosen; loading the one with may_goto: %v", chosen, err)
	}
}
