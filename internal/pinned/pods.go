package pinned

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
)

// PodStates are where a pod may be in its life, by abi.PodUp and the like.
var PodStates = [...]string{abi.PodUp: "ready", abi.PodDrains: "draining", abi.PodDiscovered: "discovered",
	abi.PodSuspect: "suspect", abi.PodDrained: "drained", abi.PodPaused: "paused"}

// podState is a state by its number in the maps.
func podState(n uint32) string {
	if n < uint32(len(PodStates)) {
		return PodStates[n]
	}
	return fmt.Sprint("unknown ", n)
}

// Pod is one pod in service.
type Pod struct {
	Index       uint32
	Function    string
	Address     netip.AddrPort
	Concurrency int
	Idle        uint64 // bit for each slot that may be claimed
	Room        uint64 // bit for each slot with requests in flight that takes more
	Busy        uint64 // bit for each slot with requests in flight
	Fallback    int    // requests of the fallback's own connections
	Connected   int    // slots whose connection stands
	Refuses     bool   // the latest connection to it could not be made
	Far         bool   // it is on another node, as far as the way to it shows
	XDP, Peer   bool   // how it is reached
	Answered    uint64 // requests answered in the kernel path, since its counters exist
	Ifindex     uint32
	FirstSlot   uint32
	Reason      string // why it is not reached by XDP; empty if there is nothing better to have
	State       string // of PodStates
	Pipeline    int    // requests that a connection may have in flight
	PipelineWhy string // why so many
}

// LeftPod is a pod that only the fallback reaches, or that gets no messages, and why.
type LeftPod struct {
	Function string
	Address  netip.AddrPort
	State    string // of PodStates
	Far      bool   // it is on another node, as far as the way to it shows
	Reason   string
}

// LeftPods are the pods without slots, by function and address.
func (m *Maps) LeftPods() ([]LeftPod, error) {
	names, err := m.functionNames()
	if err != nil {
		return nil, err
	}
	served, err := m.served()
	if err != nil {
		return nil, err
	}
	return m.leftBeside(served, names)
}

// leftBeside are the pods that are not among those in service.
func (m *Maps) leftBeside(served []servedPod, names map[uint32]string) ([]LeftPod, error) {
	why, err := m.reasonsOfPods(names)
	if err != nil {
		return nil, err
	}
	for _, p := range served {
		delete(why, podKey{names[p.Function], addrPort(p.Address, p.Port)})
	}
	var out []LeftPod
	for k, x := range why {
		out = append(out, LeftPod{k.function, k.address, podState(max(x.state, abi.PodUp)), x.far, x.reason})
	}
	slices.SortFunc(out, func(a, b LeftPod) int {
		return cmp.Or(cmp.Compare(a.Function, b.Function), a.Address.Compare(b.Address))
	})
	return out, nil
}

type podKey struct {
	function string
	address  netip.AddrPort
}

type podReason struct {
	state  uint32
	far    bool
	reason string
}

// reasonsOfPods says why pods are not reached in the best way, or get no messages.
func (m *Maps) reasonsOfPods(names map[uint32]string) (map[podKey]podReason, error) {
	out := make(map[podKey]podReason)
	var k bpf.EproxyPodKey
	var v bpf.EproxyPodReason
	it := m.maps["pod_reasons"].Iterate()
	for it.Next(&k, &v) {
		if name, ok := names[k.Function]; ok { // else of a configuration that was replaced
			out[podKey{name, addrPort(k.Address, k.Port)}] = podReason{v.State, v.Far != 0, text(v.Text[:], v.Len)}
		}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read reasons of pods: %w", err)
	}
	return out, nil
}

// servedPod is the entry of a pod in service.
type servedPod struct {
	index uint32
	bpf.EproxyPod
}

// served are the pods in service in the kernel path.
func (m *Maps) served() ([]servedPod, error) {
	pods := m.maps["pods"]
	keys, entries := make([]uint32, pods.MaxEntries()), make([]bpf.EproxyPod, pods.MaxEntries())
	var at ebpf.MapBatchCursor
	n, err := pods.BatchLookup(&at, keys, entries, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // that is the end of the map
		return nil, fmt.Errorf("read pods: %w", err)
	}
	var out []servedPod
	for i := range n {
		if entries[i].Up != 0 {
			out = append(out, servedPod{keys[i], entries[i]})
		}
	}
	return out, nil
}

// Pods are the pods in service in the kernel path.
func (m *Maps) Pods() ([]Pod, error) {
	names, err := m.functionNames()
	if err != nil {
		return nil, err
	}
	why, err := m.reasonsOfPods(names)
	if err != nil {
		return nil, err
	}
	served, err := m.served()
	if err != nil {
		return nil, err
	}
	conns := m.conns.Pass()
	var out []Pod
	for _, p := range served {
		st, err := m.counters().ReadPod(p.Counter)
		if err != nil {
			return nil, err
		}
		function, address := names[p.Function], addrPort(p.Address, p.Port)
		connected, err := m.connected(conns, &p.EproxyPod)
		if err != nil {
			return nil, err
		}
		out = append(out, Pod{Index: p.index, Connected: connected, Function: function, Address: address, Reason: why[podKey{function, address}].reason,
			Concurrency: int(p.Concurrency), Idle: p.Idle, Room: p.Room, Busy: p.Busy, Fallback: int(p.Fallback), Refuses: p.Refuses != 0, Far: p.Far != 0, XDP: p.XdpOk != 0, Peer: p.PeerOk != 0,
			Answered: st.Sum(), Ifindex: p.Ifindex, FirstSlot: p.FirstSlot, State: podState(uint32(p.Up)),
			Pipeline: int(p.Proven), PipelineWhy: depthWhy(&p.EproxyPod)})
	}
	return out, nil
}

// depthWhy says why a pod's connections may have as many requests in flight as they may.
func depthWhy(p *bpf.EproxyPod) string {
	switch bpf.EproxyDepthWhy(p.Why) {
	case bpf.EproxyDepthWhyDEPTH_FIXED:
		return "configured"
	case bpf.EproxyDepthWhyDEPTH_UNUSED:
		return "more was not needed yet"
	case bpf.EproxyDepthWhyDEPTH_TRYING:
		return fmt.Sprintf("%d are being tried", p.Depth)
	case bpf.EproxyDepthWhyDEPTH_PROVEN:
		return "answered in order"
	case bpf.EproxyDepthWhyDEPTH_CLOSED:
		return "it closed a connection with requests unanswered"
	case bpf.EproxyDepthWhyDEPTH_STALLED:
		return "it did not answer the second of several requests"
	case bpf.EproxyDepthWhyDEPTH_BROKEN:
		return "it answered several requests with something else"
	case bpf.EproxyDepthWhyDEPTH_STATUS:
		return "it refused a request behind another"
	}
	return ""
}

// connected is how many slots of a pod have a connection.
func (m *Maps) connected(conns *chunk.Pass, p *bpf.EproxyPod) (n int, err error) {
	for i := range uint32(p.Concurrency) {
		c, err := connOf(conns, m.slotOf(p.FirstSlot, i))
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue // none so high was ever dialled
		}
		if err != nil {
			return 0, err
		}
		if c.State == uint16(bpf.EproxyConnStateCONN_OPEN) && c.Flags&ending == 0 {
			n++
		}
	}
	return n, nil
}
