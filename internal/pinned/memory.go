package pinned

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"

	"eproxy/internal/pindir"
)

// MapMemory is what the kernel charges for a map.
type MapMemory struct {
	Name  string // as the kernel has it: the first 15 bytes of that in the sources
	Bytes uint64 // memlock in fdinfo: an estimate of the kernel's
}

// Memory is that of all maps that the pinned programs use, by map.
func (m *Maps) Memory() ([]MapMemory, error) {
	entries, err := os.ReadDir(filepath.Join(m.dir, "progs"))
	if err != nil {
		return nil, fmt.Errorf("list pinned programs: %w", err)
	}
	var ids []ebpf.MapID
	for _, e := range entries {
		used, err := mapsOfProgram(pindir.Path(m.dir, "progs", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read pinned program %s: %w", e.Name(), err)
		}
		ids = append(ids, used...)
	}
	return MemoryOf(ids)
}

func mapsOfProgram(path string) ([]ebpf.MapID, error) {
	prog, err := ebpf.LoadPinnedProgram(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return nil, err
	}
	ids, ok := info.MapIDs()
	if !ok {
		return nil, errors.New("the kernel does not tell its maps")
	}
	return ids, nil
}

// MemoryOf is that of maps and of those inside them, each once.
func MemoryOf(ids []ebpf.MapID) ([]MapMemory, error) {
	var out []MapMemory
	seen := make(map[ebpf.MapID]bool)
	for len(ids) > 0 {
		id := ids[0]
		ids = ids[1:]
		if seen[id] {
			continue
		}
		seen[id] = true
		m, inner, err := readMap(id)
		if errors.Is(err, os.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("map %d: %w", id, err)
		}
		out, ids = append(out, m), append(ids, inner...)
	}
	return out, nil
}

// readMap reads a map, and says which are inside it.
func readMap(id ebpf.MapID) (out MapMemory, inner []ebpf.MapID, err error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return out, nil, err
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return out, nil, err
	}
	bytes, ok := info.Memlock()
	if !ok {
		return out, nil, errors.New("the kernel does not tell its memory")
	}
	out = MapMemory{info.Name, bytes}
	if m.Type() != ebpf.ArrayOfMaps && m.Type() != ebpf.HashOfMaps {
		return out, nil, nil
	}
	key := make([]byte, m.KeySize())
	var in ebpf.MapID
	for it := m.Iterate(); ; {
		if !it.Next(&key, &in) {
			return out, inner, it.Err()
		}
		inner = append(inner, in)
	}
}
