package dataplane

import (
	"eproxy/internal/abi"
	"eproxy/internal/counters"
	"eproxy/internal/trace"
	"eproxy/internal/trace/programs"
)

// traceNames says what the numbers in what the programs show mean; programs.Names.
type traceNames struct{ p *Plane }

func (n traceNames) Client(index, gen uint32) string {
	if d := n.p.devices.Get(index, gen); d != nil {
		return d.Info.ClientID
	}
	return ""
}

func (n traceNames) Route(counter uint32) counters.Route { return n.p.counts.RouteOf(counter) }
func (n traceNames) Pod(counter uint32) counters.Pod     { return n.p.counts.PodOf(counter) }

func (n traceNames) Queue(function string) (index uint32, ok bool) {
	index = n.p.queues.Index(function)
	return index, index != abi.NoIndex
}

// Watch has the programs show messages; trace.Programs.
func (p *Plane) Watch(f trace.Filter, show func(trace.Event)) (lost func() uint64, stop func(), err error) {
	w := &programs.Programs{Tracings: p.path.Objects.Tracings, Traced: p.path.Objects.Traced, Traces: p.path.Objects.Traces, On: &p.mem.Globals.Tracing, Names: traceNames{p}}
	return w.Watch(f, show)
}

// Trace has messages that userspace finishes shown by this hub. It is called before Start.
func (p *Plane) Trace(h *trace.Hub) { p.messages.Trace(h) }
