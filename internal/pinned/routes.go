package pinned

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
	"eproxy/internal/counters"
)

// Route is one installed route.
type Route struct {
	Index    uint32
	Filter   string
	Function string
	Fallback bool                // served by the fallback
	Stats    counters.RouteStats // since its counters exist, also before the last reload
}

// Routes are the installed routes, in the order of the configuration.
func (m *Maps) Routes() ([]Route, error) {
	names, err := m.functionNames()
	if err != nil {
		return nil, err
	}
	var out []Route
	var k uint32
	var info bpf.EproxyRouteInfo
	it := m.maps["route_names"].Iterate()
	for it.Next(&k, &info) {
		if now, err := m.current("routes", k); err != nil {
			return nil, err
		} else if !now {
			continue
		}
		var r bpf.EproxyRoute
		if err := m.maps["routes"].Lookup(k, &r); err != nil {
			return nil, fmt.Errorf("read route %d: %w", k, err)
		}
		var fn bpf.EproxyFunction
		if err := m.maps["functions"].Lookup(r.Function, &fn); err != nil {
			return nil, fmt.Errorf("read function %d: %w", r.Function, err)
		}
		st, err := m.counters().ReadRoute(r.Counter)
		if err != nil {
			return nil, err
		}
		out = append(out, Route{Index: k, Filter: text(info.Filter[:], info.Len), Function: names[info.Function],
			Fallback: fn.PodCount == 0 || info.Flags&uint32(bpf.EproxyRouteFlagROUTE_FALLBACK) != 0, Stats: st})
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	sortBy(out, func(r Route) uint32 { return r.Index })
	return out, nil
}

// Follow is what the kernel's automaton answers for a topic name: a route index.
func (m *Maps) Follow(levels []string, dollar bool) (route int32, err error) {
	g, err := m.Settings()
	if err != nil {
		return -1, err
	}
	at := g.Root
	if dollar {
		at = g.RootDollar
	}
	for _, l := range levels {
		var child uint32
		k := bpf.EproxyEdgeKey{Node: at, Len: uint32(len(l))}
		if copy(k.Level[:], l) < len(l) {
			return -1, nil
		}
		var n bpf.EproxyNode
		if err := m.maps["nodes"].Lookup(at, &n); err != nil {
			return -1, err
		}
		switch err := m.maps["edges"].Lookup(&k, &child); {
		case err == nil:
			at = child
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			return -1, err
		case n.Plus != ^uint32(0):
			at = n.Plus
		default:
			return n.Hash, nil
		}
	}
	var n bpf.EproxyNode
	err = m.maps["nodes"].Lookup(at, &n)
	return n.Exact, err
}
