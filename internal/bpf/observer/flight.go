package observer

import "fmt"

// As in bpf/observe/abi.h.
const (
	nowBits  = 20
	unitBits = 10
)

// InFlight are the requests in flight to a pod at a time: all, and those of the marks that are in flight with their mark.
type InFlight struct {
	All    Load
	Marked [2]Load
}

// Load is how many requests are in flight, and the integral of that, modulo IntegralBits.
type Load struct {
	Now      int32
	Integral uint64 // nanoseconds
}

// IntegralBits is how many bits of an integral are known, the low ones.
const IntegralBits = 64 - nowBits + unitBits

// At is what the words say at a time of CLOCK_MONOTONIC, in nanoseconds.
func (f *ObserveObserveFlight) At(ns uint64) (x InFlight) {
	x.All = loadOf(f.All, ns)
	for i, w := range f.Marked {
		x.Marked[i] = loadOf(w, ns)
	}
	return x
}

func loadOf(word, ns uint64) Load {
	now := int32(word<<(32-nowBits)) >> (32 - nowBits)
	units := (word-uint64(int64(now)))>>nowBits + uint64(int64(now))*(ns>>unitBits)
	return Load{Now: now, Integral: units << (64 - IntegralBits + unitBits) >> (64 - IntegralBits)}
}

// Since is by how much an integral has grown; 0 where it seems to have shrunk, which it can by what began or was over in the
// moment between the reading of its word and the reading of the clock.
func Since(before, now uint64) uint64 {
	return uint64(max(0, int64((now-before)<<(64-IntegralBits))>>(64-IntegralBits)))
}

// ObservePorts has the programs look at these ports only, as packets have them.
func (o *ObserveObjects) ObservePorts(ports ...uint16) error {
	bits := make([]uint64, 65536/64)
	for _, p := range ports {
		bits[p/64] |= 1 << (p % 64)
	}
	if err := o.ObservedPorts.Set(bits); err != nil {
		return fmt.Errorf("set the ports that are observed: %w", err)
	}
	return nil
}
