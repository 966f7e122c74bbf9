package dataplane

import (
	"eproxy/internal/abi"
	"eproxy/internal/counters"
	"eproxy/internal/spans"
	"eproxy/internal/trace"
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
	return p.shown.Watch(f, show)
}

// Export has the spans of messages exported, on both paths, until Close. It is called before Start.
func (p *Plane) Export(e *spans.Exporter) error {
	if !e.On() {
		return nil
	}
	p.messages.Export(e)
	e.LostElsewhere(p.shown.Lost)
	stop, err := p.shown.Spans(e.Ended)
	if err != nil {
		return err
	}
	p.run.wg.Go(func() {
		<-p.run.ctx.Done()
		stop()
	})
	return nil
}

// Trace has messages that userspace finishes shown by this hub. It is called before Start.
func (p *Plane) Trace(h *trace.Hub) { p.messages.Trace(h) }
