package dataplane

import (
	"bytes"
	"net/url"
	"strings"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/conntable"
	"eproxy/internal/delivery"
	"eproxy/internal/pool"
	"eproxy/internal/request"
	"eproxy/internal/trace"
)

// taken is a message of the kernel path that userspace finishes.
type taken struct {
	plane    *Plane
	engine   *delivery.Engine
	recorder Recorder
	fn       *config.Function
	filter   string            // of its route
	device   *conntable.Device // nil: its connection is gone
	packetID uint16
	hold     uint32
	qos      byte
	arrived  time.Duration // monotonic()
	req      []byte
}

// newTaken names a message's function, device and route; nil while nothing can be
// delivered. Who calls has counted it in finishing.
func (p *Plane) newTaken(fn *config.Function, device, deviceGen, counter uint32) *taken {
	t := &taken{plane: p, fn: fn, filter: p.counts.RouteOf(counter).Filter, device: p.devices.Get(device, deviceGen)}
	p.mu.Lock()
	t.engine, t.recorder = p.engine, p.recorder
	p.mu.Unlock()
	if t.engine == nil {
		p.finishing.Add(-1)
		return nil
	}
	return t
}

// finish counts the message, and acknowledges it on the device's socket.
func (t *taken) finish(o delivery.Outcome) {
	t.recorder.Message(t.filter, t.fn.Name, t.qos, o.Name(), monotonic()-t.arrived)
	if t.plane.tracer.On() {
		t.show(o)
	}
	if t.device != nil {
		t.device.Info.Complete(t.packetID, broker.Hold(t.hold), o)
	}
	t.plane.finishing.Add(-1)
}

// show says what became of the message to who looks.
func (t *taken) show(o delivery.Outcome) {
	m := messageOf(t.fn, t.req)
	client := m.ClientID
	if t.device != nil {
		client = t.device.Info.ClientID
	}
	t.plane.tracer.Ended(trace.Event{Time: time.Now(), Client: client, Topic: m.Topic, QoS: t.qos, Path: trace.Fallback, Reason: "taken_over",
		Route: t.filter, Function: t.fn.Name, Status: o.Status, Outcome: o.Name(), Took: monotonic() - t.arrived})
}

// deliver sends the message's request, of which so many attempts were made already, in the
// background; cause is how the last one ended.
func (t *taken) deliver(attempts int, cause error) {
	m := messageOf(t.fn, t.req)
	m.QoS = t.qos
	m.PacketID = t.packetID
	if t.device != nil {
		m.ClientID = t.device.Info.ClientID
		m.Username = t.device.Info.Username
		m.Version = t.device.Info.Version
	}
	p := t.plane
	p.wg.Go(func() {
		arrived := time.Now().Add(t.arrived - monotonic())
		t.finish(t.engine.DeliverRequest(p.ctx, t.fn, t.req, m, arrived, attempts, cause))
	})
}

// takeOver finishes a message that the programs handed to userspace: with the
// response that userspace read, or by further attempts with the very bytes in
// the slot's buffer, of which so many are spent. The acknowledgement is written on the device's socket.
func (p *Plane) takeOver(s *slot, args bpf.EproxySlotArgs, resp *pool.Response, cause error, spent int) {
	req := p.requestOf(args)
	t := p.newTaken(s.pod.fn.Load(), args.Device, args.DeviceGen, args.Counter)
	if t == nil {
		return
	}
	t.packetID, t.hold, t.qos, t.req = args.PacketId, args.Hold, args.Qos, req
	t.arrived = time.Duration(args.TakenNs) - time.Duration(args.WaitedUs)*time.Microsecond
	status := 0
	if resp != nil {
		status = resp.Status
	}
	t.recorder.Request(t.fn.Name, s.pod.id.Address.String(), status)
	if resp != nil && resp.Status >= 200 && resp.Status < 300 {
		t.engine.Finished(t.fn.Name, t.arrived, monotonic())
		t.finish(delivery.Outcome{Acked: true, Status: resp.Status, Response: resp, Function: t.fn.Name})
		return
	}
	if cause == nil {
		cause = pool.NewStatusError(resp)
	}
	t.deliver(spent, cause)
}

// messageOf recovers what a dead letter needs from the request's bytes: the
// client may be gone by now.
func messageOf(fn *config.Function, req []byte) *request.Message {
	m := &request.Message{}
	head, body, _ := bytes.Cut(req, []byte("\r\n\r\n"))
	m.Payload = body
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, encoded, ok := bytes.Cut(line, []byte(": "))
		if !ok {
			continue
		}
		value, err := url.PathUnescape(string(encoded))
		if err != nil {
			continue
		}
		switch string(name) {
		case "ce-subject":
			m.Topic = value
		case "ce-source":
			m.ClientID, _ = strings.CutPrefix(value, request.Source(fn)+"/")
		case "X-Mqtt-Username":
			m.Username = value
		}
	}
	return m
}
