package reconcile

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"eproxy/internal/abi"
	"eproxy/internal/config"
	"eproxy/internal/reach"
)

// pod is one that the model has in service.
type pod struct {
	id       ID
	ifindex  int
	identity string     // of the address when it was added
	path     reach.Path // of the latest Update
	improved int
}

// model is a network, and a data plane with room for some pods.
type model struct {
	t        *testing.T
	network  map[netip.Addr]reach.Path
	room     int
	fails    func() bool
	service  map[*pod]bool // added, and neither drained nor removed
	served   map[string][]*pod
	touched  map[ID]int // adds, drains, removes, and updates that changed something
	draining []ID
	removed  []ID
}

var errModel = errors.New("no memory")

func (m *model) Reach(a netip.Addr) reach.Path {
	if p, ok := m.network[a]; ok {
		return p
	}
	return reach.Path{NoRoute: true, Reason: "no route"}
}

// looked is a look at all pods of functions.
func (m *model) looked(functions []*config.Function) map[netip.Addr]reach.Path {
	out := make(map[netip.Addr]reach.Path)
	for _, fn := range functions {
		for _, a := range fn.Pods {
			out[a.Addr()] = m.Reach(a.Addr())
		}
	}
	return out
}

func (m *model) Add(fn *config.Function, addr netip.AddrPort, ifindex int) (*pod, error) {
	if len(m.service) >= m.room {
		return nil, fmt.Errorf("limits.pods %w", ErrUsedUp)
	}
	if m.fails() {
		return nil, errModel
	}
	p := &pod{id: ID{fn.Name, addr}, ifindex: ifindex, identity: fn.Identities[addr]}
	m.service[p] = true
	m.touched[p.id]++
	return p, nil
}

func (m *model) Improve(p *pod, path reach.Path) (served, found reach.Path) {
	if !path.GRO {
		return path, path
	}
	p.improved++
	return path.WithoutGRO(errModel), path
}

func (m *model) Update(p *pod, _ *config.Function, path reach.Path) {
	if !m.service[p] {
		m.t.Fatalf("%v is updated and not in service", p.id)
	}
	if p.path != path {
		m.touched[p.id]++
	}
	p.path = path
}

// end is the end of a pod's service: the programs must not use it any more.
func (m *model) end(p *pod) {
	if !m.service[p] {
		m.t.Fatalf("%v is taken out of service twice", p.id)
	}
	if slices.Contains(m.served[p.id.Function], p) {
		m.t.Fatalf("%v is taken out of service while the programs use it", p.id)
	}
	delete(m.service, p)
	m.touched[p.id]++
}

func (m *model) Drain(p *pod)  { m.end(p); m.draining = append(m.draining, p.id) }
func (m *model) Remove(p *pod) { m.end(p); m.removed = append(m.removed, p.id) }

func (m *model) serve(lists map[string][]*pod) error {
	if m.fails() {
		return errModel
	}
	for function, list := range lists {
		for _, p := range list {
			if !m.service[p] || p.id.Function != function {
				m.t.Fatalf("%v is served for %s and not in service", p.id, function)
			}
		}
	}
	maps.Copy(m.served, lists)
	return nil
}

func newModel(t *testing.T) (*model, *Set[*pod]) {
	m := &model{t: t, network: make(map[netip.Addr]reach.Path), room: 100, fails: func() bool { return false }, service: make(map[*pod]bool), served: make(map[string][]*pod), touched: make(map[ID]int)}
	return m, New(m, slog.New(slog.DiscardHandler))
}

func address(n int) netip.Addr         { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}) }
func addressPort(n int) netip.AddrPort { return netip.AddrPortFrom(address(n), 80) }

// anyPath is a path as a network may have it.
func anyPath(r *rand.Rand) reach.Path {
	switch n := 1 + r.IntN(3); r.IntN(4) {
	case 0:
		return reach.Left("it is behind a macvlan")
	case 1:
		return reach.Path{Way: reach.XDP, Ifindex: n}
	case 2:
		return reach.Path{Way: reach.TC, Ifindex: n, GRO: true}
	default:
		return reach.Path{Way: reach.TC, Ifindex: n}
	}
}

// anyFunctions are functions with some of the pods there may be.
func anyFunctions(r *rand.Rand) (out []*config.Function) {
	for _, name := range []string{"a", "b", "c"} {
		if r.IntN(5) == 0 {
			continue
		}
		fn := &config.Function{Name: name, Identities: make(config.Identities)}
		for n := range 8 {
			if r.IntN(2) == 0 {
				fn.Pods = append(fn.Pods, addressPort(n))
				fn.Identities[addressPort(n)] = []string{"", "one", "one", "two"}[r.IntN(4)]
			}
		}
		out = append(out, fn)
	}
	return out
}

// someOther are other functions, of which some are the same.
func someOther(r *rand.Rand, functions []*config.Function) []*config.Function {
	out := anyFunctions(r)
	for i, fn := range out {
		at := slices.IndexFunc(functions, func(old *config.Function) bool { return old.Name == fn.Name })
		if at >= 0 && r.IntN(2) == 0 {
			out[i] = functions[at]
		}
	}
	return out
}

// place is where a pod is in service, and as whose address; "": that is not known.
type place struct {
	ifindex  int
	identity string
}

// wanted are the pods that are to be in service when nothing fails, with their places.
func (m *model) wanted(s *Set[*pod], functions []*config.Function) map[ID]place {
	out := make(map[ID]place)
	for _, fn := range functions {
		for _, a := range fn.Pods {
			id := ID{fn.Name, a}
			path := m.Reach(a.Addr())
			if u, ok := s.unseen[id]; path.Way != reach.Fallback && (!ok || u.ifindex != path.Ifindex) {
				out[id] = place{path.Ifindex, fn.Identities[a]}
			}
		}
	}
	return out
}

func (m *model) inService() map[ID]place {
	out := make(map[ID]place)
	for p := range m.service {
		out[p.id] = place{p.ifindex, p.identity}
	}
	return out
}

// same says whether a pod may be in service so that is wanted so: what is not known is no difference.
func same(a, b place) bool {
	return a.ifindex == b.ifindex && !config.Reused(a.identity, b.identity)
}

// TestConverges: configurations, the network and failures change at random. A step never takes
// out of service what the programs use, and touches no pod of which nothing has changed. When
// nothing fails any more, one step has in service what is wanted and can be reached, behind the
// right interface, and no other; the next touches nothing.
func TestConverges(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		m, s := newModel(t)
		functions := anyFunctions(r)
		for range 60 {
			m.fails = func() bool { return r.IntN(6) == 0 }
			m.room = 100
			if r.IntN(4) == 0 {
				m.room = r.IntN(12)
			}
			changed := make(map[netip.Addr]bool)
			before := m.wanted(s, functions)
			if r.IntN(2) == 0 {
				functions = someOther(r, functions)
			}
			for range r.IntN(3) {
				a := address(r.IntN(8))
				m.network[a], changed[a] = anyPath(r), true
			}
			if r.IntN(5) == 0 {
				id := ID{"a", addressPort(r.IntN(8))}
				s.LeaveUnseen(id, 1, "its address is translated")
				changed[id.Address.Addr()] = true
			}
			if r.IntN(5) == 0 {
				s.AgainAll()
				changed = nil // everything may be another way now
			}
			s.Moved(functions, m.looked(functions))
			now := m.wanted(s, functions)
			was := m.inService()
			for _, p := range s.moved { // it has lost its place already, and goes now
				delete(was, p.id)
			}
			clear(m.touched)
			_ = s.Step(functions, m.serve)
			for id := range was {
				if before[id] == now[id] && before[id] == was[id] && changed != nil && !changed[id.Address.Addr()] && m.touched[id] > 0 {
					t.Fatalf("seed %d: %v was touched although nothing of it has changed", seed, id)
				}
			}
		}
		m.fails, m.room = func() bool { return false }, 100
		s.AgainShort()
		s.Moved(functions, m.looked(functions))
		if err := s.Step(functions, m.serve); err != nil {
			t.Fatal(err)
		}
		want := m.wanted(s, functions)
		if got := m.inService(); !maps.EqualFunc(got, want, same) || len(m.service) != len(want) {
			t.Fatalf("seed %d: in service are %v, want %v", seed, got, want)
		}
		served := 0
		for _, list := range m.served {
			served += len(list)
		}
		if served != len(want) {
			t.Fatalf("seed %d: %d pods are served of %d", seed, served, len(want))
		}
		clear(m.touched)
		if err := s.Step(functions, m.serve); err != nil || len(m.touched) > 0 {
			t.Fatalf("seed %d: a step for nothing has touched %v (%v)", seed, m.touched, err)
		}
		if len(s.paths) > len(s.found) || len(s.pods) != len(want) || len(s.moved) > 0 {
			t.Fatalf("seed %d: what is remembered is not what is wanted", seed)
		}
	}
}

// TestNoRoom: a pod that there is no room for is the fallback's until another has gone.
func TestNoRoom(t *testing.T) {
	m, s := newModel(t)
	m.room = 1
	for n := range 2 {
		m.network[address(n)] = reach.Path{Way: reach.TC, Ifindex: 1}
	}
	fn := &config.Function{Name: "f", Pods: []netip.AddrPort{addressPort(0), addressPort(1)}}
	step := func() {
		t.Helper()
		if err := s.Step([]*config.Function{fn}, m.serve); err != nil {
			t.Fatal(err)
		}
	}
	step()
	second := ID{"f", addressPort(1)}
	if _, ok := s.Get(second); ok || s.Path(second).Way != reach.Fallback || !s.AgainShort() {
		t.Errorf("two pods have the room of one: %v", s.Path(second))
	}
	fn = &config.Function{Name: "f", Pods: fn.Pods[1:]}
	step()
	if s.AgainShort() {
		s.Moved([]*config.Function{fn}, m.looked([]*config.Function{fn}))
		step()
	}
	if _, ok := s.Get(second); !ok || s.AgainShort() {
		t.Errorf("the pod has no room although another has gone: %v", s.Path(second))
	}
}

// TestManyPodsKeepTheirPlaces: a pod of a function that has more than the programs hold comes, and touches none of the others; one of
// them that goes gives its place to one that had none.
func TestManyPodsKeepTheirPlaces(t *testing.T) {
	m, s := newModel(t)
	m.room = 2 * abi.PodsPerFunction
	var pods []netip.AddrPort
	for n := range abi.PodsPerFunction + 3 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
		m.network[a] = reach.Path{Way: reach.TC, Ifindex: 1}
		pods = append(pods, netip.AddrPortFrom(a, 80))
	}
	step := func(pods []netip.AddrPort) {
		t.Helper()
		clear(m.touched)
		if err := s.Step([]*config.Function{{Name: "f", Pods: pods}}, m.serve); err != nil {
			t.Fatal(err)
		}
		if len(m.service) != abi.PodsPerFunction {
			t.Errorf("%d pods are in service", len(m.service))
		}
	}
	step(pods[1:])
	step(pods) // one comes in front of the others
	if len(m.touched) > 0 {
		t.Errorf("a pod without a place has touched %v", m.touched)
	}
	step(slices.Concat(pods[:5], pods[6:]))
	if _, came := m.touched[ID{"f", pods[0]}]; !came || len(m.touched) != 2 || len(m.removed) > 0 {
		t.Errorf("one has gone: touched %v, removed %v", m.touched, m.removed)
	}
}

// TestGROIsTriedOnce: what was tried in vain is tried again when the pod has moved, and not at
// each step.
func TestGROIsTriedOnce(t *testing.T) {
	m, s := newModel(t)
	m.network[address(0)] = reach.Path{Way: reach.TC, Ifindex: 1, GRO: true}
	functions := []*config.Function{{Name: "f", Pods: []netip.AddrPort{addressPort(0)}}}
	id := ID{"f", addressPort(0)}
	for _, want := range []int{1, 1, 2} {
		if want == 2 {
			s.Again(id)
		}
		if err := s.Step(functions, m.serve); err != nil {
			t.Fatal(err)
		}
		if p, _ := s.Get(id); p.improved != want || s.Moved(functions, m.looked(functions)) {
			t.Errorf("tried %d times, want %d", p.improved, want)
		}
	}
}

// TestSourceSaysPlace: where a pod is the way to it tells only if its source does not; a source that says something else
// than the network is no change of the network.
func TestSourceSaysPlace(t *testing.T) {
	m, s := newModel(t)
	pods := []netip.AddrPort{addressPort(0), addressPort(1)}
	m.network[address(0)] = reach.Path{Way: reach.TC, Ifindex: 1}
	m.network[address(1)] = reach.Path{Way: reach.Fallback, Far: true, Reason: "no Ethernet"}
	for _, c := range []struct {
		places config.Places
		far    [2]bool
	}{
		{nil, [2]bool{false, true}},
		{config.Places{pods[0]: config.OtherNode, pods[1]: config.ThisNode}, [2]bool{true, false}},
		{config.Places{pods[0]: config.ThisNode, pods[1]: config.OtherNode}, [2]bool{false, true}},
		{config.Places{pods[0]: config.OtherNode}, [2]bool{true, true}},
		{nil, [2]bool{false, true}},
	} {
		functions := []*config.Function{{Name: "f", Pods: pods, Places: c.places}}
		if err := s.Step(functions, m.serve); err != nil {
			t.Fatal(err)
		}
		served, _ := s.Get(ID{"f", pods[0]})
		got := [2]bool{s.Path(ID{"f", pods[0]}).Far, s.Path(ID{"f", pods[1]}).Far}
		if got != c.far || served.path.Far != c.far[0] {
			t.Errorf("places %v: far %v, and as the pod is served %v; want %v", c.places, got, served.path.Far, c.far)
		}
		if s.Moved(functions, m.looked(functions)) {
			t.Errorf("places %v: the network is looked at again", c.places)
		}
	}
}

// TestStepLooksAtWhatChanged: a step looks at functions that are other ones, that are gone, that something was
// to be looked at again of, or that had a pod which could not be added; after an error at all.
func TestStepLooksAtWhatChanged(t *testing.T) {
	m, s := newModel(t)
	for n := range 4 {
		m.network[address(n)] = reach.Path{Way: reach.TC, Ifindex: 1}
	}
	fn := func(name string, pod int) *config.Function {
		return &config.Function{Name: name, Pods: []netip.AddrPort{addressPort(pod)}}
	}
	functions := []*config.Function{fn("a", 0), fn("b", 1), fn("c", 2)}
	looks := func(at string, want ...string) {
		t.Helper()
		var got []string
		serves := func(lists map[string][]*pod) error {
			got = slices.Sorted(maps.Keys(lists))
			return m.serve(lists)
		}
		if err := s.Step(functions, serves); (err != nil) != m.fails() || !slices.Equal(got, want) {
			t.Errorf("%s: looked at %v, want %v (%v)", at, got, want, err)
		}
	}
	looks("the first step", "a", "b", "c")
	looks("the same")
	functions[1] = fn("b", 3)
	looks("another pod", "b")
	s.Again(ID{"c", addressPort(2)})
	looks("something to be looked at again", "c")
	functions = functions[1:]
	looks("a function less", "a")
	m.fails = func() bool { return true }
	functions[0] = fn("b", 1)
	looks("a failure", "b")
	m.fails = func() bool { return false }
	looks("after it", "b", "c")
	m.room = 2
	functions[0] = &config.Function{Name: "b", Pods: []netip.AddrPort{addressPort(1), addressPort(3)}}
	looks("one pod too many", "b")
	looks("it is tried again", "b")
	m.room = 3
	looks("there is room", "b")
	looks("the same again")
}
