package takeover

import (
	"bytes"
	"net/url"
	"strings"
	"time"

	"eproxy/internal/broker"
	"eproxy/internal/clock"
	"eproxy/internal/config"
	"eproxy/internal/conntable"
	"eproxy/internal/delivery"
	"eproxy/internal/request"
	"eproxy/internal/trace"
	"eproxy/internal/tracecontext"
)

// taken is a message of the kernel path that userspace finishes.
type taken struct {
	all      *Messages
	engine   *delivery.Engine
	recorder Recorder
	fn       *config.Function
	filter   string            // of its route
	device   *conntable.Device // nil: its connection is gone
	packetID uint16
	hold     uint32
	qos      byte
	arrived  time.Duration // clock.Monotonic()
	req      []byte
	place    *place
}

// finish counts the message, and acknowledges it on the device's socket.
func (t *taken) finish(o delivery.Outcome) {
	t.recorder.Message(t.filter, t.fn.Name, t.qos, o.Name(), clock.Monotonic()-t.arrived)
	if t.all.tracer.On() || t.all.spans.On() && t.fn.Tracing > 0 {
		t.show(o)
	}
	if t.device != nil {
		t.device.Info.Complete(t.packetID, broker.Hold(t.hold), o)
	}
	t.all.standing.leave(t.place)
	t.all.Cancel()
}

// show says what became of the message to who looks, and to who gets its span.
func (t *taken) show(o delivery.Outcome) {
	m := messageOf(t.fn, t.req)
	client := m.ClientID
	if t.device != nil {
		client = t.device.Info.ClientID
	}
	e := trace.Event{Time: time.Now(), Client: client, Topic: m.Topic, QoS: t.qos, Path: trace.Fallback, Reason: "taken_over",
		Route: t.filter, Function: t.fn.Name, Status: o.Status, Outcome: o.Name(), Took: clock.Monotonic() - t.arrived}
	t.all.tracer.Ended(e)
	t.all.spans.Ended(m.Trace, e)
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
	arrived := time.Now().Add(t.arrived - clock.Monotonic())
	if m.MessageExpiry > 0 {
		m.Expires = arrived.Add(time.Duration(m.MessageExpiry) * time.Second)
	}
	t.all.wg.Go(func() {
		t.finish(t.engine.DeliverRequest(t.all.ctx, t.fn, t.req, m, arrived, t.place.turn, attempts, cause))
	})
}

// messageOf recovers what a dead letter, or a spool, needs from the request's bytes: the
// client may be gone by now.
func messageOf(fn *config.Function, req []byte) *request.Message {
	m := &request.Message{}
	request.ReadProperties(m, req)
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
		case "ce-id":
			m.EventID = value
		case "ce-subject":
			m.Topic = value
		case "ce-source":
			m.ClientID, _ = strings.CutPrefix(value, request.Source(fn)+"/")
		case "X-Mqtt-Username":
			m.Username = value
		case tracecontext.Parent: // the programs take no message of a publisher that has sent one
			if c, ok := tracecontext.Parse(value); ok && fn.Tracing > 0 {
				m.Trace = &request.Trace{Context: c, Made: true}
			}
		}
	}
	return m
}
