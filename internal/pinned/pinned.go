// Package pinned reads the data plane's pinned maps. It works with the loader
// dead.
package pinned

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
	"eproxy/internal/counters"
	"eproxy/internal/pindir"
	"eproxy/internal/podgro"
)

// ErrNotLoaded means that there are no pins.
var ErrNotLoaded = errors.New("eproxy is not loaded")

// Maps are the opened maps.
type Maps struct {
	dir   string
	maps  map[string]*ebpf.Map
	slots uint32 // conn indexes below this are slots

	conns, devices, slotParts, routeCounters, podCounters, queues *chunk.Array
}

// Open opens the maps pinned under dir, if this program can read them.
func Open(dir string) (*Maps, error) {
	if err := readable(dir); err != nil {
		return nil, err
	}
	m := &Maps{dir: dir, maps: make(map[string]*ebpf.Map)}
	for _, name := range []string{"pods", "functions", "routes", "nodes", "edges",
		"settings", "grants", "reasons", "route_labels", "pod_labels", "route_names", "function_names", "pod_reasons", podgro.MapName} {
		x, err := ebpf.LoadPinnedMap(pindir.Path(dir, "maps", name), &ebpf.LoadPinOptions{ReadOnly: true})
		if errors.Is(err, fs.ErrNotExist) {
			m.Close()
			return nil, fmt.Errorf("%w: no pins under %s; start it with loader run", ErrNotLoaded, dir)
		}
		if err != nil {
			m.Close()
			return nil, fmt.Errorf("open pinned map %s: %w", name, err)
		}
		m.maps[name] = x
	}
	if err := m.openArrays(); err != nil {
		m.Close()
		return nil, err
	}
	m.slots = m.slotParts.Entries()
	return m, nil
}

// openArrays opens the arrays in chunks.
func (m *Maps) openArrays() (err error) {
	for name, to := range map[string]**chunk.Array{"conns": &m.conns, "devices": &m.devices, "slots": &m.slotParts, "route_counters": &m.routeCounters, "pod_counters": &m.podCounters, "queues": &m.queues} {
		if *to, err = chunk.Open(pindir.Path(m.dir, "maps", name), name == "conns"); err != nil {
			return fmt.Errorf("open pinned map %s: %w", name, err)
		}
	}
	return nil
}

// readable says whether dir holds pins of this program's ABI version.
func readable(dir string) error {
	info, err := pindir.Inspect(dir)
	switch {
	case err != nil:
		return err
	case info.State != pindir.Ours:
		return fmt.Errorf("%w: no pins under %s; start it with loader run", ErrNotLoaded, dir)
	case info.Version != abi.AbiVersion:
		return fmt.Errorf("pins under %s are of ABI version %d and this program reads %d: use the one that came with the loader", dir, info.Version, abi.AbiVersion)
	}
	return nil
}

// Close closes the maps.
func (m *Maps) Close() {
	for _, x := range m.maps {
		_ = x.Close()
	}
	for _, x := range []*chunk.Array{m.conns, m.devices, m.slotParts, m.routeCounters, m.podCounters, m.queues} {
		if x != nil {
			x.Close()
		}
	}
}

// Settings are the roots of the automaton and the switches.
func (m *Maps) Settings() (bpf.EproxyGlobals, error) {
	var g bpf.EproxyGlobals
	err := m.maps["settings"].Lookup(uint32(0), &g)
	return g, err
}

// current says whether an index is in the half of a map that the present roots
// use; a reload fills the other half before it switches.
func (m *Maps) current(name string, index uint32) (bool, error) {
	g, err := m.Settings()
	if err != nil {
		return false, fmt.Errorf("read settings: %w", err)
	}
	upper := func(name string, i uint32) bool { return i >= m.maps[name].MaxEntries()/2 }
	return upper("nodes", g.Root) == upper(name, index), nil
}

func (m *Maps) counters() counters.Maps {
	return counters.Maps{RouteLabels: m.maps["route_labels"], RouteCounters: m.routeCounters,
		PodLabels: m.maps["pod_labels"], PodCounters: m.podCounters}
}

// Totals are all counts that the maps hold, by label set.
func (m *Maps) Totals() (counters.Totals, error) { return m.counters().Totals() }

// Reasons are the counters by hook and reason.
func (m *Maps) Reasons() ([][]uint64, error) {
	hooks, n := int(bpf.EproxyHookHOOK_COUNT), int(bpf.EproxyReasonREASON_COUNT)
	out := make([][]uint64, hooks)
	for h := range hooks {
		out[h] = make([]uint64, n)
		for r := range n {
			var per []uint64
			if err := m.maps["reasons"].Lookup(uint32(h*256+r), &per); err != nil {
				return nil, fmt.Errorf("read reasons: %w", err)
			}
			out[h][r] = sum(per)
		}
	}
	return out, nil
}

func addrPort(words [4]uint32, port uint16) netip.AddrPort {
	var b [16]byte
	for i, w := range words {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	var p [2]byte
	binary.NativeEndian.PutUint16(p[:], port)
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), binary.BigEndian.Uint16(p[:]))
}
