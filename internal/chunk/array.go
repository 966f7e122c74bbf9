package chunk

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
)

// Size is the number of entries in a chunk.
const Size = abi.ChunkSize

// Chunks is how many chunks hold so many entries.
func Chunks(entries uint32) uint32 { return (entries + Size - 1) / Size }

// Array is an array in chunks. Its entries are named by their index in the whole.
type Array struct {
	outer  *ebpf.Map
	spec   *ebpf.MapSpec // of a chunk; nil: opened for reading
	pin    string        // chunk n is pinned as this and "-n"
	locks  bool          // opened for reading under the entries' locks
	mapped func(n uint32, m *ebpf.Map) error

	mu     sync.Mutex // held while a chunk is made
	chunks []atomic.Pointer[ebpf.Map]
}

// New makes the array of an outer map without chunks. spec is its own, pin the
// path that it is pinned under, or nothing.
func New(outer *ebpf.Map, spec *ebpf.MapSpec, pin string) *Array {
	return &Array{outer: outer, spec: spec.InnerMap, pin: pin, chunks: make([]atomic.Pointer[ebpf.Map], outer.MaxEntries())}
}

// Entries is how many entries there can be.
func (a *Array) Entries() uint32 { return uint32(len(a.chunks)) * Size }

// Grow sees to it that an entry is there, zero if it was not. The programs find
// it from then on.
func (a *Array) Grow(index uint32) error {
	n := index / Size
	if n >= uint32(len(a.chunks)) {
		return fmt.Errorf("%s has no entry %d: %w", a.outer, index, ebpf.ErrKeyNotExist)
	}
	if a.chunks[n].Load() != nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.chunks[n].Load() != nil {
		return nil
	}
	m, err := a.make(n)
	if err != nil {
		return fmt.Errorf("more memory for %s: %w", a.outer, err)
	}
	a.chunks[n].Store(m)
	return nil
}

// make makes chunk n and shows it to the programs last.
func (a *Array) make(n uint32) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(a.spec)
	if err != nil {
		return nil, err
	}
	if err := a.publish(n, m); err != nil {
		_ = m.Unpin()
		_ = m.Close()
		return nil, err
	}
	return m, nil
}

func (a *Array) publish(n uint32, m *ebpf.Map) error {
	if a.pin != "" {
		if err := m.Pin(chunkPin(a.pin, n)); err != nil {
			return err
		}
	}
	if a.mapped != nil {
		if err := a.mapped(n, m); err != nil {
			return err
		}
	}
	return a.outer.Put(n, m)
}

func chunkPin(pin string, n uint32) string { return fmt.Sprintf("%s-%d", pin, n) }

// at is the chunk of an entry; nil if it is not there.
func (a *Array) at(index uint32) *ebpf.Map {
	n := index / Size
	if n >= uint32(len(a.chunks)) {
		return nil
	}
	if m := a.chunks[n].Load(); m != nil || a.spec != nil {
		return m
	}
	return a.open(n)
}

// open opens chunk n, if it has come since the array was opened for reading; else nil. To ask the outer map is far cheaper than to
// look for a pin that is not there.
func (a *Array) open(n uint32) *ebpf.Map {
	var id uint32
	if a.outer.Lookup(n, &id) != nil {
		return nil
	}
	m, err := ebpf.LoadPinnedMap(chunkPin(a.pin, n), &ebpf.LoadPinOptions{ReadOnly: !a.locks})
	if err != nil {
		return nil
	}
	if !a.chunks[n].CompareAndSwap(nil, m) { // another goroutine has opened it
		_ = m.Close()
	}
	return a.chunks[n].Load()
}

// Lookup reads an entry; ebpf.ErrKeyNotExist where there is no chunk.
func (a *Array) Lookup(index uint32, value any, flags ebpf.MapLookupFlags) error {
	if m := a.at(index); m != nil {
		return m.LookupWithFlags(index%Size, value, flags)
	}
	return ebpf.ErrKeyNotExist
}

// Update replaces an entry; ebpf.ErrKeyNotExist where there is no chunk.
func (a *Array) Update(index uint32, value any, flags ebpf.MapUpdateFlags) error {
	if m := a.at(index); m != nil {
		return m.Update(index%Size, value, flags)
	}
	return ebpf.ErrKeyNotExist
}

// Close closes all chunks; the programs keep them.
func (a *Array) Close() {
	for i := range a.chunks {
		if m := a.chunks[i].Swap(nil); m != nil {
			_ = m.Close()
		}
	}
	if a.spec == nil {
		_ = a.outer.Close()
	}
}

// Open opens an array that is pinned as pin for reading. With locks its entries have
// a spin lock, under which they are read: the kernel demands the right to write for that.
func Open(pin string, locks bool) (*Array, error) {
	outer, err := ebpf.LoadPinnedMap(pin, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return &Array{outer: outer, pin: pin, locks: locks, chunks: make([]atomic.Pointer[ebpf.Map], outer.MaxEntries())}, nil
}
