package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"net/url"
	"testing"

	"eproxy/internal/abi"
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
	m.Trace = &request.Trace{Context: c, Made: true}
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

// TestSpans: a message whose trace is sampled is shown to who gets the spans, with its trace, whatever who looks has asked for, and to that one
// as well if it has asked for it; others are shown to who looks alone.
func TestSpans(t *testing.T) {
	const look, span = uint32(abi.TraceLook), uint32(abi.TraceSpan)
	for _, c := range []struct {
		on        uint32
		threshold uint32 // of the function; 0: without traces
		topic     string // that is looked at
		status    uint16
		who       uint32 // 0: not shown
	}{
		{0, math.MaxUint32, "#", 0, 0},
		{span, math.MaxUint32, "#", 0, span},
		{span, 1, "#", 0, 0},
		{span, 0, "#", 0, 0},
		{look, math.MaxUint32, "#", 0, look},
		{look | span, math.MaxUint32, "#", 0, look | span},
		{look | span, math.MaxUint32, "other", 0, span},
		{look | span, math.MaxUint32, "#", 404, span},
		{look | span, 1, "#", 0, look},
		{look | span, 1, "other", 0, 0},
	} {
		t.Run(fmt.Sprintf("%d/%#x/%s/%d", c.on, c.threshold, c.topic, c.status), func(t *testing.T) {
			r := newRig(t, false)
			fn := r.withTrace(c.threshold)
			f := everything()
			f.byTopic(c.topic)
			f.Status = c.status
			tr := r.look(f)
			r.setting(func(g *EproxyGlobals) { g.Tracing = c.on })
			ret, out := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 7, "x")))
			if ret != tcRedirect {
				t.Fatalf("verdict %d, counters %v", ret, r.allReasons())
			}
			r.run(r.objs.TcPodIn, r.fromPod(podISS, r.readConn(rigSlot).TxNxt, "PA", []byte(okResponse)))
			all := tr.shown()
			if c.who == 0 {
				if len(all) != 0 {
					t.Errorf("shown: %+v", all)
				}
				return
			}
			if len(all) != 1 || uint32(all[0].Who) != c.who || all[0].Status != 200 {
				t.Fatalf("shown: %+v, want who %d", all, c.who)
			}
			want := r.traceOf(fn, &request.Message{ClientID: "dev-1", Topic: "sensors/a/temp", QoS: 1, Payload: []byte("x")}, "0123456789ab00000001", checkSegment(t, out).Payload)
			if got := fmt.Sprintf("%08x-%08x", all[0].Trace, all[0].Span); c.who&span != 0 && got != fmt.Sprintf("%08x-%08x", words(want.Trace[:]), words(want.Span[:])) {
				t.Errorf("trace %s, want %v", got, want)
			}
			if n := r.traced(); n != 0 {
				t.Errorf("%d messages are remembered", n)
			}
		})
	}
}

// words are bytes as the programs have them, most significant first.
func words(b []byte) (out []uint32) {
	for ; len(b) > 0; b = b[4:] {
		out = append(out, binary.BigEndian.Uint32(b))
	}
	return out
}
