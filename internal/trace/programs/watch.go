package programs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/counters"
	"eproxy/internal/reason"
	"eproxy/internal/request"
	"eproxy/internal/trace"
	"eproxy/internal/tracecontext"
)

const (
	// sweepInterval is how often it is looked for messages that were not answered in the kernel.
	sweepInterval = 10 * time.Second
	// forgetAfter is how long they are remembered: the programs would answer them no more, or it is not worth the room.
	forgetAfter = time.Minute
)

// Names says what the numbers in the maps mean.
type Names interface {
	Client(index, gen uint32) string // identifier; empty: it is gone
	Route(counter uint32) counters.Route
	Pod(counter uint32) counters.Pod
	Queue(function string) (index uint32, ok bool)
}

// Programs are the maps by which the programs are asked. They show messages to one that looks, and to one that gets the spans of those that
// are sampled.
type Programs struct {
	Tracings, Traced, Traces *ebpf.Map
	On                       *uint32 // tracing of the settings
	Names                    Names

	mu     sync.Mutex
	reader *reader // nil: nobody looks, nobody gets spans
	look   atomic.Pointer[func(trace.Event)]
	span   atomic.Pointer[func(*request.Trace, trace.Event)]
}

var _ trace.Programs = (*Programs)(nil)

// reader reads what the programs show.
type reader struct {
	ring    *ringbuf.Reader
	over    chan struct{}
	running sync.WaitGroup
}

// Watch has messages shown; trace.Programs. One at a time.
func (p *Programs) Watch(f trace.Filter, show func(trace.Event)) (lost func() uint64, stop func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.filter(f)
	if err != nil {
		return nil, nil, err
	}
	if err := p.begin(); err != nil {
		return nil, nil, err
	}
	before := p.Lost()
	v.Lost = before
	if err := p.Tracings.Put(uint32(0), &v); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("say which messages are to be shown: %w", err), p.end())
	}
	p.look.Store(&show)
	atomic.OrUint32(p.On, abi.TraceLook)
	return func() uint64 { return p.Lost() - before }, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		atomic.AndUint32(p.On, ^uint32(abi.TraceLook))
		if p.span.Load() != nil {
			p.look.Store(nil)
			p.unlook()
			return
		}
		_ = p.end()
		p.look.Store(nil)
	}, nil
}

// Spans has the messages shown whose trace is sampled, until stop is called. One at a time.
func (p *Programs) Spans(show func(*request.Trace, trace.Event)) (stop func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.begin(); err != nil {
		return nil, err
	}
	p.span.Store(&show)
	atomic.OrUint32(p.On, abi.TraceSpan)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		atomic.AndUint32(p.On, ^uint32(abi.TraceSpan))
		if p.look.Load() == nil {
			_ = p.end()
		}
		p.span.Store(nil)
	}, nil
}

// begin reads what the programs show from now on, unless that is read already; p.mu is held.
func (p *Programs) begin() error {
	if p.reader != nil {
		return nil
	}
	ring, err := ringbuf.NewReader(p.Traces)
	if err != nil {
		return fmt.Errorf("open ring of messages: %w", err)
	}
	if err := p.clear(ring); err != nil {
		return errors.Join(err, ring.Close())
	}
	r := &reader{ring: ring, over: make(chan struct{})}
	r.running.Go(func() { p.read(ring) })
	r.running.Go(func() { p.sweep(r.over) })
	p.reader = r
	return nil
}

// end reads no more, unless somebody else still wants it; p.mu is held. When it returns nothing more is shown.
func (p *Programs) end() error {
	if atomic.LoadUint32(p.On) != 0 || p.reader == nil {
		return nil
	}
	r := p.reader
	p.reader = nil
	close(r.over)
	err := r.ring.Close()
	r.running.Wait()
	p.forget(func(*bpf.EproxyTraceEvent) bool { return true })
	return err
}

// filter is a filter as the programs know it.
func (p *Programs) filter(f trace.Filter) (v bpf.EproxyTracing, err error) {
	v = bpf.EproxyTracing{Sample: uint32(min(f.Sample*(1<<32), 1<<32-1)), Queue: abi.NoIndex, Reason: abi.TraceAny, Status: uint16(f.Status)}
	v.TopicLen = uint32(copy(v.Topic[:], f.Topic))
	v.ClientLen = uint32(copy(v.Client[:], request.EncodeValue(nil, f.Client)))
	if f.Function != "" {
		ok := false
		if v.Queue, ok = p.Names.Queue(f.Function); !ok {
			return v, fmt.Errorf("function %q: no such function", f.Function)
		}
	}
	if f.Reason != "" {
		v.Reason = reasonNumber(f.Reason)
	}
	return v, nil
}

// reasonNumber is the number of a reason; of one that is not the programs' a number that none has.
func reasonNumber(name string) uint8 {
	for i, r := range reason.All {
		if r.Name == name {
			return uint8(i)
		}
	}
	return uint8(len(reason.All))
}

// clear removes what was shown before and nobody has read, and what is remembered.
func (p *Programs) clear(r *ringbuf.Reader) error {
	p.forget(func(*bpf.EproxyTraceEvent) bool { return true })
	r.SetDeadline(time.Unix(1, 0))
	defer r.SetDeadline(time.Time{})
	for {
		if _, err := r.Read(); errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read ring of messages: %w", err)
		}
	}
}

// Lost is how many messages found no room, since the maps were made.
func (p *Programs) Lost() uint64 {
	var v bpf.EproxyTracing
	if err := p.Tracings.Lookup(uint32(0), &v); err != nil {
		return 0
	}
	return v.Lost
}

// read shows what the programs show until the reader is closed.
func (p *Programs) read(r *ringbuf.Reader) {
	var rec ringbuf.Record
	for r.ReadInto(&rec) == nil {
		var e bpf.EproxyTraceEvent
		if binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, &e) == nil {
			p.show(&e)
		}
	}
}

// show shows a record to whom it is for.
func (p *Programs) show(r *bpf.EproxyTraceEvent) {
	e := p.event(r)
	if look := p.look.Load(); look != nil && r.Who&abi.TraceLook != 0 {
		(*look)(e)
	}
	if span := p.span.Load(); span != nil && r.Who&abi.TraceSpan != 0 {
		(*span)(traceOf(r), e)
	}
}

// traceOf is the trace that began with a message.
func traceOf(r *bpf.EproxyTraceEvent) *request.Trace {
	t := &request.Trace{Made: true, Context: tracecontext.Context{Flags: tracecontext.Sampled}}
	for i, word := range r.Trace {
		binary.BigEndian.PutUint32(t.Context.Trace[4*i:], word)
	}
	for i, word := range r.Span {
		binary.BigEndian.PutUint32(t.Context.Span[4*i:], word)
	}
	return t
}

// unlook has nobody shown what was remembered for who has looked.
func (p *Programs) unlook() {
	p.forget(func(e *bpf.EproxyTraceEvent) bool { return e.Who == abi.TraceLook })
	var k bpf.EproxyTraceKey
	var e bpf.EproxyTraceEvent
	for it := p.Traced.Iterate(); it.Next(&k, &e); {
		if e.Who&abi.TraceLook != 0 {
			e.Who = abi.TraceSpan
			_ = p.Traced.Update(&k, &e, ebpf.UpdateExist) // it may be answered by now
		}
	}
}

// sweep forgets messages that userspace has finished.
func (p *Programs) sweep(over <-chan struct{}) {
	t := time.NewTicker(sweepInterval)
	defer t.Stop()
	for {
		select {
		case <-over:
			return
		case <-t.C:
			now := clock.Monotonic()
			p.forget(func(e *bpf.EproxyTraceEvent) bool { return now-time.Duration(e.EndedNs) > forgetAfter })
		}
	}
}

// forget removes those of the messages that are remembered that are to be.
func (p *Programs) forget(which func(*bpf.EproxyTraceEvent) bool) {
	var k bpf.EproxyTraceKey
	var e bpf.EproxyTraceEvent
	var keys []bpf.EproxyTraceKey
	for it := p.Traced.Iterate(); it.Next(&k, &e); {
		if which(&e) {
			keys = append(keys, k)
		}
	}
	for i := range keys {
		_ = p.Traced.Delete(&keys[i]) // it may be answered by now
	}
}

// event is a record of the programs in words.
func (p *Programs) event(r *bpf.EproxyTraceEvent) trace.Event {
	e := trace.Event{
		Time:     time.Now().Add(time.Duration(r.EndedNs) - clock.Monotonic()),
		Client:   p.Names.Client(r.Device, r.DeviceGen),
		Topic:    string(r.Topic[:min(int(r.TopicLen), len(r.Topic))]),
		TopicCut: r.TopicCut != 0,
		QoS:      r.Qos,
		Path:     trace.Left,
		Took:     time.Duration(r.TookNs),
		Waited:   time.Duration(r.WaitedNs),
		Status:   int(r.Status),
	}
	if int(r.Hook) < len(reason.Hooks) {
		e.Hook = reason.Hooks[r.Hook]
	}
	if int(r.Reason) < len(reason.All) {
		e.Reason = reason.All[r.Reason].Name
	}
	if r.Status == 0 {
		return e
	}
	e.Path, e.Outcome = trace.Kernel, "delivered"
	if bpf.EproxyReason(r.Reason) == bpf.EproxyReasonREASON_PARKED {
		e.Path = trace.Parked
	}
	route := p.Names.Route(r.Counter)
	e.Route, e.Function = route.Filter, route.Function
	if pod := p.Names.Pod(r.Pod); pod.Address.IsValid() {
		e.Pod = pod.Address.String()
	}
	return e
}
