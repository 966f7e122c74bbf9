package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// Knob is the value of a variable of bpf/include/config.h in a specification:
// its default there, unless it was set.
func Knob(spec *ebpf.CollectionSpec, name string) (uint32, error) {
	v, ok := spec.Variables[name]
	if !ok {
		return 0, fmt.Errorf("BPF object has no variable %s", name)
	}
	var n uint32
	if err := v.Get(&n); err != nil {
		return 0, fmt.Errorf("read %s of the BPF object: %w", name, err)
	}
	return n, nil
}
