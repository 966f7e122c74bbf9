package mapmem

import (
	"fmt"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
	"eproxy/internal/config"
)

// Estimate is what the maps of a configuration take, bytes, nearly: at rest, and with all that the limits allow.
type Estimate struct{ Rest, Full uint64 }

// EstimateOf estimates the memory of a configuration's maps, on a machine with so many processors, without making any.
func EstimateOf(cfg *config.Config, processors int) (m Estimate, err error) {
	spec, err := bpf.LoadEproxy()
	if err != nil {
		return m, fmt.Errorf("read BPF object: %w", err)
	}
	sizes := Sizes(cfg)
	for name, s := range spec.Maps {
		n := s.MaxEntries
		if size, ok := sizes[name]; ok {
			n = size
		}
		rest, grown := mapMemory(s, uint64(n), uint64(processors))
		m.Rest += rest
		m.Full += rest + grown
	}
	return m, nil
}

// Of an element of a hash, and of a bucket, beside key and value (kernel/bpf/hashtab.c).
const (
	hashElement = 56
	hashBucket  = 16
)

// mapMemory is what a map of n entries takes at once, and what more as it fills.
func mapMemory(s *ebpf.MapSpec, n, processors uint64) (rest, grown uint64) {
	value := padded(s.ValueSize)
	switch s.Type {
	case ebpf.PerCPUArray:
		return n * value * processors, 0
	case ebpf.ArrayOfMaps:
		each, _ := mapMemory(s.InnerMap, chunk.Size, processors)
		return n * 8, n * each
	case ebpf.RingBuf:
		return n, 0
	case ebpf.Hash, ebpf.LRUHash, ebpf.SockHash:
		elements := n * (padded(s.KeySize) + value + hashElement)
		buckets := uint64(hashBucket)
		for buckets < n*hashBucket {
			buckets *= 2
		}
		if s.Type == ebpf.LRUHash {
			return buckets + elements, 0
		}
		return buckets, elements
	}
	return n * value, 0
}

func padded(n uint32) uint64 { return (uint64(n) + 7) &^ 7 }
