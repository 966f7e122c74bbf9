package bpf

import (
	"bytes"
	"fmt"
	"math"
	"net/url"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/request"
	"eproxy/internal/tracecontext"
)

// withTrace puts a function in place of the rig's whose messages get a traceparent.
func (r *rig) withTrace(threshold uint32) *config.Function {
	u, err := url.Parse("http://temp.local/ingest")
	if err != nil {
		r.t.Fatal(err)
	}
	fn := &config.Function{URL: u, Tracing: 1}
	v := EproxyFunction{PodCount: 1, Tracing: threshold}
	v.PrefixLen = uint32(copy(v.Prefix[:], request.Prefix(fn)))
	r.put(r.objs.Functions, uint32(0), &v)
	r.sender("dev-1", "")
	return fn
}

// traceOf is the trace context of a request, which has the very bytes that the other path makes of the message with it.
func (r *rig) traceOf(fn *config.Function, m *request.Message, id string, got []byte) tracecontext.Context {
	r.t.Helper()
	_, after, ok := bytes.Cut(got, []byte("\r\ntraceparent: "))
	value, _, _ := bytes.Cut(after, []byte("\r\n"))
	c, valid := tracecontext.Parse(string(value))
	if !ok || !valid || c.String() != string(value) {
		r.t.Fatalf("traceparent %q of\n%q", value, got)
	}
	m.Trace = string(value)
	if want := request.Build(nil, fn, m, id); !bytes.Equal(got, want) {
		r.t.Fatalf("request\n%q\nwant\n%q", got, want)
	}
	return c
}

// TestTraceparent: a message of a function with tracing has a trace of its own, the same when its request is sent again, and sampled as the
// function wants it.
func TestTraceparent(t *testing.T) {
	for _, c := range []struct {
		qos       byte
		threshold uint32
		flags     byte
	}{{0, math.MaxUint32, tracecontext.Sampled}, {1, math.MaxUint32, tracecontext.Sampled}, {1, 1, 0}} {
		t.Run(fmt.Sprintf("%d/%#x", c.qos, c.threshold), func(t *testing.T) {
			r := newRig(t, false)
			fn := r.withTrace(c.threshold)
			m := &request.Message{ClientID: "dev-1", Topic: "sensors/a/temp", QoS: c.qos, Payload: []byte("21.5")}
			seg := r.fromDevice(devISS, "PA", publish(m.Topic, c.qos, 7, string(m.Payload)))
			ret, first := r.run(r.objs.TcDeviceIn, seg)
			if ret != tcRedirect {
				t.Fatalf("verdict %d, counters %v", ret, r.allReasons())
			}
			got := checkSegment(t, first).Payload
			if trace := r.traceOf(fn, m, "0123456789ab00000001", got); trace.Flags != c.flags {
				t.Errorf("flags %#x, want %#x", trace.Flags, c.flags)
			}
			r.run(r.objs.TcDeviceIn, seg)
			var q EproxyRequest
			if err := r.objs.Requests.Lookup(uint32(rigSlot), &q); err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(q.Buf[:], got) || r.reason(EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_TAKEN) != 1 {
				t.Errorf("behind a repetition the request is\n%q, counters %v", q.Buf[:len(got)], r.allReasons())
			}
		})
	}
}

// TestTraceparentParked: messages that wait have a trace of their own each.
func TestTraceparentParked(t *testing.T) {
	r := newParkingRig(t)
	fn := r.withTrace(math.MaxUint32)
	r.free()
	r.publishes(0, "a1", "a2", "a3")
	seen := make(map[[16]byte]bool)
	spans := make(map[[8]byte]bool)
	for i, want := range []string{"a1", "a2", "a3"} {
		var q EproxyRequest
		if err := r.objs.Requests.Lookup(uint32(rigSlot), &q); err != nil {
			t.Fatal(err)
		}
		s := r.slot()
		got := q.Buf[:s.Messages[s.Head%8].RequestLen]
		_, after, _ := bytes.Cut(got, []byte("\r\nce-id: "))
		id, _, _ := bytes.Cut(after, []byte("\r\n"))
		trace := r.traceOf(fn, &request.Message{ClientID: "dev-1", Topic: "sensors/a/temp", QoS: 1, Payload: []byte(want)}, string(id), got)
		seen[trace.Trace], spans[trace.Span] = true, true
		if len(seen) != i+1 || len(spans) != i+1 {
			t.Errorf("%q has the trace of one before: %q", want, got)
		}
		r.responds()
	}
	r.waiting(0)
}

// TestTraceparentHeadroom: XDP leaves what the traceparent makes too long to TC.
func TestTraceparentHeadroom(t *testing.T) {
	r := newRig(t, false)
	r.withTrace(math.MaxUint32)
	pub := publish("sensors/a/temp", 1, 7, "21.5")
	if ret, _ := r.run(r.objs.XdpDevice, r.fromDevice(devISS, "PA", pub)); ret != xdpPass || r.reason(EproxyHookHOOK_XDP_DEVICE, EproxyReasonREASON_HEADROOM) != 1 {
		t.Errorf("verdict %d, counters %v; want it left to TC", ret, r.allReasons())
	}
}
