package dataplane

import (
	"sync/atomic"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
	"eproxy/internal/pindir"
)

// arrays are those of the data plane's maps whose memory follows what is used.
type arrays struct {
	conns         *chunk.Array
	devices       *chunk.Memory[bpf.EproxyDevice]
	slots         *chunk.Memory[bpf.EproxySlot]
	requests      *chunk.Memory[bpf.EproxyRequest]
	parked        *chunk.Memory[bpf.EproxyParkedMessage]
	queues        *chunk.Memory[bpf.EproxyQueue]
	routeCounters *chunk.Array
	podCounters   *chunk.Array
}

// newArrays makes the arrays of maps without chunks that are pinned under dir.
func newArrays(o *bpf.EproxyMaps, spec *ebpf.CollectionSpec, dir string) arrays {
	array := func(name string, outer *ebpf.Map) *chunk.Array {
		return chunk.New(outer, spec.Maps[name], pindir.Path(dir, "maps", name))
	}
	return arrays{
		conns:         array("conns", o.Conns),
		devices:       chunk.Mapped[bpf.EproxyDevice](array("devices", o.Devices)),
		slots:         chunk.Mapped[bpf.EproxySlot](array("slots", o.Slots)),
		requests:      chunk.Mapped[bpf.EproxyRequest](array("requests", o.Requests)),
		parked:        chunk.Mapped[bpf.EproxyParkedMessage](array("parked", o.Parked)),
		queues:        chunk.Mapped[bpf.EproxyQueue](array("queues", o.Queues)),
		routeCounters: array("route_counters", o.RouteCounters),
		podCounters:   array("pod_counters", o.PodCounters),
	}
}

// close closes and unmaps the arrays. Nobody may use an entry any more.
func (a *arrays) close() {
	if a.conns == nil { // loading failed before
		return
	}
	a.conns.Close()
	a.devices.Close()
	a.slots.Close()
	a.requests.Close()
	a.parked.Close()
	a.queues.Close()
	a.routeCounters.Close()
	a.podCounters.Close()
}

// requestIndex is where the buffer of a slot's request is (request_buffer in slot.h): the
// first of each slot lie together, then those of a slot do, and the slots of a pod.
func (p *Plane) requestIndex(slot, number uint32) uint32 {
	n, pods := number&(p.pipeline-1), uint32(1)<<bpf.PodShift(uint32(p.table.Size()))
	if n == 0 {
		return slot
	}
	return p.slots + (slot%pods*abi.SlotsPerPod+slot/pods)*p.pipeline + n
}

// growSlot sees to it that a slot has memory: for one request, or if it is to be deep for
// as many as it may have at most. The sweeper looks at it then.
func (p *Plane) growSlot(index uint32, deep bool) error {
	most := uint32(1)
	if deep {
		most = p.pipeline
	}
	for n := range most {
		if err := p.arrays.requests.Grow(p.requestIndex(index, n)); err != nil {
			return err
		}
	}
	if err := p.arrays.slots.Grow(index); err != nil {
		return err
	}
	if err := p.conns.Grow(index); err != nil {
		return err
	}
	for end := atomic.LoadUint32(&p.globals.SlotsEnd); end <= index; end = atomic.LoadUint32(&p.globals.SlotsEnd) {
		atomic.CompareAndSwapUint32(&p.globals.SlotsEnd, end, index+1)
	}
	return nil
}
