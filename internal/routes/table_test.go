package routes

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/lines"
	"eproxy/internal/topic"
)

// rig is a table over maps of its own, without programs.
type rig struct {
	*Table
	t       *testing.T
	maps    bpf.EproxyMaps
	globals bpf.EproxyGlobals
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := bpf.MayGoto.Load()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t}
	for name, to := range map[string]**ebpf.Map{"functions": &r.maps.Functions, "function_names": &r.maps.FunctionNames, "routes": &r.maps.Routes,
		"route_names": &r.maps.RouteNames, "nodes": &r.maps.Nodes, "edges": &r.maps.Edges} {
		s := spec.Maps[name]
		s.MaxEntries = map[string]uint32{"functions": 200, "routes": 8, "nodes": 256, "edges": 512}[strings.TrimSuffix(name, "_names")]
		if s.MaxEntries == 0 {
			s.MaxEntries = 8
		}
		if *to, err = ebpf.NewMap(s); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = (*to).Close() })
	}
	if r.Table, err = New(&r.maps, &r.globals, lines.New(), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// look finds a topic's route as the programs do (route.h), and returns its filter and its
// function's name; empty: none.
func (r *rig) look(name string) (filter, function string) {
	r.t.Helper()
	node := r.globals.Root
	if name[0] == '$' {
		node = r.globals.RootDollar
	}
	var n bpf.EproxyNode
	for level := range strings.SplitSeq(name, "/") {
		k := bpf.EproxyEdgeKey{Node: node, Len: uint32(len(level))}
		copy(k.Level[:], level)
		if r.maps.Edges.Lookup(&k, &node) == nil {
			continue
		}
		if err := r.maps.Nodes.Lookup(node, &n); err != nil {
			r.t.Fatal(err)
		}
		if n.Plus == topic.None {
			return r.route(n.Hash)
		}
		node = n.Plus
	}
	if err := r.maps.Nodes.Lookup(node, &n); err != nil {
		r.t.Fatal(err)
	}
	return r.route(n.Exact)
}

// route is the filter and the function of a route.
func (r *rig) route(index int32) (filter, function string) {
	if index < 0 {
		return "", ""
	}
	var route bpf.EproxyRoute
	var info bpf.EproxyRouteInfo
	var fn bpf.EproxyFunctionInfo
	if r.maps.Routes.Lookup(uint32(index), &route) != nil || r.maps.RouteNames.Lookup(uint32(index), &info) != nil ||
		r.maps.FunctionNames.Lookup(route.Function, &fn) != nil {
		r.t.Fatalf("route %d leads nowhere", index)
	}
	return string(info.Filter[:info.Len]), string(fn.Name[:fn.NameLen])
}

// pods of a function in the set in use.
func (r *rig) pods(function string) []uint32 {
	id, ok := r.now.Function(function)
	if !ok {
		return nil
	}
	fn := &r.functions[id]
	out := make([]uint32, atomic.LoadUint32(&fn.PodCount))
	for i := range out {
		out[i] = atomic.LoadUint32(&fn.Pods[i])
	}
	return out
}

// filters that overlap, and topics that some of them match.
var (
	filters = []string{"a/b", "a/+", "+/b", "a/#", "#", "+/+/c", "a/+/c", "$x/#", "b", "+"}
	names   = []string{"a", "b", "a/b", "a/c", "x/b", "a/b/c", "x/y/c", "x/y/z", "$x/y", "$y/b", "a/", "/"}
)

// configuration is routes and functions at random.
func configuration(rng *rand.Rand, most int) (functions []*config.Function, routes []*config.Route, counters []uint32) {
	for i := range 1 + rng.IntN(3) {
		functions = append(functions, &config.Function{Name: fmt.Sprint("f", i), URL: &url.URL{Scheme: "http", Host: "f.local"}})
	}
	for _, i := range rng.Perm(len(filters))[:rng.IntN(most+1)] {
		fn := functions[rng.IntN(len(functions))].Name
		routes = append(routes, &config.Route{Topic: filters[i], Filter: filters[i], Functions: []string{fn}})
		counters = append(counters, uint32(i))
	}
	return functions, routes, counters
}

// want is where a topic goes by the rules, without automaton.
func want(t *testing.T, routes []*config.Route, name string) (filter, function string) {
	t.Helper()
	list := make([]string, len(routes))
	for i, r := range routes {
		list[i] = r.Filter
	}
	table, err := topic.NewTable(list)
	if err != nil {
		t.Fatal(err)
	}
	if i, ok := table.Lookup(name); ok {
		return routes[i].Filter, routes[i].Functions[0]
	}
	return "", ""
}

// TestModel: whatever sets are staged, given up, refused and switched to, and whichever pods
// come and go in between, each topic goes where the set in use routes it, a function has the pods that it
// was given last, and only a switch changes the epoch.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	r := newRig(t)
	var routes []*config.Route
	var functions []*config.Function
	pods := make(map[string]Pods)
	for step := range 60 {
		epoch := r.globals.Epoch
		switch rng.IntN(4) {
		case 0: // given up
			f, more, counters := configuration(rng, 4)
			if _, err := r.Stage(f, more, counters, make([]uint32, len(f))); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		case 1: // refused
			f, more, counters := configuration(rng, 4)
			for len(more) < 5 {
				more, counters = append(more, &config.Route{Filter: fmt.Sprint("n/", len(more)), Functions: []string{f[0].Name}}), append(counters, 0)
			}
			if _, err := r.Stage(f, more, counters, make([]uint32, len(f))); err == nil {
				t.Fatalf("seed %d: 5 routes were staged where 4 fit", seed)
			}
		case 2:
			f, more, counters := configuration(rng, 4)
			s, err := r.Stage(f, more, counters, make([]uint32, len(f)))
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			functions, routes, pods = f, more, map[string]Pods{f[0].Name: {Indexes: []uint32{uint32(step)}, Near: 1}}
			if err := r.Switch(s, pods); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			epoch++
		default:
			if len(functions) > 0 {
				fn := functions[rng.IntN(len(functions))].Name
				var list Pods
				for range rng.IntN(5) {
					list.Indexes = append(list.Indexes, rng.Uint32N(100))
				}
				list.Near = rng.IntN(len(list.Indexes) + 1)
				pods[fn] = list
				r.SetPods(fn, list)
			}
		}
		if r.globals.Epoch != epoch {
			t.Fatalf("seed %d step %d: epoch %d, want %d", seed, step, r.globals.Epoch, epoch)
		}
		if r.now == nil {
			continue
		}
		for _, name := range names {
			filter, function := r.look(name)
			if f, fn := want(t, routes, name); f != filter || fn != function {
				t.Fatalf("seed %d step %d: %s goes by %q to %q, want %q to %q", seed, step, name, filter, function, f, fn)
			}
		}
		for _, fn := range functions {
			id, _ := r.now.Function(fn.Name)
			if got := (Pods{r.pods(fn.Name), int(r.functions[id].Near)}); !slices.Equal(got.Indexes, pods[fn.Name].Indexes) || got.Near != pods[fn.Name].Near {
				t.Fatalf("seed %d step %d: %s has pods %v, want %v", seed, step, fn.Name, got, pods[fn.Name])
			}
		}
	}
}

// TestPodsChangeUnderReaders: whoever reads a function's pods while they change finds pods
// that it has or has had, and no others.
func TestPodsChangeUnderReaders(t *testing.T) {
	r := newRig(t)
	var functions []*config.Function
	for i := range r.maps.Functions.MaxEntries() / 2 {
		functions = append(functions, &config.Function{Name: fmt.Sprint("f", i), URL: &url.URL{Scheme: "http", Host: "f.local"}})
	}
	s, err := r.Stage(functions, nil, nil, make([]uint32, len(functions)))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Switch(s, nil); err != nil {
		t.Fatal(err)
	}
	pods := make([]uint32, abi.PodsPerFunction)
	for i := range pods {
		pods[i] = 7
	}
	for _, fn := range functions {
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				for {
					if slices.ContainsFunc(r.pods(fn.Name), func(pod uint32) bool { return pod != 7 }) {
						t.Error("a pod that the function never had")
						return
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
		}
		for n := range 20 {
			r.SetPods(fn.Name, Pods{Indexes: pods[:n*len(pods)/20]})
			runtime.Gosched()
		}
		close(stop)
		readers.Wait()
	}
}
