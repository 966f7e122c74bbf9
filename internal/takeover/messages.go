package takeover

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/config"
	"eproxy/internal/conntable"
	"eproxy/internal/counters"
	"eproxy/internal/delivery"
	"eproxy/internal/pool"
	"eproxy/internal/spans"
	"eproxy/internal/trace"
)

// Recorder counts messages that the kernel path took and userspace finished, and the requests of theirs that the programs
// have sent.
type Recorder interface {
	Message(route, function string, qos byte, outcome string, took time.Duration)
	// Request counts a request that was not answered in the kernel path; status 0: no response.
	Request(function, pod string, status int)
}

// Messages are those of the kernel path that userspace finishes. Each is counted from Begin on, which is called
// before the programs no longer count it, until it has an outcome, or Cancel. All methods may be called at any time.
type Messages struct {
	ctx     context.Context
	wg      *sync.WaitGroup
	counts  *counters.Table
	devices *conntable.Devices
	open    atomic.Int64 // that have no outcome yet

	standing standing

	mu       sync.Mutex
	engine   *delivery.Engine
	recorder Recorder
	tracer   *trace.Hub      // nil: nobody can look at messages; set before Start
	spans    *spans.Exporter // nil: nobody gets spans; set before Start
}

// New makes Messages, of these devices and counters. They are delivered in goroutines of wg until ctx ends, from Start on.
func New(ctx context.Context, wg *sync.WaitGroup, counts *counters.Table, devices *conntable.Devices) *Messages {
	return &Messages{ctx: ctx, wg: wg, counts: counts, devices: devices}
}

// Order keeps the order of messages of ordered routes, as the programs have it. It is called before Start.
func (m *Messages) Order(l Lines) { m.standing.programs = l }

// Trace has messages shown by this hub. It is called before Start.
func (m *Messages) Trace(h *trace.Hub) { m.tracer = h }

// Export has the spans of messages exported. It is called before Start.
func (m *Messages) Export(e *spans.Exporter) { m.spans = e }

// Start has messages delivered by engine and counted by rec. Those of before are not: there can be no client yet.
func (m *Messages) Start(engine *delivery.Engine, rec Recorder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.engine, m.recorder = engine, rec
}

// Open is how many have no outcome yet.
func (m *Messages) Open() int { return int(m.open.Load()) }

// Begin counts one that is about to be taken over.
func (m *Messages) Begin() { m.open.Add(1) }

// Cancel: it was not, or is done.
func (m *Messages) Cancel() { m.open.Add(-1) }

// name names a message's function, device and route; nil while nothing can be
// delivered. Who calls has counted it by Begin.
func (m *Messages) name(fn *config.Function, device, deviceGen, counter uint32, p *place) *taken {
	t := &taken{all: m, fn: fn, filter: m.counts.RouteOf(counter).Filter, device: m.devices.Get(device, deviceGen), place: p}
	m.mu.Lock()
	t.engine, t.recorder = m.engine, m.recorder
	m.mu.Unlock()
	if t.engine == nil {
		m.standing.leave(p)
		m.Cancel()
		return nil
	}
	return t
}

// Sent is a message whose request a program has sent to a pod, and how that ended.
type Sent struct {
	Function *config.Function
	Pod      string // its address
	Args     bpf.EproxySlotArgs
	Request  []byte         // the very bytes
	Response *pool.Response // that userspace read; nil: none
	Cause    error          // why there is none
	Spent    int            // attempts that it counts for
}

// FinishSent finishes a message that has had a place on a slot: with the response that userspace read, or by
// further attempts.
func (m *Messages) FinishSent(s Sent) {
	a := &s.Args
	t := m.name(s.Function, a.Device, a.DeviceGen, a.Counter, m.standing.join(a.Line, a.NumberInLine, true))
	if t == nil {
		return
	}
	t.packetID, t.hold, t.qos, t.req = a.PacketId, a.Hold, a.Qos, s.Request
	t.arrived = time.Duration(a.TakenNs) - time.Duration(a.WaitedUs)*time.Microsecond
	status := 0
	if s.Response != nil {
		status = s.Response.Status
	}
	t.recorder.Request(t.fn.Name, s.Pod, status)
	if s.Response != nil && status >= 200 && status < 300 {
		t.engine.Finished(t.fn.Name, t.arrived, clock.Monotonic())
		t.finish(delivery.Outcome{Acked: true, Status: status, Response: s.Response, Function: t.fn.Name})
		return
	}
	cause := s.Cause
	if cause == nil {
		cause = pool.NewStatusError(s.Response)
	}
	t.deliver(s.Spent, cause)
}

// FinishParked finishes a message that has waited for a place, in vain, for this reason. line is the name of that in which it stood, if it
// did in one.
func (m *Messages) FinishParked(fn *config.Function, msg bpf.EproxyMessage, line uint64, request []byte, cause error) {
	t := m.name(fn, msg.Origin, msg.OriginGen, msg.Counter, m.standing.join(line, msg.Line, false))
	if t == nil {
		return
	}
	t.packetID, t.hold, t.qos, t.arrived, t.req = msg.PacketId, msg.Hold, msg.Qos, time.Duration(msg.TakenNs), request
	t.deliver(0, cause)
}
