package dataplane

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/conntable"
	"eproxy/internal/counters"
	"eproxy/internal/mapmem"
	"eproxy/internal/netview"
	"eproxy/internal/parking"
	"eproxy/internal/pool"
	"eproxy/internal/reconcile"
	"eproxy/internal/routes"
	"eproxy/internal/slots"
)

// refuses is a table of routes that no switch succeeds in.
type refuses struct{ served []string } // functions that were given pods

var errNoMemory = errors.New("no memory")

func (*refuses) Stage([]*config.Function, []*config.Route, []uint32, []uint32) (*routes.Set, error) {
	return new(routes.Set), nil
}
func (*refuses) Switch(*routes.Set, map[string]routes.Pods) error { return errNoMemory }
func (r *refuses) SetPods(function string, _ routes.Pods)         { r.served = append(r.served, function) }
func (*refuses) Close()                                           {}

// TestFailedSwitchIsUndone: when the programs cannot be switched to a configuration, everything goes back to the one that they use
// still: the set of functions, by whose indexes pods are told which is theirs, the fallback's pool, and the counters.
func TestFailedSwitchIsUndone(t *testing.T) {
	pod := netip.MustParseAddrPort("10.0.0.1:80")
	limits := config.Limits{Routes: 1, Pods: 1, InflightPerClient: 8}
	before := &config.Config{Limits: limits, Functions: []*config.Function{{Name: "stays", Pods: []netip.AddrPort{pod}, Concurrency: 1}},
		Routes: []*config.Route{{Filter: "a", Functions: []string{"stays"}}}}
	after := &config.Config{Limits: limits, Functions: []*config.Function{{Name: "never", Pods: []netip.AddrPort{pod}, Concurrency: 1}},
		Routes: []*config.Route{{Filter: "b", Functions: []string{"never"}}}}
	table := &refuses{}
	p := &Plane{routes: table, devices: new(conntable.Devices), queues: new(parking.Queues), own: pool.New(nil), log: slog.New(slog.DiscardHandler),
		slots: slots.New(t.Context(), nil, slots.Options{Memory: &mapmem.Memory{Pods: make([]bpf.EproxyPod, 1)}})}
	defer p.own.Close()
	p.run.ctx = t.Context()
	set := new(routes.Set)
	store := new(store)
	p.counts = newCounts(store, before)
	world := counting{behind{1}, p}
	p.installed = &installed{net: new(netview.View), pods: reconcile.New(world, p.log), live: before, set: set}
	if err := p.installed.pods.Step(before.Functions, func(map[string][]*slots.Pod) error { return nil }); err != nil {
		t.Fatal(err)
	}
	p.own.ReloadShared(before.Functions, p.placeOf)
	p.counts.Retain(countsOf(before), time.Now())

	if err := p.serve(staged{after, new(routes.Set)}); !errors.Is(err, errNoMemory) {
		t.Fatalf("a switch that fails: %v", err)
	}
	if p.installed.set != set || p.installed.live != before {
		t.Error("pods are told the indexes that functions have in a set that is not in use")
	}
	if !slices.Equal(table.served, []string{"stays"}) {
		t.Errorf("the functions in use were given their pods back: %q", table.served)
	}
	if got := p.installed.pods.Path(podID{Function: "never", Address: pod}); got.Ifindex != 0 || got.Reason != "" {
		t.Errorf("a pod of the configuration that failed is known still: %+v", got)
	}
	fresh := counters.Wanted{Pods: make(map[counters.Pod]bool)}
	for i := range uint16(3) { // there are four counters of pods, one of which is in use
		fresh.Pods[counters.Pod{Function: "other", Address: netip.AddrPortFrom(pod.Addr(), i)}] = true
	}
	if err := p.makeRoom(fresh); err != nil || !slices.Equal(store.cleared, []string{"never"}) {
		t.Errorf("counters are free again of the pods of %q (%v), want those of the configuration that failed", store.cleared, err)
	}
}

// counting is a world where a pod has counters, and no room.
type counting struct {
	behind
	p *Plane
}

func (c counting) Add(fn *config.Function, addr netip.AddrPort, _ int) (*slots.Pod, error) {
	if _, err := c.p.podCounter(podCount(fn, addr)); err != nil {
		return nil, err
	}
	return nil, reconcile.ErrUsedUp
}

// store is counters that count nothing.
type store struct {
	counters.Maps
	names   map[uint32]string // functions of pods
	cleared []string
}

func (s *store) NamePod(index uint32, l counters.Pod) error {
	if s.names == nil {
		s.names = make(map[uint32]string)
	}
	s.names[index] = l.Function
	return nil
}
func (s *store) ReadPod(uint32) (counters.PodStats, error) { return counters.PodStats{}, nil }
func (s *store) ClearPod(index uint32) error {
	s.cleared = append(s.cleared, s.names[index])
	return nil
}

// TestAddressOfAnother: a pod that has the address of another one has counters of its own. In
// totals, which are by address, both count.
func TestAddressOfAnother(t *testing.T) {
	addr := netip.MustParseAddrPort("10.0.0.1:80")
	one := &config.Function{Name: "f", Pods: []netip.AddrPort{addr}, Identities: config.Identities{addr: "one"}}
	two := &config.Function{Name: "f", Pods: []netip.AddrPort{addr}, Identities: config.Identities{addr: "two"}}
	p := &Plane{counts: newCounts(new(store), &config.Config{Limits: config.Limits{Pods: 1}})}
	first, err := p.podCounter(podCount(one, addr))
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.podCounter(podCount(two, addr))
	if err != nil || first == second {
		t.Errorf("a pod goes on with what another of its address has counted: both have %d (%v)", first, err)
	}
	if again, err := p.podCounter(podCount(one, addr)); err != nil || again != first {
		t.Errorf("a pod that comes back counts under %d, before it did under %d (%v)", again, first, err)
	}
	sum := counters.NewTotals()
	sum.AddPod(podCount(one, addr), counters.PodStats{1})
	sum.AddPod(podCount(two, addr), counters.PodStats{2})
	if got := sum.Pods[counters.Pod{Function: "f", Address: addr}]; len(sum.Pods) != 1 || got[0] != 3 {
		t.Errorf("totals by address are %v", sum.Pods)
	}
}
