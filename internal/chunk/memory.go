package chunk

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Memory is an Array of BPF_F_MMAPABLE chunks, mapped into memory that it shares
// with the programs: fields that both sides write are accessed atomically.
type Memory[T any] struct {
	*Array
	mem []atomic.Pointer[[Size]T]

	mu    sync.Mutex
	unmap []func() error
}

// Mapped has all chunks of an array mapped; before its first Grow.
func Mapped[T any](a *Array) *Memory[T] {
	m := &Memory[T]{Array: a, mem: make([]atomic.Pointer[[Size]T], len(a.chunks))}
	a.mapped = m.add
	return m
}

// add maps chunk n.
func (m *Memory[T]) add(n uint32, chunk *ebpf.Map) error {
	mem, unmap, err := Map[T](chunk)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.unmap = append(m.unmap, unmap)
	m.mu.Unlock()
	m.mem[n].Store((*[Size]T)(mem))
	return nil
}

// At is an entry for which Grow has succeeded.
func (m *Memory[T]) At(index uint32) *T { return &m.mem[index/Size].Load()[index%Size] }

// Close closes and unmaps all chunks. Nobody may use an entry any more.
func (m *Memory[T]) Close() {
	m.Array.Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, unmap := range m.unmap {
		_ = unmap()
	}
	m.unmap = nil
}

// Map maps a BPF_F_MMAPABLE array into memory, which it shares with the programs.
func Map[T any](m *ebpf.Map) (mem []T, unmap func() error, err error) {
	var zero T
	if size := unsafe.Sizeof(zero); uint32(size) != m.ValueSize() || size%8 != 0 {
		return nil, nil, fmt.Errorf("map %s: values of %d bytes cannot be mapped as %d", m.String(), m.ValueSize(), size)
	}
	page := os.Getpagesize()
	n := int(m.MaxEntries()) * int(m.ValueSize())
	n = (n + page - 1) / page * page
	raw, err := unix.Mmap(m.FD(), 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %s into memory: %w", m.String(), err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&raw[0])), m.MaxEntries()), func() error { return unix.Munmap(raw) }, nil
}
