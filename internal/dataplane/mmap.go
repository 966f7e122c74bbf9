package dataplane

import (
	"fmt"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// mapSlice maps a BPF_F_MMAPABLE array into memory. The slice shares memory
// with the programs: fields that both sides write are accessed atomically.
func mapSlice[T any](p *Plane, m *ebpf.Map) ([]T, error) {
	var zero T
	if size := unsafe.Sizeof(zero); uint32(size) != m.ValueSize() || size%8 != 0 {
		return nil, fmt.Errorf("map %s: values of %d bytes cannot be mapped as %d", m.String(), m.ValueSize(), size)
	}
	page := os.Getpagesize()
	n := int(m.MaxEntries()) * int(m.ValueSize())
	n = (n + page - 1) / page * page
	mem, err := unix.Mmap(m.FD(), 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s into memory: %w", m.String(), err)
	}
	p.unmap = append(p.unmap, func() error { return unix.Munmap(mem) })
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[0])), m.MaxEntries()), nil
}
