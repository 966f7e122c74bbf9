package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/counters"
	"eproxy/internal/pool"
	"eproxy/internal/reach"
	"eproxy/internal/request"
	"eproxy/internal/topic"
)

// grace is how long the programs may still use what a reload replaced: far
// longer than any run of a program.
const grace = 100 * time.Millisecond

// errEnded means that the data plane is being closed.
var errEnded = errors.New("the data plane is being closed")

// routeTable is what is installed in one half of the functions, routes and
// nodes maps. A reload fills the other half and switches the roots.
type routeTable struct {
	half      uint32
	cfg       *config.Config
	routes    []*config.Route // by index, less the half's first
	counters  []uint32        // of the routes
	short     []podID         // pods that the kernel path reaches and has no entry for
	firstNode uint32
	nodes     uint32
	firstID   uint32 // of routes
	firstFn   uint32
	functions []*config.Function
	grafted   map[string]bool // functions with a pod that has slots
	edges     []bpf.EproxyEdgeKey
	replaced  time.Time // when a reload switched to the other half
	removed   bool
}

// Install puts a configuration's functions, pods and routes in place. The
// switch is one store: a message sees the old routes or the new, never a mix.
// before is called when nothing can be refused any more, and nothing has changed.
// An error means that nothing has changed.
func (p *Plane) Install(cfg *config.Config, useXDP bool, before func()) error {
	p.installing.Lock()
	defer p.installing.Unlock()
	t, err := p.stage(cfg)
	if err != nil {
		return err
	}
	before()
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.unseen)
	return p.serve(t, useXDP)
}

// InstallPods is Install of the configuration that is installed with other pods:
// what was found out about those that stay is still true.
func (p *Plane) InstallPods(cfg *config.Config) error {
	p.installing.Lock()
	defer p.installing.Unlock()
	return p.installAgain(cfg)
}

// installAgain is Install of the configuration that is installed, when the ways to
// its pods have changed; p.installing is held.
func (p *Plane) installAgain(cfg *config.Config) error {
	t, err := p.stage(cfg)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serve(t, p.node.XDP)
}

// stage fills the half of the maps that no message sees with a configuration's
// routes, and allocates their counters. What can be refused of a configuration is
// refused here, and nothing that is in use has changed. p.installing is held.
func (p *Plane) stage(cfg *config.Config) (*routeTable, error) {
	p.mu.Lock()
	stale := p.oldRoutes
	p.mu.Unlock()
	if stale != nil { // its half is filled now, and may still be in use or not be empty
		time.Sleep(time.Until(stale.replaced.Add(grace)))
		p.removeEdges(stale)
	}
	p.awaitLeaving()
	if err := p.makeRoom(cfg); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.retainCounts()
	half := uint32(0)
	if p.routes != nil {
		half = 1 - p.routes.half
	}
	t := &routeTable{
		half: half, cfg: cfg, functions: cfg.Functions, grafted: make(map[string]bool),
		firstNode: half * p.objs.Nodes.MaxEntries() / 2,
		firstID:   half * p.objs.Routes.MaxEntries() / 2,
		firstFn:   half * p.objs.Functions.MaxEntries() / 2,
	}
	if n := p.objs.Routes.MaxEntries() / 2; uint32(len(cfg.Routes)) > n {
		return nil, fmt.Errorf("%d routes, but limits.routes is %d", len(cfg.Routes), n)
	}
	if deepest(cfg) > p.pipeline {
		return nil, fmt.Errorf("a function's pipeline is deeper than any was at the start (%d): that needs a restart", p.pipeline)
	}
	auto, err := p.compile(cfg)
	if err != nil {
		return nil, err
	}
	for _, r := range cfg.Routes {
		counter, err := p.routeCounter(counters.Route{Filter: r.Filter, Function: r.Functions[0]})
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", r.Filter, err)
		}
		t.counters = append(t.counters, counter)
	}
	if err := p.installAutomaton(t, auto); err != nil {
		return nil, err
	}
	return t, nil
}

// serve brings a staged configuration's pods into service and switches to its
// routes. Only entries of arrays are written, which cannot fail for what is in the
// configuration. After Close has begun it is errEnded: pods that were added then would
// outlive their memory. p.installing and p.mu are held.
func (p *Plane) serve(t *routeTable, useXDP bool) error {
	if p.ctx.Err() != nil {
		return errEnded
	}
	defer p.retainCounts()
	cfg := t.cfg
	p.inflightMax.Store(uint32(cfg.Limits.InflightPerClient))
	p.node = reach.Node{Interfaces: cfg.Interfaces, XDP: useXDP}
	functions, err := p.installFunctions(t)
	if err != nil {
		return err
	}
	if err := p.installRoutes(t, functions); err != nil {
		return err
	}
	p.reloadOwn(cfg) // first: what the fallback has under way counts when the programs begin
	root, dollar := t.firstNode+topic.RootNormal, t.firstNode+topic.RootDollar
	p.switchRoots(root, dollar)
	old := p.routes
	p.oldRoutes, p.routes = old, t
	p.dropPods(cfg)
	p.noteXDPTargets()
	p.placeAgain(t.short)
	if err := p.writeReasons(t); err != nil {
		p.log.Warn("reasons of pods cannot be shown", "error", err)
	}
	if old != nil {
		old.replaced = time.Now()
		time.AfterFunc(grace, func() { p.removeEdges(old) })
	}
	return nil
}

// installFunctions brings pods into service and writes the functions' prefixes.
func (p *Plane) installFunctions(t *routeTable) (map[string]uint32, error) {
	index := make(map[string]uint32)
	for i, fn := range t.cfg.Functions {
		id := t.firstFn + uint32(i)
		index[fn.Name] = id
		prefix := request.Prefix(fn)
		v := bpf.EproxyFunction{PrefixLen: uint32(len(prefix)), FromPublisher: flag(fn.CloudEvents.FromPublisher)}
		if copy(v.Prefix[:], prefix) < len(prefix) {
			p.log.Warn("request head too long for the kernel path, served by the fallback", "function", fn.Name, "bytes", len(prefix))
			v.PrefixLen = uint32(len(v.Prefix)) + 1
		}
		for _, addr := range fn.Pods {
			ps := p.place(t, fn, addr, v.PodCount)
			if ps == nil {
				continue
			}
			p.podMem[ps.index].Function = id
			v.Pods[v.PodCount] = ps.index
			v.PodCount++
		}
		t.grafted[fn.Name] = v.PodCount > 0
		if err := p.objs.Functions.Put(id, &v); err != nil {
			return nil, fmt.Errorf("write function %s: %w", fn.Name, err)
		}
		info := bpf.EproxyFunctionInfo{Concurrency: uint32(fn.Concurrency), TimeoutMs: uint32(fn.Timeout.Milliseconds())}
		info.NameLen = uint32(copy(info.Name[:], fn.Name))
		info.UrlLen = uint32(copy(info.Url[:], fn.URL.String()))
		if err := p.objs.FunctionNames.Put(id, &info); err != nil {
			p.log.Warn("function cannot be shown", "function", fn.Name, "error", err)
		}
	}
	return index, nil
}

// compile makes the automaton of the routes' filters, if half of the maps can
// hold it: the other half is the next reload's.
func (p *Plane) compile(cfg *config.Config) (*topic.Automaton, error) {
	filters := make([]string, len(cfg.Routes))
	for i, r := range cfg.Routes {
		filters[i] = r.Filter
	}
	auto, err := topic.Compile(filters, int(p.objs.Nodes.MaxEntries()/2))
	if err != nil {
		return nil, fmt.Errorf("compile routes: %w", err)
	}
	if most := int(p.objs.Edges.MaxEntries() / 2); len(auto.Edges) > most {
		return nil, fmt.Errorf("compile routes: filters are too intertwined: %d edges, the kernel path holds %d; use fewer '+' levels side by side", len(auto.Edges), most)
	}
	return auto, nil
}

// installRoutes writes the routes.
func (p *Plane) installRoutes(t *routeTable, functions map[string]uint32) error {
	t.routes = t.cfg.Routes
	for i, r := range t.cfg.Routes {
		id := t.firstID + uint32(i)
		v := bpf.EproxyRoute{Function: functions[r.Functions[0]], Counter: t.counters[i]}
		if len(r.Functions) > 1 || r.AlsoBroker || r.Ordered || prefixTooLong(t.cfg, r.Functions[0]) || !t.grafted[r.Functions[0]] {
			v.Flags = uint32(bpf.EproxyRouteFlagROUTE_FALLBACK)
		}
		if err := p.objs.Routes.Put(id, &v); err != nil {
			return fmt.Errorf("write route %s: %w", r.Filter, err)
		}
		info := bpf.EproxyRouteInfo{Function: v.Function, Flags: v.Flags}
		info.Len = uint32(copy(info.Filter[:], r.Filter))
		if err := p.objs.RouteNames.Put(id, &info); err != nil {
			p.log.Warn("route cannot be shown", "topic", r.Filter, "error", err)
		}
	}
	return nil
}

// installAutomaton writes nodes and edges into the table's half.
func (p *Plane) installAutomaton(t *routeTable, auto *topic.Automaton) error {
	t.nodes = uint32(len(auto.Nodes))
	route := func(r int32) int32 {
		if r < 0 {
			return -1
		}
		return r + int32(t.firstID)
	}
	keys := make([]uint32, len(auto.Nodes))
	values := make([]bpf.EproxyNode, len(auto.Nodes))
	for i, n := range auto.Nodes {
		keys[i] = t.firstNode + uint32(i)
		plus := n.Plus
		if plus != topic.None {
			plus += t.firstNode
		}
		values[i] = bpf.EproxyNode{Plus: plus, Exact: route(n.Exact), Hash: route(n.Hash)}
	}
	if _, err := p.objs.Nodes.BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("write routing nodes: %w", err)
	}
	children := make([]uint32, len(auto.Edges))
	t.edges = make([]bpf.EproxyEdgeKey, len(auto.Edges))
	for i, e := range auto.Edges {
		t.edges[i] = bpf.EproxyEdgeKey{Node: t.firstNode + e.Node, Len: uint32(len(e.Level))}
		copy(t.edges[i].Level[:], e.Level)
		children[i] = t.firstNode + e.Child
	}
	if len(t.edges) == 0 {
		return nil
	}
	if _, err := p.objs.Edges.BatchUpdate(t.edges, children, nil); err != nil {
		return fmt.Errorf("write routing edges: %w", err)
	}
	return nil
}

// switchRoots publishes an automaton: roots in one 64-bit store, then the
// epoch that invalidates the connections' cached topics.
func (p *Plane) switchRoots(root, dollar uint32) {
	storeRoots(p.globals, root, dollar)
	epoch := atomic.AddUint32(&p.globals.Epoch, 1)
	if epoch == 0 {
		atomic.StoreUint32(&p.globals.Epoch, 1)
	}
}

// reloadOwn tells the fallback's pool which pods there are, and which of them the
// programs use, too. p.mu is held.
func (p *Plane) reloadOwn(cfg *config.Config) {
	p.own.ReloadShared(cfg.Functions, func(function string, pod netip.AddrPort) pool.Shared {
		if ps := p.podKey[podID{function, pod}]; ps != nil {
			return ps
		}
		return nil
	})
	for _, fn := range cfg.Functions {
		for _, a := range fn.Pods {
			p.own.SetReachable(fn.Name, a, !p.paths[podID{fn.Name, a}].NoRoute)
		}
	}
}

// dropPods takes pods out of service that the configuration no longer names, and
// those that are reached in another way now. p.mu is held.
func (p *Plane) dropPods(cfg *config.Config) {
	wanted := make(map[podID]bool)
	for _, fn := range cfg.Functions {
		for _, a := range fn.Pods {
			wanted[podID{fn.Name, a}] = true
		}
	}
	for _, ps := range p.podByID {
		if !wanted[ps.id] || p.podKey[ps.id] != ps {
			p.removePod(ps)
		}
	}
	for id := range p.paths {
		if !wanted[id] {
			delete(p.paths, id)
			delete(p.found, id)
			delete(p.unseen, id)
		}
	}
}

// writeReasons shows why pods are not reached in the best way, without the
// loader. p.mu is held.
func (p *Plane) writeReasons(t *routeTable) error {
	m := p.objs.PodReasons
	var stale []bpf.EproxyPodKey
	var k bpf.EproxyPodKey
	var v bpf.EproxyPodReason
	it := m.Iterate()
	for it.Next(&k, &v) {
		stale = append(stale, k)
	}
	if err := it.Err(); err != nil {
		return err
	}
	for i, fn := range t.functions {
		for _, a := range fn.Pods {
			path := p.paths[podID{fn.Name, a}]
			if path.Reason == "" {
				continue
			}
			k := bpf.EproxyPodKey{Function: t.firstFn + uint32(i), Address: tupleOf(a, a).Local, Port: port(a.Port())}
			v := bpf.EproxyPodReason{}
			v.Len = uint32(copy(v.Text[:], path.Reason))
			if err := m.Put(&k, &v); err != nil {
				return err
			}
		}
	}
	for _, k := range stale { // of the other half of the functions: never one of those just written
		if err := m.Delete(&k); err != nil {
			return err
		}
	}
	return nil
}

// removeEdges empties the half of a table that was replaced; once.
func (p *Plane) removeEdges(t *routeTable) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil || t.removed {
		return
	}
	t.removed = true
	if len(t.edges) > 0 {
		if _, err := p.objs.Edges.BatchDelete(t.edges, nil); err != nil {
			p.log.Warn("removing old routing edges", "error", err)
		}
	}
	for i := range t.routes {
		_ = p.objs.RouteNames.Delete(t.firstID + uint32(i))
	}
	for i := range t.functions {
		_ = p.objs.FunctionNames.Delete(t.firstFn + uint32(i))
	}
}

// storeRoots writes both roots with one store, so that no message sees a mix.
func storeRoots(g *bpf.EproxyGlobals, root, dollar uint32) {
	var pair [8]byte
	binary.NativeEndian.PutUint32(pair[0:], root)
	binary.NativeEndian.PutUint32(pair[4:], dollar)
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&g.Root)), binary.NativeEndian.Uint64(pair[:]))
}

// prefixTooLong says whether the kernel path cannot hold the function's request head.
func prefixTooLong(cfg *config.Config, function string) bool {
	for _, fn := range cfg.Functions {
		if fn.Name == function {
			return len(request.Prefix(fn)) > len(bpf.EproxyFunction{}.Prefix)
		}
	}
	return true
}
