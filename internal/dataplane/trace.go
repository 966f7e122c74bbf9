package dataplane

import (
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
	t := &n.p.queues
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.byName[function]
	if q == nil {
		return 0, false
	}
	return q.index, true
}

// Watch has the programs show messages; trace.Programs.
func (p *Plane) Watch(f trace.Filter, show func(trace.Event)) (lost func() uint64, stop func(), err error) {
	w := &programs.Programs{Tracings: p.objs.Tracings, Traced: p.objs.Traced, Traces: p.objs.Traces, On: &p.globals.Tracing, Names: traceNames{p}}
	return w.Watch(f, show)
}

// Trace has messages that userspace finishes shown by this hub. It is called before Start.
func (p *Plane) Trace(h *trace.Hub) { p.tracer = h }
