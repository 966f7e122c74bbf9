package routes

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
	"eproxy/internal/config"
	"eproxy/internal/lines"
	"eproxy/internal/topic"
)

// Grace is how long the programs may still use what was replaced: far longer than
// any run of a program.
const Grace = 100 * time.Millisecond

// Table is the maps of routes and functions. Each has two halves: one is in use,
// and a new set of routes is written to the other.
type Table struct {
	maps      *bpf.EproxyMaps
	globals   *bpf.EproxyGlobals
	functions []bpf.EproxyFunction // the map's memory
	unmap     func() error
	names     lines.Names
	log       *slog.Logger

	staging sync.Mutex // held while a set is staged
	waiting *Set       // staged, and not in use yet; guarded by staging

	mu     sync.Mutex
	closed bool
	now    *Set // in use; nil: none yet
	before *Set // the one that it has replaced: messages in flight may name its routes
}

// New makes the table of maps without routes. globals is the memory of the settings
// map, names are those of the lines of ordered routes.
func New(maps *bpf.EproxyMaps, globals *bpf.EproxyGlobals, names lines.Names, log *slog.Logger) (*Table, error) {
	t := &Table{maps: maps, globals: globals, names: names, log: log}
	var err error
	t.functions, t.unmap, err = chunk.Map[bpf.EproxyFunction](maps.Functions)
	return t, err
}

// Close gives up the memory of the maps. The set in use stays in them.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.closed = true
		_ = t.unmap()
	}
}

// Stage writes a set of routes to the half of the maps that no message sees.
// counters are the indexes of the routes' counters, in their order, and queues those of
// the functions' messages that wait for slots, in theirs. An error means
// that the set cannot be had, and that nothing in use has changed. A set that was staged
// before and has not come into use cannot any more. It may have to wait for Grace.
func (t *Table) Stage(functions []*config.Function, routes []*config.Route, counters, queues []uint32) (*Set, error) {
	t.staging.Lock()
	defer t.staging.Unlock()
	if err := t.fits(len(functions), len(routes)); err != nil {
		return nil, err
	}
	auto, err := t.compile(routes)
	if err != nil {
		return nil, err
	}
	t.vacate()
	if t.waiting != nil {
		t.discard(t.waiting)
	}
	s := t.empty()
	t.waiting = s
	s.routes, s.counters, s.queues = routes, counters, queues
	s.functions, s.names = functions, make(map[string]uint32, len(functions))
	for i, fn := range functions {
		s.names[fn.Name] = s.firstFunction + uint32(i)
	}
	return s, t.writeAutomaton(s, auto)
}

// fits says whether half of the maps can hold so many functions and routes.
func (t *Table) fits(functions, routes int) error {
	if most := t.maps.Routes.MaxEntries() / 2; uint32(routes) > most {
		return fmt.Errorf("%d routes, but limits.routes is %d", routes, most)
	}
	if most := t.maps.Functions.MaxEntries() / 2; uint32(functions) > most {
		return fmt.Errorf("%d functions, but the kernel path holds %d", functions, most)
	}
	return nil
}

// vacate empties the half that the set before the present one is in, once no
// program can use it any more.
func (t *Table) vacate() {
	t.mu.Lock()
	before := t.before
	t.mu.Unlock()
	if before != nil {
		time.Sleep(time.Until(before.replaced.Add(Grace)))
		t.remove(before)
	}
}

// empty is a set in the half that is not in use.
func (t *Table) empty() *Set {
	t.mu.Lock()
	defer t.mu.Unlock()
	half := uint32(0)
	if t.now != nil {
		half = 1 - t.now.half
	}
	return &Set{
		half:          half,
		firstNode:     half * t.maps.Nodes.MaxEntries() / 2,
		firstRoute:    half * t.maps.Routes.MaxEntries() / 2,
		firstFunction: half * t.maps.Functions.MaxEntries() / 2,
	}
}

// compile makes the automaton of the routes' filters, if half of the maps can
// hold it.
func (t *Table) compile(routes []*config.Route) (*topic.Automaton, error) {
	filters := make([]string, len(routes))
	for i, r := range routes {
		filters[i] = r.Filter
	}
	auto, err := topic.Compile(filters, int(t.maps.Nodes.MaxEntries()/2))
	if err != nil {
		return nil, fmt.Errorf("compile routes: %w", err)
	}
	if most := int(t.maps.Edges.MaxEntries() / 2); len(auto.Edges) > most {
		return nil, fmt.Errorf("compile routes: filters are too intertwined: %d edges, the kernel path holds %d; use fewer '+' levels side by side", len(auto.Edges), most)
	}
	return auto, nil
}

// Pods are a function's pods: indexes in the pods map, of which the first ones, Near of
// them, get messages as long as they have idle slots. 0: all are alike.
type Pods struct {
	Indexes []uint32
	Near    int
}

// Switch has messages follow a staged set, whose functions have these pods, by
// name. The switch is one store: a message sees the old routes or the new, never a
// mix. An error means that the set before is still in use.
func (t *Table) Switch(s *Set, pods map[string]Pods) error {
	t.staging.Lock()
	defer t.staging.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, fn := range s.functions {
		t.writeFunction(s, fn)
		t.setPods(s, fn.Name, pods[fn.Name])
	}
	if err := t.writeRoutes(s); err != nil {
		return err
	}
	storeRoots(t.globals, s.firstNode+topic.RootNormal, s.firstNode+topic.RootDollar)
	// The epoch comes after them: it invalidates what connections remember of a topic.
	if atomic.AddUint32(&t.globals.Epoch, 1) == 0 {
		atomic.StoreUint32(&t.globals.Epoch, 1)
	}
	old := t.now
	t.before, t.now, t.waiting = old, s, nil
	if old != nil {
		old.replaced = time.Now()
		time.AfterFunc(Grace, func() { t.remove(old) })
	}
	return nil
}

// SetPods gives a function of the set in use other pods, at most abi.PodsPerFunction.
// Messages see one list or the other, or some of each.
func (t *Table) SetPods(function string, pods Pods) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.now != nil && !t.closed {
		t.setPods(t.now, function, pods)
	}
}

// setPods is SetPods for any set; t.mu is held.
func (t *Table) setPods(s *Set, function string, pods Pods) {
	id, ok := s.Function(function)
	if !ok {
		return
	}
	fn := &t.functions[id]
	indexes := pods.Indexes[:min(len(pods.Indexes), abi.PodsPerFunction)]
	for i, pod := range indexes {
		atomic.StoreUint32(&fn.Pods[i], pod)
	}
	atomic.StoreUint32(&fn.Near, uint32(pods.Near))
	// The number comes last: whoever reads the old one finds pods of the old list
	// behind the end of a shorter one.
	atomic.StoreUint32(&fn.PodCount, uint32(len(indexes)))
}

// storeRoots writes both roots with one store, so that no message sees a mix.
func storeRoots(g *bpf.EproxyGlobals, root, dollar uint32) {
	var pair [8]byte
	binary.NativeEndian.PutUint32(pair[0:], root)
	binary.NativeEndian.PutUint32(pair[4:], dollar)
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&g.Root)), binary.NativeEndian.Uint64(pair[:]))
}
