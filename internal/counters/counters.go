package counters

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
)

// Route is the label set of a route's counters.
type Route struct{ Filter, Function string }

// Pod is the label set of a pod's counters.
type Pod struct {
	Function string
	Address  netip.AddrPort
	// Identity tells it from others of its address (config.Identities). The maps know none, and so do Totals: they are by address.
	Identity string
}

// RouteStats are the messages of one route and function in the kernel path.
type RouteStats struct {
	Taken, Answered [2]uint64               // by QoS
	Nanoseconds     uint64                  // sum over the answered ones
	Hist            [abi.HistBuckets]uint64 // bucket n: latency below 2^n ns
}

// Add adds another's counts.
func (s *RouteStats) Add(o RouteStats) {
	for q := range s.Taken {
		s.Taken[q] += o.Taken[q]
		s.Answered[q] += o.Answered[q]
	}
	s.Nanoseconds += o.Nanoseconds
	for i, n := range o.Hist {
		s.Hist[i] += n
	}
}

// FirstStatus is the HTTP status that element 0 of PodStats counts.
const FirstStatus = 200

// PodStats are the requests to one pod that were answered in the kernel path, by
// status less FirstStatus.
type PodStats [abi.StatusCodes]uint64

// Add adds another's counts.
func (s *PodStats) Add(o PodStats) {
	for i, n := range o {
		s[i] += n
	}
}

// Sum is the number of all requests.
func (s *PodStats) Sum() (n uint64) {
	for _, x := range s {
		n += x
	}
	return n
}

// Totals are counts by label set.
type Totals struct {
	Routes map[Route]RouteStats
	Pods   map[Pod]PodStats
}

// NewTotals has no counts.
func NewTotals() Totals {
	return Totals{make(map[Route]RouteStats), make(map[Pod]PodStats)}
}

// AddRoute adds to a label set's counts.
func (t Totals) AddRoute(l Route, s RouteStats) {
	s.Add(t.Routes[l])
	t.Routes[l] = s
}

// AddPod adds to the counts of a label set's address.
func (t Totals) AddPod(l Pod, s PodStats) {
	l.Identity = ""
	s.Add(t.Pods[l])
	t.Pods[l] = s
}

// Maps are the maps that hold counters and their label sets.
type Maps struct {
	RouteLabels, PodLabels     *ebpf.Map
	RouteCounters, PodCounters *chunk.Array
}

// ReadRoute reads the counters of one index, of all processors.
func (m Maps) ReadRoute(index uint32) (s RouteStats, err error) {
	var per []bpf.EproxyRouteStats
	if err := m.RouteCounters.Lookup(index, &per, 0); err != nil {
		return s, fmt.Errorf("read counters %d of routes: %w", index, err)
	}
	for _, p := range per {
		s.Add(RouteStats{p.Taken, p.Answered, p.Nanoseconds, p.Hist})
	}
	return s, nil
}

// ReadPod reads the counters of one index, of all processors.
func (m Maps) ReadPod(index uint32) (s PodStats, err error) {
	var per []bpf.EproxyPodStats
	if err := m.PodCounters.Lookup(index, &per, 0); err != nil {
		return s, fmt.Errorf("read counters %d of pods: %w", index, err)
	}
	for _, p := range per {
		s.Add(p.Answered)
	}
	return s, nil
}

// NameRoute says what an index of the routes' counters counts.
func (m Maps) NameRoute(index uint32, l Route) error {
	var v bpf.EproxyRouteSeries
	v.FilterLen = uint32(copy(v.Filter[:], l.Filter))
	v.FunctionLen = uint32(copy(v.Function[:], l.Function))
	if err := m.RouteCounters.Grow(index); err != nil {
		return fmt.Errorf("counters of route %s: %w", l.Filter, err)
	}
	if err := m.RouteLabels.Put(index, &v); err != nil {
		return fmt.Errorf("name counters of route %s: %w", l.Filter, err)
	}
	return nil
}

// NamePod says what an index of the pods' counters counts.
func (m Maps) NamePod(index uint32, l Pod) error {
	var v bpf.EproxyPodSeries
	a := l.Address.Addr().As16()
	for i := range v.Address {
		v.Address[i] = binary.NativeEndian.Uint32(a[4*i:])
	}
	v.Port = l.Address.Port()>>8 | l.Address.Port()<<8
	v.FunctionLen = uint16(copy(v.Function[:], l.Function))
	if err := m.PodCounters.Grow(index); err != nil {
		return fmt.Errorf("counters of pod %s: %w", l.Address, err)
	}
	if err := m.PodLabels.Put(index, &v); err != nil {
		return fmt.Errorf("name counters of pod %s: %w", l.Address, err)
	}
	return nil
}

// ClearRoute makes an index anybody's: no label set, all counters 0. No program
// may count under it.
func (m Maps) ClearRoute(index uint32) error {
	if err := m.RouteLabels.Delete(index); err != nil {
		return fmt.Errorf("forget name of counters %d of routes: %w", index, err)
	}
	if err := m.RouteCounters.Update(index, make([]bpf.EproxyRouteStats, ebpf.MustPossibleCPU()), ebpf.UpdateAny); err != nil {
		return fmt.Errorf("clear counters %d of routes: %w", index, err)
	}
	return nil
}

// ClearPod makes an index anybody's: no label set, all counters 0. No program may
// count under it.
func (m Maps) ClearPod(index uint32) error {
	if err := m.PodLabels.Delete(index); err != nil {
		return fmt.Errorf("forget name of counters %d of pods: %w", index, err)
	}
	if err := m.PodCounters.Update(index, make([]bpf.EproxyPodStats, ebpf.MustPossibleCPU()), ebpf.UpdateAny); err != nil {
		return fmt.Errorf("clear counters %d of pods: %w", index, err)
	}
	return nil
}

// Totals reads all counters that have a label set.
func (m Maps) Totals() (Totals, error) {
	t := NewTotals()
	var index uint32
	var route bpf.EproxyRouteSeries
	for it := m.RouteLabels.Iterate(); ; {
		if !it.Next(&index, &route) {
			if err := it.Err(); err != nil {
				return t, fmt.Errorf("read names of routes' counters: %w", err)
			}
			break
		}
		s, err := m.ReadRoute(index)
		if err != nil {
			return t, err
		}
		t.AddRoute(Route{text(route.Filter[:], route.FilterLen), text(route.Function[:], route.FunctionLen)}, s)
	}
	var pod bpf.EproxyPodSeries
	for it := m.PodLabels.Iterate(); ; {
		if !it.Next(&index, &pod) {
			if err := it.Err(); err != nil {
				return t, fmt.Errorf("read names of pods' counters: %w", err)
			}
			break
		}
		s, err := m.ReadPod(index)
		if err != nil {
			return t, err
		}
		var a [16]byte
		for i, w := range pod.Address {
			binary.NativeEndian.PutUint32(a[4*i:], w)
		}
		address := netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), pod.Port>>8|pod.Port<<8)
		t.AddPod(Pod{Function: text(pod.Function[:], uint32(pod.FunctionLen)), Address: address}, s)
	}
	return t, nil
}

func text(b []byte, n uint32) string { return string(b[:min(int(n), len(b))]) }
