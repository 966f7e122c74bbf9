package bpf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"eproxy/internal/abi"
)

// everything shows all messages.
func everything() EproxyTracing {
	return EproxyTracing{Sample: ^uint32(0), Queue: abi.NoIndex, Reason: abi.TraceAny}
}

func (f *EproxyTracing) byTopic(filter string) {
	f.TopicLen = uint32(copy(f.Topic[:], filter))
}

func (f *EproxyTracing) byClient(sender string) {
	f.ClientLen = uint32(copy(f.Client[:], sender))
}

// look has messages shown, and returns what reads them.
func (r *rig) look(f EproxyTracing) *tracer {
	r.t.Helper()
	r.setting(func(g *EproxyGlobals) { g.Tracing = 1 })
	r.put(r.objs.Tracings, uint32(0), &f)
	rd, err := ringbuf.NewReader(r.objs.Traces)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { rd.Close() })
	t := &tracer{r, rd}
	t.shown() // what a test before this one has left
	return t
}

func (r *rig) setting(f func(g *EproxyGlobals)) {
	r.t.Helper()
	var g EproxyGlobals
	if err := r.objs.Settings.Lookup(uint32(0), &g); err != nil {
		r.t.Fatal(err)
	}
	f(&g)
	r.put(r.objs.Settings, uint32(0), &g)
}

type tracer struct {
	*rig
	reader *ringbuf.Reader
}

// shown are the records since the last call: programs have written all of theirs when they end.
func (t *tracer) shown() (out []EproxyTraceEvent) {
	t.t.Helper()
	t.reader.SetDeadline(time.Unix(1, 0))
	for {
		rec, err := t.reader.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out
		}
		if err != nil {
			t.t.Fatal(err)
		}
		var e EproxyTraceEvent
		if err := binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, &e); err != nil {
			t.t.Fatal(err)
		}
		out = append(out, e)
	}
}

// only is the one record since the last call.
func (t *tracer) only() EproxyTraceEvent {
	t.t.Helper()
	all := t.shown()
	if len(all) != 1 {
		t.t.Fatalf("%d messages are shown, want 1: %+v", len(all), all)
	}
	return all[0]
}

func (e *EproxyTraceEvent) name() string { return string(e.Topic[:e.TopicLen]) }

// TestTraceShowsAnswered: a message that a pod answered is shown once, with what it was and what became of it, at XDP
// and at TC; nothing of it is left.
func TestTraceShowsAnswered(t *testing.T) {
	for _, hook := range []EproxyHook{EproxyHookHOOK_XDP_DEVICE, EproxyHookHOOK_TC_DEVICE_IN} {
		r := newRig(t, false)
		r.pod(func(p *EproxyPod) { p.Counter = 0 })
		tr := r.look(everything())
		prog := r.objs.XdpDevice
		if hook == EproxyHookHOOK_TC_DEVICE_IN {
			prog = r.objs.TcDeviceIn
		}
		began := uint64(monotonic())
		r.run(prog, r.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 7, "x")))
		if got := tr.shown(); len(got) != 0 {
			t.Fatalf("shown before it is answered: %+v", got)
		}
		r.run(r.objs.TcPodIn, r.fromPod(podISS, r.readConn(rigSlot).TxNxt, "PA", []byte(strings.Replace(okResponse, "200", "207", 1))))
		e := tr.only()
		if e.name() != "sensors/a/temp" || e.TopicCut != 0 || e.Qos != 1 || e.Status != 207 || EproxyHook(e.Hook) != hook || EproxyReason(e.Reason) != EproxyReasonREASON_TAKEN ||
			e.Device != rigDevice || e.DeviceGen != 1 || e.Pod != 0 || e.Counter != 0 || e.WaitedNs != 0 {
			t.Errorf("%+v", e)
		}
		if now := uint64(monotonic()); e.EndedNs < began || e.EndedNs > now || e.TookNs == 0 || e.TookNs > now-began {
			t.Errorf("ended at %d after %d ns, between %d and %d", e.EndedNs, e.TookNs, began, now)
		}
		if n := r.traced(); n != 0 {
			t.Errorf("%d messages are remembered", n)
		}
	}
}

// traced is how many messages are remembered.
func (r *rig) traced() (n int) {
	r.t.Helper()
	var k EproxyTraceKey
	var v EproxyTraceEvent
	for it := r.objs.Traced.Iterate(); it.Next(&k, &v); {
		n++
	}
	return n
}

// forget removes what is remembered.
func (r *rig) forget() {
	r.t.Helper()
	var k EproxyTraceKey
	for r.objs.Traced.NextKey(nil, &k) == nil {
		if err := r.objs.Traced.Delete(&k); err != nil {
			r.t.Fatal(err)
		}
	}
}

// TestTraceShowsLeft: each kind of message that is left to the server is shown by TC, with its reason and, where its
// beginning is known, its topic; and so does the client's entry remember it. Packets of other kinds, and further segments
// of a message, are not.
func TestTraceShowsLeft(t *testing.T) {
	unreadable := map[EproxyReason]bool{EproxyReasonREASON_TCP_FLAGS: true, EproxyReasonREASON_NOT_NEXT: true, EproxyReasonREASON_LOST_TRACK: true, EproxyReasonREASON_NOT_OPEN: true}
	silent := map[EproxyReason]bool{EproxyReasonREASON_NOT_PUBLISH: true, EproxyReasonREASON_NO_BOUNDARY: true, EproxyReasonREASON_BAD_CHECKSUM: true}
	for _, c := range refusals() {
		if c.xdp {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, false)
			if c.rig != nil {
				c.rig(r)
			}
			tr := r.look(everything())
			pub := c.pub
			if pub == nil {
				pub = publish("sensors/a/temp", 1, 7, "x")
			}
			s := r.fromDevice(devISS, "PA", pub)
			if c.seg != nil {
				c.seg(&s)
			}
			r.run(r.objs.TcDeviceIn, s)
			var d EproxyDevice
			if err := r.objs.Devices.Lookup(uint32(0), &d); err != nil {
				t.Fatal(err)
			}
			if silent[c.reason] {
				if got := tr.shown(); len(got) != 0 || d.NotTaken != 0 {
					t.Errorf("shown: %+v, remembered: %d", got, d.NotTaken)
				}
				return
			}
			e := tr.only()
			if EproxyReason(e.Reason) != c.reason || EproxyReason(d.NotTaken) != c.reason {
				t.Errorf("reason %d is shown, %d remembered, want %d", e.Reason, d.NotTaken, c.reason)
			}
			want, cut := topicIn(pub)
			if unreadable[c.reason] {
				want, cut = "", false
			}
			if e.name() != want || e.TopicCut != b2u(cut) {
				t.Errorf("topic %q is shown, cut %d, want %q, %v", e.name(), e.TopicCut, want, cut)
			}
			if e.Status != 0 || e.Pod != abi.NoIndex || e.Counter != abi.NoIndex || e.Device != rigDevice || EproxyHook(e.Hook) != EproxyHookHOOK_TC_DEVICE_IN || e.EndedNs == 0 {
				t.Errorf("%+v", e)
			}
		})
	}
}

// topicIn is what the programs show of the topic of a PUBLISH, and whether it is longer; empty: it is not there.
func topicIn(pub []byte) (name string, cut bool) {
	at := 1
	for i := 0; i < 4 && at < len(pub); i++ {
		at++
		if pub[at-1] < 0x80 {
			break
		}
	}
	if len(pub) < at+2 {
		return "", false
	}
	n := int(pub[at])<<8 | int(pub[at+1])
	name = string(pub[at+2 : min(at+2+min(n, abi.TopicMax), len(pub))])
	return name, len(name) < n
}

// TestTraceFilters: what is not asked for is not shown, neither of what is answered nor of what is left.
func TestTraceFilters(t *testing.T) {
	for name, c := range map[string]struct {
		filter         func(f *EproxyTracing)
		answered, left bool
	}{
		"all":               {func(*EproxyTracing) {}, true, true},
		"topic":             {func(f *EproxyTracing) { f.byTopic("sensors/+/temp") }, true, true},
		"other topic":       {func(f *EproxyTracing) { f.byTopic("sensors/+/hum") }, false, false},
		"client":            {func(f *EproxyTracing) { f.byClient("dev-1") }, true, true},
		"other client":      {func(f *EproxyTracing) { f.byClient("dev-2") }, false, false},
		"shorter client":    {func(f *EproxyTracing) { f.byClient("dev-") }, false, false},
		"longer client":     {func(f *EproxyTracing) { f.byClient("dev-1\r\n") }, false, false},
		"function":          {func(f *EproxyTracing) { f.Queue = 0 }, true, true}, // of what is left it is not known
		"other function":    {func(f *EproxyTracing) { f.Queue = 1 }, false, true},
		"taken":             {func(f *EproxyTracing) { f.Reason = uint8(EproxyReasonREASON_TAKEN) }, true, false},
		"left for a reason": {func(f *EproxyTracing) { f.Reason = uint8(EproxyReasonREASON_QOS2) }, false, true},
		"another reason":    {func(f *EproxyTracing) { f.Reason = uint8(EproxyReasonREASON_RETAIN) }, false, false},
		"status":            {func(f *EproxyTracing) { f.Status = 200 }, true, false},
		"other status":      {func(f *EproxyTracing) { f.Status = 204 }, false, false},
		"none of a sample":  {func(f *EproxyTracing) { f.Sample = 0 }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			f := everything()
			c.filter(&f)
			tr := r.look(f)
			left := publish("sensors/a/temp", 2, 7, "x")
			r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, "PA", left))
			if got := len(tr.shown()); got != map[bool]int{true: 1}[c.left] {
				t.Errorf("what is left is shown %d times", got)
			}
			r = newRig(t, false)
			r.setting(func(g *EproxyGlobals) { g.Tracing = 1 })
			r.take(t)
			r.run(r.objs.TcPodIn, r.fromPod(podISS, r.readConn(rigSlot).TxNxt, "PA", []byte(okResponse)))
			if got := len(tr.shown()); got != map[bool]int{true: 1}[c.answered] {
				t.Errorf("what is answered is shown %d times", got)
			}
			if n := r.traced(); n != 0 {
				t.Errorf("%d messages are remembered", n)
			}
		})
	}
}

// TestTraceOff: while nobody looks nothing is shown or remembered, but why the client's latest message was left.
func TestTraceOff(t *testing.T) {
	r := newRig(t, false)
	tr := r.look(everything())
	r.setting(func(g *EproxyGlobals) { g.Tracing = 0 })
	r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, "PA", publish("sensors/a/temp", 2, 7, "x")))
	r = newRig(t, false)
	r.take(t)
	if n := r.traced(); n != 0 {
		t.Errorf("%d messages are remembered", n)
	}
	r.run(r.objs.TcPodIn, r.fromPod(podISS, r.readConn(rigSlot).TxNxt, "PA", []byte(okResponse)))
	if got := tr.shown(); len(got) != 0 {
		t.Errorf("shown: %+v", got)
	}
}

// TestTraceParked: of a message that waited for a connection it is shown that it did, and how long.
func TestTraceParked(t *testing.T) {
	r := newParkingRig(t)
	tr := r.look(everything())
	r.publishes(0, "a")
	r.waiting(1)
	r.free()
	r.send()
	r.responds()
	e := tr.only()
	if EproxyReason(e.Reason) != EproxyReasonREASON_PARKED || e.Status != 200 || e.name() != "sensors/a/temp" || e.WaitedNs == 0 || e.WaitedNs > e.TookNs {
		t.Errorf("%+v", e)
	}
}

// TestTraceIsBounded: what does not fit is counted, and the messages go their way.
func TestTraceIsBounded(t *testing.T) {
	r := newRig(t, false)
	tr := r.look(everything())
	t.Cleanup(r.forget)
	for i := range r.objs.Traced.MaxEntries() {
		r.put(r.objs.Traced, &EproxyTraceKey{Device: 1 << 20, DeviceSeq: i}, &EproxyTraceEvent{})
	}
	r.take(t)
	r.run(r.objs.TcPodIn, r.fromPod(podISS, r.readConn(rigSlot).TxNxt, "PA", []byte(okResponse)))
	if got := tr.shown(); len(got) != 0 {
		t.Errorf("shown: %+v", got)
	}
	tr.expectLost(1)
	const most = 1 << 18 // bytes of the ring
	beyond := r.readConn(rigDevice).RxNxt + 1
	for range most / 100 {
		r.run(r.objs.TcDeviceIn, r.fromDevice(beyond, "PA", publish("sensors/a/temp", 2, 7, "x")))
	}
	shown := uint64(len(tr.shown()))
	if shown == 0 || shown >= most/100 {
		t.Fatalf("%d of %d are shown", shown, most/100)
	}
	tr.expectLost(1 + most/100 - shown)
}

func (t *tracer) expectLost(n uint64) {
	t.t.Helper()
	var f EproxyTracing
	if err := t.objs.Tracings.Lookup(uint32(0), &f); err != nil || f.Lost != n {
		t.t.Errorf("%d are counted as lost (%v), want %d", f.Lost, err, n)
	}
}

// TestTraceSample: about as many as were asked for, of those that are left and those that are answered.
func TestTraceSample(t *testing.T) {
	r := newRig(t, false)
	f := everything()
	f.Sample = 1 << 30 // a quarter
	tr := r.look(f)
	const n = 1000
	for range n {
		r.run(r.objs.TcDeviceIn, r.fromDevice(devISS+1, "PA", publish("sensors/a/temp", 2, 7, "x")))
	}
	if got := len(tr.shown()); got < n/8 || got > n/2 { // 125 is nine standard deviations away
		t.Errorf("%d of %d are shown, want about %d", got, n, n/4)
	}
}
