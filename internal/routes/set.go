package routes

import (
	"fmt"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/request"
	"eproxy/internal/topic"
)

// Set is all routes and functions of one configuration, in one half of the maps.
type Set struct {
	half                                 uint32
	functions                            []*config.Function
	names                                map[string]uint32 // of the functions: their indexes
	queues                               []uint32          // of the functions
	routes                               []*config.Route
	counters                             []uint32 // of the routes
	firstNode, firstRoute, firstFunction uint32   // index of the half's first
	edges                                []bpf.EproxyEdgeKey
	replaced                             time.Time // when another came into use
	removed                              bool
}

// Function is the index of a function in the functions map; false if the set has none
// of that name.
func (s *Set) Function(name string) (index uint32, ok bool) {
	index, ok = s.names[name]
	return index, ok
}

// prefixTooLong says whether the kernel path cannot hold the function's request head.
func prefixTooLong(fn *config.Function) bool {
	return len(request.Prefix(fn)) > len(bpf.EproxyFunction{}.Prefix)
}

// writeFunction writes a function without pods. Nobody uses its entry yet.
func (t *Table) writeFunction(s *Set, fn *config.Function) {
	id, _ := s.Function(fn.Name)
	prefix := request.Prefix(fn)
	v := bpf.EproxyFunction{PrefixLen: uint32(len(prefix)), Queue: s.queues[id-s.firstFunction]}
	if fn.CloudEvents.FromPublisher {
		v.FromPublisher = 1
	}
	if fn.Tracing > 0 {
		v.Tracing = uint32(max(1, min(fn.Tracing*(1<<32), 1<<32-1)))
	}
	at, length := request.DefaultType(fn)
	v.ContentAt, v.ContentLen = uint32(at), uint32(length)
	if copy(v.Prefix[:], prefix) < len(prefix) {
		t.log.Warn("request head too long for the kernel path, served by the fallback", "function", fn.Name, "bytes", len(prefix))
		v.PrefixLen = uint32(len(v.Prefix)) + 1
	}
	t.functions[id] = v
	info := bpf.EproxyFunctionInfo{Concurrency: uint32(fn.Concurrency), TimeoutMs: uint32(fn.Timeout.Milliseconds())}
	info.NameLen = uint32(copy(info.Name[:], fn.Name))
	info.UrlLen = uint32(copy(info.Url[:], fn.URL.String()))
	if err := t.maps.FunctionNames.Put(id, &info); err != nil {
		t.log.Warn("function cannot be shown", "function", fn.Name, "error", err)
	}
}

// fallback says whether a route is the fallback's for what it is.
func (s *Set) fallback(r *config.Route) bool {
	if len(r.Functions) > 1 {
		return true
	}
	id, ok := s.Function(r.Functions[0])
	if !ok {
		return true
	}
	fn := s.functions[id-s.firstFunction]
	_, graftable := r.Graftable(fn)
	return !graftable || prefixTooLong(fn)
}

// writeRoutes writes the routes. Nobody uses their entries yet.
func (t *Table) writeRoutes(s *Set) error {
	for i, r := range s.routes {
		id := s.firstRoute + uint32(i)
		function, _ := s.Function(r.Functions[0])
		v := bpf.EproxyRoute{Function: function, Counter: s.counters[i]}
		if r.Ordered {
			v.Line = t.names.Route(r.Filter)
		}
		switch {
		case s.fallback(r):
			v.Flags = uint32(bpf.EproxyRouteFlagROUTE_FALLBACK)
		case r.AlsoBroker:
			v.Flags = uint32(bpf.EproxyRouteFlagROUTE_COPY)
		}
		if err := t.maps.Routes.Put(id, &v); err != nil {
			return fmt.Errorf("write route %s: %w", r.Filter, err)
		}
		info := bpf.EproxyRouteInfo{Function: v.Function, Flags: v.Flags}
		info.Len = uint32(copy(info.Filter[:], r.Filter))
		if err := t.maps.RouteNames.Put(id, &info); err != nil {
			t.log.Warn("route cannot be shown", "topic", r.Filter, "error", err)
		}
	}
	return nil
}

// writeAutomaton writes nodes and edges.
func (t *Table) writeAutomaton(s *Set, auto *topic.Automaton) error {
	route := func(r int32) int32 {
		if r < 0 {
			return -1
		}
		return r + int32(s.firstRoute)
	}
	keys := make([]uint32, len(auto.Nodes))
	values := make([]bpf.EproxyNode, len(auto.Nodes))
	for i, n := range auto.Nodes {
		keys[i] = s.firstNode + uint32(i)
		plus := n.Plus
		if plus != topic.None {
			plus += s.firstNode
		}
		values[i] = bpf.EproxyNode{Plus: plus, Exact: route(n.Exact), Hash: route(n.Hash)}
	}
	if _, err := t.maps.Nodes.BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("write routing nodes: %w", err)
	}
	children := make([]uint32, len(auto.Edges))
	s.edges = make([]bpf.EproxyEdgeKey, len(auto.Edges))
	for i, e := range auto.Edges {
		s.edges[i] = bpf.EproxyEdgeKey{Node: s.firstNode + e.Node, Len: uint32(len(e.Level))}
		copy(s.edges[i].Level[:], e.Level)
		children[i] = s.firstNode + e.Child
	}
	if len(s.edges) == 0 {
		return nil
	}
	if _, err := t.maps.Edges.BatchUpdate(s.edges, children, nil); err != nil {
		return fmt.Errorf("write routing edges: %w", err)
	}
	return nil
}

// discard removes what was written of a set that does not come into use. Edges of its
// that another set has not overwritten would be that one's.
func (t *Table) discard(s *Set) {
	for i := range s.edges {
		_ = t.maps.Edges.Delete(&s.edges[i]) // some were not written
	}
}

// remove empties the half of a set that was replaced; once.
func (t *Table) remove(s *Set) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || s.removed {
		return
	}
	s.removed = true
	if len(s.edges) > 0 {
		if _, err := t.maps.Edges.BatchDelete(s.edges, nil); err != nil {
			t.log.Warn("removing old routing edges", "error", err)
		}
	}
	for i := range s.routes {
		_ = t.maps.RouteNames.Delete(s.firstRoute + uint32(i))
	}
	for i := range s.functions {
		_ = t.maps.FunctionNames.Delete(s.firstFunction + uint32(i))
	}
}
