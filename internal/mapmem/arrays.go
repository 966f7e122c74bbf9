package mapmem

import (
	"sync/atomic"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
	"eproxy/internal/config"
	"eproxy/internal/datapath"
	"eproxy/internal/pindir"
)

// Memory is what this process has of the maps: arrays whose memory follows what is used, and maps that it shares with the
// programs as a whole, until Close. Fields that both sides write are accessed atomically.
type Memory struct {
	Conns         *chunk.Array
	Devices       *chunk.Memory[bpf.EproxyDevice]
	Aliases       *chunk.Array
	Slots         *chunk.Memory[bpf.EproxySlot]
	Requests      *chunk.Memory[bpf.EproxyRequest]
	Parked        *chunk.Memory[bpf.EproxyParkedMessage]
	Queues        *chunk.Memory[bpf.EproxyQueue]
	RouteCounters *chunk.Array
	PodCounters   *chunk.Array

	Pods    []bpf.EproxyPod
	Globals *bpf.EproxyGlobals

	Layout
	unmap []func() error
}

// Layout is what follows from the sizes of the maps.
type Layout struct {
	Most     uint32 // conn indexes below this are slots
	Pipeline uint32 // request buffers of a slot, a power of two
	pods     uint32 // there may be so many, a power of two
}

// Open makes the Memory of loaded maps, whose sizes are those for cfg. After an error there is nothing to close.
func Open(path *datapath.Datapath, cfg *config.Config) (*Memory, error) {
	o := &path.Objects.EproxyMaps
	array := func(name string, outer *ebpf.Map) *chunk.Array {
		return chunk.New(outer, path.Spec.Maps[name], pindir.Path(path.Dir(), "maps", name))
	}
	m := &Memory{
		Conns:         array("conns", o.Conns),
		Devices:       chunk.Mapped[bpf.EproxyDevice](array("devices", o.Devices)),
		Aliases:       array("alias_tables", o.AliasTables),
		Slots:         chunk.Mapped[bpf.EproxySlot](array("slots", o.Slots)),
		Requests:      chunk.Mapped[bpf.EproxyRequest](array("requests", o.Requests)),
		Parked:        chunk.Mapped[bpf.EproxyParkedMessage](array("parked", o.Parked)),
		Queues:        chunk.Mapped[bpf.EproxyQueue](array("queues", o.Queues)),
		RouteCounters: array("route_counters", o.RouteCounters),
		PodCounters:   array("pod_counters", o.PodCounters),
		Layout:        Layout{Most: slotsFor(cfg), Pipeline: Deepest(cfg), pods: 1 << bpf.PodShift(uint32(cfg.Limits.Pods))},
	}
	var err error
	if m.Pods, err = mapped[bpf.EproxyPod](m, o.Pods); err != nil {
		m.Close()
		return nil, err
	}
	globals, err := mapped[bpf.EproxyGlobals](m, o.Settings)
	if err != nil {
		m.Close()
		return nil, err
	}
	m.Globals = &globals[0]
	return m, nil
}

// mapped maps a whole map into memory until Close.
func mapped[T any](m *Memory, of *ebpf.Map) ([]T, error) {
	mem, unmap, err := chunk.Map[T](of)
	if err != nil {
		return nil, err
	}
	m.unmap = append(m.unmap, unmap)
	return mem, nil
}

// Close closes and unmaps all. Nobody may use an entry any more.
func (m *Memory) Close() {
	m.Conns.Close()
	m.Devices.Close()
	m.Aliases.Close()
	m.Slots.Close()
	m.Requests.Close()
	m.Parked.Close()
	m.Queues.Close()
	m.RouteCounters.Close()
	m.PodCounters.Close()
	for _, u := range m.unmap {
		_ = u()
	}
}

// Request is the buffer of a slot's request (request_buffer in slot.h) of this number. It has memory.
func (m *Memory) Request(slot, number uint32) *bpf.EproxyRequest {
	return m.Requests.At(m.requestIndex(slot, number))
}

// requestIndex is where that is: the first of each slot lie together, then those of a slot do, and the slots of a pod.
func (l *Layout) requestIndex(slot, number uint32) uint32 {
	n := number & (l.Pipeline - 1)
	if n == 0 {
		return slot
	}
	return l.Most + (slot%l.pods*abi.SlotsPerPod+slot/l.pods)*l.Pipeline + n
}

// GrowSlot sees to it that a slot has memory: for one request, or if it is to be deep for
// as many as it may have at most. The sweeper looks at it then.
func (m *Memory) GrowSlot(index uint32, deep bool) error {
	most := uint32(1)
	if deep {
		most = m.Pipeline
	}
	for n := range most {
		if err := m.Requests.Grow(m.requestIndex(index, n)); err != nil {
			return err
		}
	}
	if err := m.Slots.Grow(index); err != nil {
		return err
	}
	if err := m.Conns.Grow(index); err != nil {
		return err
	}
	for end := atomic.LoadUint32(&m.Globals.SlotsEnd); end <= index; end = atomic.LoadUint32(&m.Globals.SlotsEnd) {
		atomic.CompareAndSwapUint32(&m.Globals.SlotsEnd, end, index+1)
	}
	return nil
}
