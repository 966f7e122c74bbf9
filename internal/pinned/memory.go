package pinned

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"

	"eproxy/internal/pindir"
)

// MapMemory is what the kernel charges for a map: memlock in fdinfo, which is its own estimate.
type MapMemory struct {
	Name  string
	Bytes uint64
}

// Memory is that of the pinned maps, by the names of the pins; an array in chunks has that of its chunks.
func (m *Maps) Memory() ([]MapMemory, error) {
	entries, err := os.ReadDir(filepath.Join(m.dir, "maps"))
	if err != nil {
		return nil, fmt.Errorf("list pinned maps: %w", err)
	}
	var out []MapMemory
	for _, e := range entries { // by name, so that chunks, which have a dash and a number behind it, follow their array
		bytes, err := memoryOfPin(pindir.Path(m.dir, "maps", e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("memory of pinned map %s: %w", e.Name(), err)
		}
		name, _, _ := strings.Cut(e.Name(), "-")
		if last := len(out) - 1; last >= 0 && out[last].Name == name {
			out[last].Bytes += bytes
			continue
		}
		out = append(out, MapMemory{name, bytes})
	}
	return out, nil
}

func memoryOfPin(path string) (uint64, error) {
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if err != nil {
		return 0, err
	}
	defer m.Close()
	own, err := readMap(m)
	return own.Bytes, err
}

// MemoryOf is that of maps and of those inside them, each once. Names are the kernel's, of at most 15 bytes.
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
		m, inner, err := readMapID(id)
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

func readMapID(id ebpf.MapID) (out MapMemory, inner []ebpf.MapID, err error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return out, nil, err
	}
	defer m.Close()
	if out, err = readMap(m); err != nil || m.Type() != ebpf.ArrayOfMaps && m.Type() != ebpf.HashOfMaps {
		return out, nil, err
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

func readMap(m *ebpf.Map) (MapMemory, error) {
	info, err := m.Info()
	if err != nil {
		return MapMemory{}, err
	}
	bytes, ok := info.Memlock()
	if !ok {
		return MapMemory{}, errors.New("the kernel does not tell its memory")
	}
	return MapMemory{info.Name, bytes}, nil
}
