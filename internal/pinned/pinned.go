// Package pinned reads the data plane's pinned maps. It works with the loader
// dead.
package pinned

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
	"eproxy/internal/counters"
	"eproxy/internal/pindir"
	"eproxy/internal/podgro"
	"eproxy/internal/reason"
)

// ErrNotLoaded means that there are no pins.
var ErrNotLoaded = errors.New("eproxy is not loaded")

// Maps are the opened maps.
type Maps struct {
	dir   string
	maps  map[string]*ebpf.Map
	slots uint32 // conn indexes below this are slots

	conns, devices, slotParts, routeCounters, podCounters, queues *chunk.Array
}

// Open opens the maps pinned under dir, if this program can read them.
func Open(dir string) (*Maps, error) {
	if err := readable(dir); err != nil {
		return nil, err
	}
	m := &Maps{dir: dir, maps: make(map[string]*ebpf.Map)}
	for _, name := range []string{"pods", "functions", "routes", "nodes", "edges",
		"settings", "grants", "reasons", "route_labels", "pod_labels", "route_names", "function_names", "pod_reasons", podgro.MapName} {
		x, err := ebpf.LoadPinnedMap(pindir.Path(dir, "maps", name), &ebpf.LoadPinOptions{ReadOnly: true})
		if errors.Is(err, fs.ErrNotExist) {
			m.Close()
			return nil, fmt.Errorf("%w: no pins under %s; start it with loader run", ErrNotLoaded, dir)
		}
		if err != nil {
			m.Close()
			return nil, fmt.Errorf("open pinned map %s: %w", name, err)
		}
		m.maps[name] = x
	}
	if err := m.openArrays(); err != nil {
		m.Close()
		return nil, err
	}
	m.slots = m.slotParts.Entries()
	return m, nil
}

// openArrays opens the arrays in chunks.
func (m *Maps) openArrays() (err error) {
	for name, to := range map[string]**chunk.Array{"conns": &m.conns, "devices": &m.devices, "slots": &m.slotParts, "route_counters": &m.routeCounters, "pod_counters": &m.podCounters, "queues": &m.queues} {
		if *to, err = chunk.Open(pindir.Path(m.dir, "maps", name), name == "conns"); err != nil {
			return fmt.Errorf("open pinned map %s: %w", name, err)
		}
	}
	return nil
}

// readable says whether dir holds pins of this program's ABI version.
func readable(dir string) error {
	info, err := pindir.Inspect(dir)
	switch {
	case err != nil:
		return err
	case info.State != pindir.Ours:
		return fmt.Errorf("%w: no pins under %s; start it with loader run", ErrNotLoaded, dir)
	case info.Version != abi.AbiVersion:
		return fmt.Errorf("pins under %s are of ABI version %d and this program reads %d: use the one that came with the loader", dir, info.Version, abi.AbiVersion)
	}
	return nil
}

// Close closes the maps.
func (m *Maps) Close() {
	for _, x := range m.maps {
		_ = x.Close()
	}
	for _, x := range []*chunk.Array{m.conns, m.devices, m.slotParts, m.routeCounters, m.podCounters, m.queues} {
		if x != nil {
			x.Close()
		}
	}
}

// Settings are the roots of the automaton and the switches.
func (m *Maps) Settings() (bpf.EproxyGlobals, error) {
	var g bpf.EproxyGlobals
	err := m.maps["settings"].Lookup(uint32(0), &g)
	return g, err
}

// current says whether an index is in the half of a map that the present roots
// use; a reload fills the other half before it switches.
func (m *Maps) current(name string, index uint32) (bool, error) {
	g, err := m.Settings()
	if err != nil {
		return false, fmt.Errorf("read settings: %w", err)
	}
	upper := func(name string, i uint32) bool { return i >= m.maps[name].MaxEntries()/2 }
	return upper("nodes", g.Root) == upper(name, index), nil
}

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

func (m *Maps) counters() counters.Maps {
	return counters.Maps{RouteLabels: m.maps["route_labels"], RouteCounters: m.routeCounters,
		PodLabels: m.maps["pod_labels"], PodCounters: m.podCounters}
}

// Totals are all counts that the maps hold, by label set.
func (m *Maps) Totals() (counters.Totals, error) { return m.counters().Totals() }

// Function is one installed function.
type Function struct {
	Index       uint32
	Name        string
	URL         string
	Concurrency uint32
	TimeoutMs   uint32
	Waiting     int // messages that wait in the kernel for a slot
}

// Functions are the installed functions, in the order of the configuration.
func (m *Maps) Functions() ([]Function, error) {
	var out []Function
	var k uint32
	var info bpf.EproxyFunctionInfo
	it := m.maps["function_names"].Iterate()
	for it.Next(&k, &info) {
		if now, err := m.current("functions", k); err != nil {
			return nil, err
		} else if !now {
			continue
		}
		waiting, err := m.waiting(k)
		if err != nil {
			return nil, err
		}
		out = append(out, Function{k, text(info.Name[:], info.NameLen), text(info.Url[:], info.UrlLen), info.Concurrency, info.TimeoutMs, waiting})
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read functions: %w", err)
	}
	sortBy(out, func(f Function) uint32 { return f.Index })
	return out, nil
}

// waiting is how many messages wait for the slots of the function with this index.
func (m *Maps) waiting(function uint32) (int, error) {
	var fn bpf.EproxyFunction
	if err := m.maps["functions"].Lookup(function, &fn); err != nil {
		return 0, fmt.Errorf("read function %d: %w", function, err)
	}
	var q bpf.EproxyQueue
	err := m.queues.Lookup(fn.Queue, &q, 0)
	if errors.Is(err, ebpf.ErrKeyNotExist) { // it has none, or none yet
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read queue %d: %w", fn.Queue, err)
	}
	return int(q.Count), nil
}

func (m *Maps) functionNames() (map[uint32]string, error) {
	fs, err := m.Functions()
	names := make(map[uint32]string)
	for _, f := range fs {
		names[f.Index] = f.Name
	}
	return names, err
}

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
	pods, err := m.Pods()
	if err != nil {
		return nil, err
	}
	why, err := m.reasonsOfPods()
	if err != nil {
		return nil, err
	}
	for _, p := range pods {
		delete(why, podKey{p.Function, p.Address})
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
func (m *Maps) reasonsOfPods() (map[podKey]podReason, error) {
	names, err := m.functionNames()
	if err != nil {
		return nil, err
	}
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

// Pods are the pods in service in the kernel path.
func (m *Maps) Pods() ([]Pod, error) {
	names, err := m.functionNames()
	if err != nil {
		return nil, err
	}
	why, err := m.reasonsOfPods()
	if err != nil {
		return nil, err
	}
	var out []Pod
	for i := range m.maps["pods"].MaxEntries() {
		var p bpf.EproxyPod
		if err := m.maps["pods"].Lookup(i, &p); err != nil {
			return nil, fmt.Errorf("read pod %d: %w", i, err)
		}
		if p.Up == 0 {
			continue
		}
		st, err := m.counters().ReadPod(p.Counter)
		if err != nil {
			return nil, err
		}
		function, address := names[p.Function], addrPort(p.Address, p.Port)
		connected, err := m.connected(&p)
		if err != nil {
			return nil, err
		}
		out = append(out, Pod{Index: i, Connected: connected, Function: function, Address: address, Reason: why[podKey{function, address}].reason,
			Concurrency: int(p.Concurrency), Idle: p.Idle, Room: p.Room, Busy: p.Busy, Fallback: int(p.Fallback), Refuses: p.Refuses != 0, Far: p.Far != 0, XDP: p.XdpOk != 0, Peer: p.PeerOk != 0,
			Answered: st.Sum(), Ifindex: p.Ifindex, FirstSlot: p.FirstSlot, State: podState(uint32(p.Up)),
			Pipeline: int(p.Proven), PipelineWhy: depthWhy(&p)})
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
func (m *Maps) connected(p *bpf.EproxyPod) (n int, err error) {
	for i := range uint32(p.Concurrency) {
		c, err := m.conn(m.slotOf(p.FirstSlot, i))
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

// slotOf is the conn index of slot n of a pod.
func (m *Maps) slotOf(first, n uint32) uint32 {
	return first + n<<bpf.PodShift(m.maps["pods"].MaxEntries())
}

// Slot is one connection to a pod.
type Slot struct {
	Index    uint32
	Pod      Pod
	State    string
	Requests uint32
	InFlight int // requests
	Local    netip.AddrPort
}

// Slots are the connections to pods.
func (m *Maps) Slots() ([]Slot, error) {
	pods, err := m.Pods()
	if err != nil {
		return nil, err
	}
	var out []Slot
	for _, p := range pods {
		for i := range uint32(p.Concurrency) {
			var s bpf.EproxySlot
			index := m.slotOf(p.FirstSlot, i)
			if err := m.slotParts.Lookup(index, &s, 0); errors.Is(err, ebpf.ErrKeyNotExist) {
				out = append(out, Slot{Index: index, Pod: p, State: stateName(uint32(bpf.EproxySlotStateSLOT_FREE))})
				continue
			} else if err != nil {
				return nil, fmt.Errorf("read slot %d: %w", index, err)
			}
			c, err := m.conn(index)
			if errors.Is(err, ebpf.ErrKeyNotExist) { // it is just being made
				c, err = bpf.EproxyConn{}, nil
			}
			if err != nil {
				return nil, err
			}
			out = append(out, Slot{index, p, stateName(s.State), s.Count - s.Dials, int(s.Tail - s.Head), addrPort(c.Tuple.Local, c.Tuple.LocalPort)})
		}
	}
	return out, nil
}

// Flow is one device's connection.
type Flow struct {
	Index         uint32
	Client        string
	Local, Remote netip.AddrPort
	State         string
	Taken         uint64
	InFlight      int
	Removed       uint32 // bytes taken out of its stream, modulo 2^32
	Inserted      uint32 // bytes put into the stream towards it
	Lost          bool   // message boundary unknown
	Gen           uint32 // of the entry's use
	InFlightMax   int    // messages
	Stopped       bool   // nothing more is taken of it: its session is over, or something broke
	Rights        uint32 // version of what its client may do, and
	RightsAll     bool   // whether that is everything
	NotTaken      string // reason of the latest message that the programs left to the server; empty: none
}

var connStates = []string{"free", "armed", "open", "closed"}

// ending are the flags of a connection one of whose ends has sent FIN.
const ending = uint32(bpf.EproxyConnFlagCONN_FIN_SENT | bpf.EproxyConnFlagCONN_FIN_SEEN)

// stopped are the flags of a connection of which nothing more is taken.
const stopped = uint32(bpf.EproxyConnFlagCONN_NO_TAKE | bpf.EproxyConnFlagCONN_BROKEN)

// FlowStates are all that a Flow's state may be.
var FlowStates = []string{"armed", "open", "closing", "closed"}

// flowState is a connection's state, as users see it: that of one which is over, and
// only kept for what may still be repeated, is closed.
func flowState(c *bpf.EproxyConn) string {
	if c.State == uint16(bpf.EproxyConnStateCONN_OPEN) {
		switch c.Flags & ending {
		case ending:
			return "closed"
		case 0:
		default:
			return "closing"
		}
	}
	return connStates[c.State]
}

// Flows are the devices' connections that the kernel path knows.
func (m *Maps) Flows() ([]Flow, error) {
	var out []Flow
	g, err := m.Settings()
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	for index := m.slots; index < g.ConnsEnd; index++ {
		c, err := m.conn(index)
		if err != nil {
			return nil, err
		}
		if c.State == 0 || int(c.State) >= len(connStates) {
			continue
		}
		var d bpf.EproxyDevice
		if err := m.devices.Lookup(index-m.slots, &d, 0); err != nil {
			return nil, fmt.Errorf("read device %d: %w", index, err)
		}
		client, _, _ := strings.Cut(text(d.Sender[:], uint32(d.SenderLen[0])), "\r\n") // the user name's header follows
		notTaken := ""
		if r := int(d.NotTaken); r > 0 && r < len(reason.All) {
			notTaken = reason.All[r].Name
		}
		out = append(out, Flow{NotTaken: notTaken, Index: index, Client: client, Gen: c.Gen, InFlightMax: int(d.InflightMax), Rights: d.Rights,
			RightsAll: d.Rights&uint32(bpf.EproxyRightRIGHTS_ALL) != 0, Stopped: d.Stopped != 0 || c.Flags&stopped != 0, Local: addrPort(c.Tuple.Local, c.Tuple.LocalPort),
			Remote: addrPort(c.Tuple.Remote, c.Tuple.RemotePort), State: flowState(&c), Taken: d.Taken, InFlight: int(c.InFlight),
			Removed: c.Rx.Base, Inserted: c.Tx.Base, Lost: c.State == uint16(bpf.EproxyConnStateCONN_OPEN) && c.Flags&uint32(bpf.EproxyConnFlagCONN_LOST) != 0 && c.Flags&ending == 0})
	}
	return out, nil
}

// Granted says whether the programs know that the connection's client may publish to a topic.
func (m *Maps) Granted(f Flow, topic string) (bool, error) {
	key := bpf.EproxyGrantKey{Conn: f.Index, Gen: f.Gen, Rights: f.Rights, Len: uint32(len(topic))}
	if copy(key.Topic[:], topic) < len(topic) {
		return false, nil
	}
	var is uint32
	err := m.maps["grants"].Lookup(&key, &is)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, fmt.Errorf("read grants: %w", err)
	}
	return err == nil, nil
}

func (m *Maps) conn(index uint32) (bpf.EproxyConn, error) {
	var c bpf.EproxyConn
	if err := m.conns.Lookup(index, &c, ebpf.LookupLock); err != nil {
		return c, fmt.Errorf("read connection %d: %w", index, err)
	}
	return c, nil
}

// Reasons are the counters by hook and reason.
func (m *Maps) Reasons() ([][]uint64, error) {
	hooks, n := int(bpf.EproxyHookHOOK_COUNT), int(bpf.EproxyReasonREASON_COUNT)
	out := make([][]uint64, hooks)
	for h := range hooks {
		out[h] = make([]uint64, n)
		for r := range n {
			var per []uint64
			if err := m.maps["reasons"].Lookup(uint32(h*256+r), &per); err != nil {
				return nil, fmt.Errorf("read reasons: %w", err)
			}
			out[h][r] = sum(per)
		}
	}
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

func addrPort(words [4]uint32, port uint16) netip.AddrPort {
	var b [16]byte
	for i, w := range words {
		binary.NativeEndian.PutUint32(b[4*i:], w)
	}
	var p [2]byte
	binary.NativeEndian.PutUint16(p[:], port)
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), binary.BigEndian.Uint16(p[:]))
}
