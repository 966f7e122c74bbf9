package chunk

import "github.com/cilium/ebpf"

// Pass is one reading of many entries of an array, by one goroutine: whether a chunk is there that
// was not is asked once.
type Pass struct {
	array  *Array
	absent []bool
}

// Pass begins a reading.
func (a *Array) Pass() *Pass { return &Pass{a, make([]bool, len(a.chunks))} }

// Lookup is Array.Lookup.
func (p *Pass) Lookup(index uint32, value any, flags ebpf.MapLookupFlags) error {
	n := index / Size
	if n >= uint32(len(p.absent)) || p.absent[n] {
		return ebpf.ErrKeyNotExist
	}
	m := p.array.at(index)
	if m == nil {
		p.absent[n] = true
		return ebpf.ErrKeyNotExist
	}
	return m.LookupWithFlags(index%Size, value, flags)
}
