package counters

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrNone means that there are no counters left for a label set.
var ErrNone = errors.New("no counters left")

// Store is where counters are, and what they count: Maps, but in tests.
type Store interface {
	NameRoute(index uint32, l Route) error
	NamePod(index uint32, l Pod) error
	ReadRoute(index uint32) (RouteStats, error)
	ReadPod(index uint32) (PodStats, error)
	ClearRoute(index uint32) error
	ClearPod(index uint32) error
	Totals() (Totals, error)
}

var _ Store = Maps{}

// Table says what the counters of the kernel path count. A reload changes indexes of
// routes and pods, but not those of counters, as long as there are some left: then
// what the oldest ones have counted goes into past, and they are used anew.
type Table struct {
	maps  Store
	grace time.Duration // how long the programs may count under what was taken out of use

	mu     sync.Mutex
	routes *Series[Route]
	pods   *Series[Pod]

	reading sync.RWMutex // held for writing while counts move from the maps to past
	past    Totals
}

// NewTable has so many counters of routes and of pods. The programs may count under those
// of what is out of use for as long as grace.
func NewTable(m Store, routes, pods uint32, grace time.Duration) *Table {
	return &Table{maps: m, grace: grace, routes: NewSeries[Route](routes), pods: NewSeries[Pod](pods), past: NewTotals()}
}

// Wanted are the label sets of a configuration.
type Wanted struct {
	Routes map[Route]bool
	Pods   map[Pod]bool
}

// Busy are the indexes that something that is in flight may yet count under.
type Busy struct{ Routes, Pods map[uint32]bool }

// Route is the index of a label set's counters, named in the maps. ErrNone: there are none left.
func (t *Table) Route(l Route) (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return indexOf(t.routes, l, t.maps.NameRoute)
}

// Pod is Route for a pod.
func (t *Table) Pod(l Pod) (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return indexOf(t.pods, l, t.maps.NamePod)
}

func indexOf[L comparable](s *Series[L], l L, name func(uint32, L) error) (uint32, error) {
	i, fresh, ok := s.Index(l)
	if !ok {
		return 0, ErrNone
	}
	if fresh {
		if err := name(i, l); err != nil {
			s.Free([]uint32{i}) // who needs it later tries again
			return 0, err
		}
	}
	return i, nil
}

// RouteOf is what an index of routes' counters counts; zero: nothing.
func (t *Table) RouteOf(index uint32) Route {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, _ := t.routes.Labels(index)
	return l
}

// PodOf is RouteOf for a pod.
func (t *Table) PodOf(index uint32) Pod {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, _ := t.pods.Labels(index)
	return l
}

// ChangePods notes which pods are in use from now on beside those of before, and which are no more.
func (t *Table) ChangePods(come, gone []Pod, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pods.Change(come, gone, now)
}

// Retain notes which label sets are in use from now on.
func (t *Table) Retain(want Wanted, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.routes.Retain(want.Routes, now)
	t.pods.Retain(want.Pods, now)
}

// Totals are all counts since NewTable, by label set. None is ever less than before.
func (t *Table) Totals() (Totals, error) {
	t.reading.RLock()
	defer t.reading.RUnlock()
	sum, err := t.maps.Totals()
	if err != nil {
		return sum, err
	}
	for l, s := range t.past.Routes {
		sum.AddRoute(l, s)
	}
	for l, s := range t.past.Pods {
		sum.AddPod(l, s)
	}
	return sum, nil
}

// Functions are the counts since NewTable of some functions, of all their routes. None is ever less than before.
func (t *Table) Functions(wanted func(name string) bool) (map[string]RouteStats, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading.RLock()
	defer t.reading.RUnlock()
	sums := make(map[string]RouteStats)
	add := func(name string, s RouteStats) {
		s.Add(sums[name])
		sums[name] = s
	}
	for i, l := range t.routes.labels {
		if !wanted(l.Function) {
			continue
		}
		s, err := t.maps.ReadRoute(i)
		if err != nil {
			return nil, err
		}
		add(l.Function, s)
	}
	for l, s := range t.past.Routes {
		if wanted(l.Function) {
			add(l.Function, s)
		}
	}
	return sums, nil
}

// ReadPod reads what one index of pods' counters has counted since it was given out.
func (t *Table) ReadPod(index uint32) (PodStats, error) { return t.maps.ReadPod(index) }

// MakeRoom frees as many counters as a configuration, or what is new in one, needs beyond those that are
// left, or says of how many routes there are none; a pod for which there is none is the
// fallback's. They are those of routes and pods that went out of use long ago, and that
// are not busy: what they counted is added to past when no program can count under them
// any more. busy is asked anew each time. Nothing may be taken into use meanwhile.
func (t *Table) MakeRoom(want Wanted, busy func() Busy) error {
	if !t.short(want) {
		return nil
	}
	v := t.victims(want, Busy{Pods: busy().Pods})
	time.Sleep(time.Until(v.since.Add(t.grace))) // no program takes messages for them any more
	if v = t.victims(want, busy()); len(v.routes) < v.routesNeeded {
		return fmt.Errorf("counters of %d routes of earlier configurations are still in use by messages in flight: reload again in a moment",
			v.routesNeeded-len(v.routes))
	}
	time.Sleep(t.grace) // whoever took a message off its slot before the look has counted it
	return t.fold(v.routes, v.pods)
}

// short says whether a configuration needs more counters than are left.
func (t *Table) short(want Wanted) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.routes.Shortage(want.Routes)+t.pods.Shortage(want.Pods) > 0
}

// victims are the counters that a configuration needs from others.
type victims struct {
	routesNeeded, podsNeeded int
	routes, pods             []uint32
	since                    time.Time // the youngest of the routes is retired
}

// victims chooses them among those that are not busy.
func (t *Table) victims(want Wanted, busy Busy) (v victims) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v.routesNeeded, v.podsNeeded = t.routes.Shortage(want.Routes), t.pods.Shortage(want.Pods)
	v.routes, v.since = t.routes.Victims(v.routesNeeded, want.Routes, busy.Routes)
	v.pods, _ = t.pods.Victims(v.podsNeeded, want.Pods, busy.Pods)
	return v
}

// fold moves what retired indexes have counted to past and frees them.
func (t *Table) fold(routes, pods []uint32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reading.Lock()
	defer t.reading.Unlock()
	err := foldInto(t.routes, routes, t.maps.ReadRoute, t.maps.ClearRoute, t.past.AddRoute)
	if err == nil {
		err = foldInto(t.pods, pods, t.maps.ReadPod, t.maps.ClearPod, t.past.AddPod)
	}
	return err
}

func foldInto[L comparable, S any](t *Series[L], indexes []uint32, read func(uint32) (S, error), clear func(uint32) error, add func(L, S)) error {
	for n, i := range indexes {
		s, err := read(i)
		if err == nil {
			err = clear(i)
		}
		if err != nil {
			t.Free(indexes[:n])
			return err
		}
		l, _ := t.Labels(i)
		add(l, s)
	}
	t.Free(indexes)
	return nil
}
