package bpf

import (
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf"
)

// Knob is the value of a variable of bpf/mech/config.h in a specification:
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

// PodShift is knob_pod_shift where there may be so many pods: slot n of a pod has the conn
// index of its first slot, which is the pod's own, and n<<PodShift.
func PodShift(pods uint32) uint32 { return uint32(bits.Len32(pods - 1)) }
