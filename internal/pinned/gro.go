package pinned

import (
	"cmp"
	"fmt"
	"slices"

	"eproxy/internal/bpf"
	"eproxy/internal/podgro"
)

// GRO is an interface at whose far end a loader has switched GRO on.
type GRO struct {
	Ifindex  int
	Declined bool // it was switched off again there since
}

// GRO are the interfaces at whose far ends a loader has switched GRO on, by their
// numbers.
func (m *Maps) GRO() ([]GRO, error) {
	var out []GRO
	var key uint32
	var note bpf.EproxyPodGro
	it := m.maps[podgro.MapName].Iterate()
	for it.Next(&key, &note) {
		out = append(out, GRO{int(key), note.Declined != 0})
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read where GRO was switched on: %w", err)
	}
	slices.SortFunc(out, func(a, b GRO) int { return cmp.Compare(a.Ifindex, b.Ifindex) })
	return out, nil
}
