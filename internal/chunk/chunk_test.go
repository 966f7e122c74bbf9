package chunk

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"eproxy/test/lib/bpffs"
)

// pinned is the path for pins on a bpf file system of the test's own.
func pinned(t *testing.T) string { return filepath.Join(bpffs.Mount(t), "numbers") }

// numbers is an array of so many chunks, pinned.
func numbers(t *testing.T, pin string, chunks uint32) (*ebpf.Map, *Array) {
	t.Helper()
	spec := &ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: chunks,
		InnerMap: &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: Size, Flags: unix.BPF_F_MMAPABLE}}
	outer, err := ebpf.NewMap(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outer.Close() })
	if err := outer.Pin(pin); err != nil {
		t.Fatal(err)
	}
	return outer, New(outer, spec, pin)
}

// TestMemoryFollowsUse: an entry is there once it was asked for, with its chunk and no
// other, for the owner, for the programs, and for who has opened the pins before.
func TestMemoryFollowsUse(t *testing.T) {
	pin := pinned(t)
	outer, a := numbers(t, pin, 3)
	mem := Mapped[uint64](a)
	defer mem.Close()
	reader, err := Open(pin, false)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	const index = Size + 7
	var v uint64
	pass := reader.Pass()
	for _, look := range []func(uint32, any, ebpf.MapLookupFlags) error{reader.Lookup, pass.Lookup} {
		if err := look(index, &v, 0); !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Fatalf("reading an entry that is not there: %v", err)
		}
	}
	if err := a.Update(index, uint64(1), ebpf.UpdateAny); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Fatalf("writing an entry that is not there: %v", err)
	}
	var grown sync.WaitGroup
	for range 8 { // whoever comes second must not replace what the first may have written to
		grown.Go(func() {
			if err := a.Grow(index); err != nil {
				t.Error(err)
			}
		})
	}
	grown.Wait()
	*mem.At(index) = 42
	for i, look := range []func(uint32, any, ebpf.MapLookupFlags) error{a.Lookup, reader.Lookup, reader.Pass().Lookup} {
		if err := look(index, &v, 0); err != nil || v != 42 {
			t.Errorf("reader %d: %d, %v", i, v, err)
		}
	}
	for _, i := range []uint32{index, 3 * Size} { // asked before, and beyond the array
		if err := pass.Lookup(i, &v, 0); !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Errorf("a pass that has begun before, entry %d: %v", i, err)
		}
	}
	var id uint32
	for n := range uint32(3) {
		if there := outer.Lookup(n, &id) == nil; there != (n == 1) {
			t.Errorf("chunk %d is there for the programs: %v", n, there)
		}
	}
	if err := a.Grow(index + 1); err != nil || *mem.At(index) != 42 {
		t.Errorf("growing where there is memory: %v, the entry is %d", err, *mem.At(index))
	}
	if err := a.Grow(3 * Size); !errors.Is(err, ebpf.ErrKeyNotExist) {
		t.Errorf("an entry beyond the array: %v", err)
	}
}

// TestNoMemory: what cannot be made leaves nothing behind, and can be tried again.
func TestNoMemory(t *testing.T) {
	pin := pinned(t)
	_, a := numbers(t, pin, 2)
	a.mapped = func(uint32, *ebpf.Map) error { return unix.ENOMEM }
	if err := a.Grow(0); !errors.Is(err, unix.ENOMEM) {
		t.Fatalf("%v, want ENOMEM", err)
	}
	if _, err := os.Lstat(pin + "-0"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a pin is left: %v", err)
	}
	a.mapped = nil
	if err := a.Grow(0); err != nil {
		t.Error(err)
	}
	a.Close()
}

// TestChunks counts them.
func TestChunks(t *testing.T) {
	for entries, want := range map[uint32]uint32{0: 0, 1: 1, Size: 1, Size + 1: 2, 10 * Size: 10} {
		if got := Chunks(entries); got != want {
			t.Errorf("%d entries: %d chunks, want %d", entries, got, want)
		}
	}
}
