package bpf

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

func (r *rig) slot() EproxySlot {
	r.t.Helper()
	var s EproxySlot
	if err := r.objs.Slots.Lookup(uint32(rigSlot), &s); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// neverQuiet: the slot's next response is not acknowledged for coming late after
// the one before; its skb becomes the device's notice.
func (r *rig) neverQuiet() {
	r.t.Helper()
	s := r.slot()
	s.RespondedNs = 1 << 62
	r.put(r.objs.Slots, uint32(rigSlot), &s)
}

// TestIdleSlotSegments: what an idle slot's connection does with segments that
// answer nothing.
func TestIdleSlotSegments(t *testing.T) {
	x := []byte("x")
	idle, retired := EproxySlotStateSLOT_IDLE, EproxySlotStateSLOT_RETIRED
	for name, c := range map[string]struct {
		seg     func(r *rig) seg
		verdict uint32
		reasons []EproxyReason
		state   EproxySlotState
	}{
		"bare ack":         {func(r *rig) seg { return r.fromPod(podISS, sltISS, "A", nil) }, tcShot, reasons(EproxyReasonREASON_ACK_ABSORBED), idle},
		"window closes":    {func(r *rig) seg { r.change(rigSlot, shut); return r.fromPod(podISS, sltISS, "A", nil) }, tcOK, reasons(EproxyReasonREASON_TRANSLATED), idle},
		"keepalive probe":  {func(r *rig) seg { return r.fromPod(podISS-1, sltISS, "A", nil) }, tcRedirect, reasons(EproxyReasonREASON_OLD_DUPLICATE), idle},
		"old duplicate":    {func(r *rig) seg { return r.fromPod(podISS-1, sltISS, "PA", x) }, tcRedirect, reasons(EproxyReasonREASON_OLD_DUPLICATE), idle},
		"payload ahead":    {func(r *rig) seg { return r.fromPod(podISS+9, sltISS, "PA", x) }, tcRedirect, reasons(EproxyReasonREASON_AHEAD), idle},
		"ack of unsent":    {func(r *rig) seg { return r.fromPod(podISS, sltISS+1, "A", nil) }, tcRedirect, reasons(EproxyReasonREASON_CHALLENGE), idle},
		"no ack flag":      {func(r *rig) seg { return r.fromPod(podISS, sltISS, "P", x) }, tcShot, reasons(EproxyReasonREASON_CHALLENGE), idle},
		"rst in window":    {func(r *rig) seg { return r.fromPod(podISS+1, sltISS, "RA", nil) }, tcRedirect, reasons(EproxyReasonREASON_CHALLENGE), idle},
		"rst at the next":  {func(r *rig) seg { return r.fromPod(podISS, sltISS, "RA", nil) }, tcOK, reasons(EproxyReasonREASON_TRANSLATED, EproxyReasonREASON_SLOT_RETIRED), retired},
		"fin":              {func(r *rig) seg { return r.fromPod(podISS, sltISS, "FA", nil) }, tcOK, reasons(EproxyReasonREASON_TRANSLATED, EproxyReasonREASON_SLOT_RETIRED), retired},
		"unasked response": {func(r *rig) seg { return r.fromPod(podISS, sltISS, "PA", []byte(okResponse)) }, tcOK, reasons(EproxyReasonREASON_TRANSLATED, EproxyReasonREASON_SLOT_RETIRED), retired},
		"bad checksum":     {func(r *rig) seg { s := r.fromPod(podISS, sltISS, "PA", x); s.badSum = true; return s }, tcOK, reasons(EproxyReasonREASON_BAD_CHECKSUM), idle},
		"another connection": {func(r *rig) seg {
			s := r.fromPod(podISS, sltISS, "PA", x)
			s.from, _, _, _ = r.addrs()
			return s
		}, tcOK, nil, idle},
		"late response": {func(r *rig) seg {
			s := r.slot()
			s.State = uint32(retired)
			r.put(r.objs.Slots, uint32(rigSlot), &s)
			return r.fromPod(podISS, sltISS, "PA", []byte(okResponse))
		}, tcOK, reasons(EproxyReasonREASON_LATE_RESPONSE, EproxyReasonREASON_SLOT_RETIRED), retired},
		"a device's": {func(r *rig) seg { return r.fromDevice(devISS, "PA", x) }, tcOK, nil, idle},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			s := c.seg(r)
			if ret, _ := r.run(r.objs.TcPodIn, s); ret != c.verdict {
				t.Errorf("verdict %d, want %d: %v", ret, c.verdict, r.allReasons())
			}
			r.expectOnly(t, EproxyHookHOOK_TC_POD_IN, c.reasons)
			if got := r.slot().State; got != uint32(c.state) {
				t.Errorf("slot state %d, want %d", got, c.state)
			}
			var pod EproxyPod
			_ = r.objs.Pods.Lookup(uint32(0), &pod)
			if (pod.Idle == 1) != (c.state == idle) {
				t.Errorf("idle word %x", pod.Idle)
			}
		})
	}
}

func shut(c *EproxyConn) { c.TxRawwnd = 10 } // the last window that the socket saw

func reasons(r ...EproxyReason) []EproxyReason { return r }

// expectOnly: these reasons were counted, each as often as it is named, and no
// other of this hook.
func (r *rig) expectOnly(t *testing.T, h EproxyHook, want []EproxyReason) {
	t.Helper()
	left := map[EproxyReason]int{}
	for _, reason := range want {
		left[reason]++
	}
	for reason := range EproxyReasonREASON_COUNT {
		if n := int(r.reason(h, reason)); n != left[reason] {
			t.Errorf("reason %v counted %d times, want %d: %v", reason, n, left[reason], r.allReasons())
		}
	}
}

// TestDuplicateACKs: the third duplicate ACK of a pod has the request sent again that it
// lacks, further ones do not; what is no duplicate does not count.
func TestDuplicateACKs(t *testing.T) {
	r := newRig(t, false)
	_, req := r.take(t)
	resent := func() uint64 { return r.reason(EproxyHookHOOK_TC_POD_IN, EproxyReasonREASON_REQUEST_RESENT) }
	for i := range 8 {
		r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS, "A", nil))
		if want := map[bool]uint64{true: 1}[i >= 2]; resent() != want {
			t.Errorf("after %d duplicate ACKs: sent again %d times", i+1, resent())
		}
	}
	r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
	for range 8 { // nothing is in flight
		r.run(r.objs.TcPodIn, r.fromPod(podISS+uint32(len(okResponse)), sltISS+req, "A", nil))
	}
	if resent() != 1 {
		t.Errorf("sent again %d times", resent())
	}
}

// TestUnfinishedRequestIsNotSentAgain: what whoever makes a request may still undo is not
// sent for him, whatever the pod's acknowledgements say.
func TestUnfinishedRequestIsNotSentAgain(t *testing.T) {
	for filling, want := range map[uint64]uint64{0: 1, 1: 0} {
		r := newRig(t, false)
		r.take(t)
		r.pod(func(p *EproxyPod) { p.Filling = filling })
		for range 3 {
			r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS, "A", nil))
		}
		r.pod(func(p *EproxyPod) { p.Filling = 0 })
		if n := r.reason(EproxyHookHOOK_TC_POD_IN, EproxyReasonREASON_REQUEST_RESENT); n != want {
			t.Errorf("filling %b: sent again %d times, want %d", filling, n, want)
		}
	}
}

// TestPodAcksBeforeResponse: the pod's TCP acknowledges a request before its response: the
// device hears of it once, and gets its PUBACK later.
func TestPodAcksBeforeResponse(t *testing.T) {
	r := newRig(t, false)
	n, req := r.take(t)
	ret, out := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "A", nil))
	if tcp := checkSegment(t, out); ret != tcRedirect || tcp.Seq != nodISS || tcp.Ack != devISS+n || len(tcp.Payload) != 0 {
		t.Errorf("to the device: verdict %d seq %d ack %d % x", ret, tcp.Seq, tcp.Ack, tcp.Payload)
	}
	r.expectOnly(t, EproxyHookHOOK_TC_POD_IN, reasons(EproxyReasonREASON_DONE_BY_ACK))
	if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "A", nil)); ret != tcShot {
		t.Errorf("again: verdict %d", ret)
	}
	r.expectOnly(t, EproxyHookHOOK_TC_POD_IN, reasons(EproxyReasonREASON_DONE_BY_ACK, EproxyReasonREASON_ACK_ABSORBED))
	ret, out = r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
	if tcp := checkSegment(t, out); ret != tcRedirect || string(tcp.Payload) != "\x40\x02\x00\x07" {
		t.Errorf("response: verdict %d % x", ret, tcp.Payload)
	}
	// the pod has not heard that its response arrived
	ret, out = r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
	if tcp := checkSegment(t, out); ret != tcRedirect || tcp.Seq != sltISS+req || tcp.Ack != podISS+uint32(len(okResponse)) || len(tcp.Payload) != 0 {
		t.Errorf("response again: verdict %d seq %d ack %d % x", ret, tcp.Seq, tcp.Ack, tcp.Payload)
	}
	r.expect(t, EproxyHookHOOK_TC_POD_IN, EproxyReasonREASON_OLD_DUPLICATE)
}

// TestEarlyResponseIsNoResponse: what the pod sends before its TCP has acknowledged the whole
// request is no response to it, and ends the slot; an acknowledgement may have
// come before, too.
func TestEarlyResponseIsNoResponse(t *testing.T) {
	for name, c := range map[string]struct {
		response string
		acked    func(req uint32) []uint32 // acknowledgements, the last one with the response
		taken    bool
	}{
		"nothing acknowledged":                {okResponse, func(uint32) []uint32 { return []uint32{0} }, false},
		"all but one byte":                    {okResponse, func(req uint32) []uint32 { return []uint32{req - 1} }, false},
		"all but one byte, one after another": {okResponse, func(req uint32) []uint32 { return []uint32{1, req - 1} }, false},
		"not digestible":                      {"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", func(uint32) []uint32 { return []uint32{0} }, false},
		"begun":                               {okResponse[:len(okResponse)-1], func(uint32) []uint32 { return []uint32{0} }, false},
		"with the response":                   {okResponse, func(req uint32) []uint32 { return []uint32{req} }, true},
		"before the response":                 {okResponse, func(req uint32) []uint32 { return []uint32{req, 0} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			n, req := r.take(t)
			acks := c.acked(req)
			for _, a := range acks[:len(acks)-1] {
				r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+a, "A", nil))
			}
			ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+acks[len(acks)-1], "PA", []byte(c.response)))
			dev, slot := r.readConn(rigDevice), r.slot()
			if c.taken {
				if ret != tcRedirect || dev.TxNxt != nodISS+4 || slot.State != uint32(EproxySlotStateSLOT_IDLE) {
					t.Errorf("verdict %d, %d bytes to the device, slot state %d: %v", ret, dev.TxNxt-nodISS, slot.State, r.allReasons())
				}
				return
			}
			if ret != tcOK || dev.TxNxt != nodISS || dev.RxNxt != devISS+n || dev.InFlight != 1 || slot.Head == slot.Tail {
				t.Errorf("verdict %d, %d bytes to the device, %d in flight: %v", ret, dev.TxNxt-nodISS, dev.InFlight, r.allReasons())
			}
			if slot.State != uint32(EproxySlotStateSLOT_RETIRED) {
				t.Errorf("slot state %d", slot.State)
			}
			for _, reason := range reasons(EproxyReasonREASON_LATE_RESPONSE, EproxyReasonREASON_SLOT_RETIRED) {
				r.expect(t, EproxyHookHOOK_TC_POD_IN, reason)
			}
		})
	}
}

// slotControl runs slot_control for the rig's slot, with where userspace reads next.
func (r *rig) slotControl(op EproxySlotOp, position uint32) EproxySlotArgs {
	r.t.Helper()
	args := EproxySlotArgs{Slot: rigSlot, Gen: 1, Op: uint32(op), Position: position}
	if _, err := r.objs.SlotControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		r.t.Fatal(err)
	}
	return args
}

// TestWhereResponseMayBegin: while userspace reads a slot's responses, it is told from
// which byte on each may come: from the segment on that acknowledged the request.
func TestWhereResponseMayBegin(t *testing.T) {
	for name, c := range map[string]struct {
		acked []bool // whether each segment, of one byte, acknowledges the request
		want  uint32
	}{
		"by the first byte":       {[]bool{true, true}, podISS},
		"by the second byte":      {[]bool{false, true}, podISS + 1},
		"by the third byte":       {[]bool{false, false, true}, podISS + 2},
		"by none, and a bare ACK": {[]bool{false, false}, podISS + 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			_, req := r.take(t)
			s := r.slot()
			s.State = uint32(EproxySlotStateSLOT_PASSING)
			r.put(r.objs.Slots, uint32(rigSlot), &s)
			for i, acked := range c.acked {
				ack := uint32(sltISS)
				if acked {
					ack += req
				}
				if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS+uint32(i), ack, "PA", []byte("x"))); ret != tcOK {
					t.Errorf("byte %d: verdict %d", i, ret)
				}
			}
			r.run(r.objs.TcPodIn, r.fromPod(podISS+uint32(len(c.acked)), sltISS+req, "A", nil))
			if a := r.slotControl(EproxySlotOpSLOT_OP_TAKE_OVER, 0); a.Ok != 1 || a.Acked != 1 || a.Position != c.want {
				t.Errorf("%+v, want byte %d", a, c.want-podISS)
			}
		})
	}
}

// TestSlotWithBytesToReadIsNotReady: a slot that userspace gives back while bytes wait
// in its socket would take them for the response to its next request.
func TestSlotWithBytesToReadIsNotReady(t *testing.T) {
	for read, want := range map[uint32]EproxySlotResult{4: EproxySlotResultSLOT_CHANGED, 3: EproxySlotResultSLOT_REFUSED, 0: EproxySlotResultSLOT_REFUSED} {
		r := newRig(t, false)
		s := r.slot()
		s.State = uint32(EproxySlotStateSLOT_TAKEN_OVER)
		r.put(r.objs.Slots, uint32(rigSlot), &s)
		r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS, "PA", []byte("1234")))
		if a := r.slotControl(EproxySlotOpSLOT_OP_READY, podISS+read); a.Ok != uint32(want) {
			t.Errorf("%d of 4 bytes read: %+v", read, a)
		}
	}
}

// TestBytesBehindResponse: bytes behind a complete response go to the socket, but not
// while it lacks bytes in front of them: then the pod must send again.
func TestBytesBehindResponse(t *testing.T) {
	more := []byte(okResponse + "HTTP/1.1 418")
	r := newRig(t, false)
	_, req := r.take(t)
	r.change(rigSlot, func(c *EproxyConn) { c.RxKack -= 5 })
	if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", more)); ret != tcShot {
		t.Errorf("socket behind: verdict %d", ret)
	}
	r.expectOnly(t, EproxyHookHOOK_TC_POD_IN, reasons(EproxyReasonREASON_RACE))
	r.change(rigSlot, func(c *EproxyConn) { c.RxKack += 5 })
	// the PUBACK leaves as a clone, to an interface that is not there: nothing of it gets out of the test
	r.change(rigDevice, func(c *EproxyConn) { c.Ifindex = 1 << 30 })
	ret, out := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", more))
	if tcp := checkSegment(t, out); ret != tcOK || string(tcp.Payload) != string(more) || tcp.Seq != podISS-uint32(len(okResponse)) {
		t.Errorf("to the socket: verdict %d seq %d %q", ret, tcp.Seq, tcp.Payload)
	}
	for _, reason := range reasons(EproxyReasonREASON_RESPONSE, EproxyReasonREASON_REDIRECT_ERROR) {
		r.expect(t, EproxyHookHOOK_TC_POD_IN, reason)
	}
}

// TestResponseBeyondAHole: the end of a response whose beginning got lost passes to the
// slot's socket, which gets the rest, too, and userspace the message. While a
// response is half removed, and on an idle slot, nothing passes beyond a hole.
func TestResponseBeyondAHole(t *testing.T) {
	body := strings.Repeat("b", 100)
	first, second := []byte("HTTP/1.1 200 OK\r\nContent-Length: 150\r\n\r\n"+body), []byte(strings.Repeat("c", 50))
	at := podISS + uint32(len(first))
	r := newRig(t, false)
	_, req := r.take(t)
	ret, out := r.run(r.objs.TcPodIn, r.fromPod(at, sltISS+req, "PA", second))
	if tcp := checkSegment(t, out); ret != tcOK || tcp.Seq != at || tcp.Ack != sltISS || string(tcp.Payload) != string(second) {
		t.Errorf("beyond the hole: verdict %d seq %d ack %d %q", ret, tcp.Seq, tcp.Ack, tcp.Payload)
	}
	if got := r.slot().State; got != uint32(EproxySlotStateSLOT_PASSING) {
		t.Errorf("slot state %d", got)
	}
	ret, out = r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", first))
	if tcp := checkSegment(t, out); ret != tcOK || tcp.Seq != podISS || string(tcp.Payload) != string(first) {
		t.Errorf("into the hole: verdict %d seq %d %q", ret, tcp.Seq, tcp.Payload)
	}
	read := at + uint32(len(second))
	if args := r.slotControl(EproxySlotOpSLOT_OP_TAKE_OVER, 0); args.Ok != 1 || args.Acked != 1 || args.Position != podISS {
		t.Errorf("take over: %+v", args)
	}
	for _, wrong := range []uint32{at, read - 1, read + 1} {
		if args := r.slotControl(EproxySlotOpSLOT_OP_READY, wrong); args.Ok != 0 {
			t.Errorf("ready although %d bytes are read", wrong-podISS)
		}
	}
	if args := r.slotControl(EproxySlotOpSLOT_OP_READY, read); args.Ok != 1 || args.Position != read {
		t.Errorf("ready: %+v", args)
	}

	r = newRig(t, false)
	_, req = r.take(t)
	r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", first[:len(first)-50]))
	if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(at, sltISS+req, "PA", second)); ret != tcRedirect {
		t.Errorf("half removed: verdict %d", ret)
	}
	if got := r.slot().State; got != uint32(EproxySlotStateSLOT_RESPONDING) {
		t.Errorf("slot state %d", got)
	}

	r = newRig(t, false)
	r.take(t)
	if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(at, sltISS, "PA", second)); ret != tcOK {
		t.Errorf("before the request has come: verdict %d", ret)
	}
	if got := r.slot().State; got != uint32(EproxySlotStateSLOT_RETIRED) {
		t.Errorf("slot state %d", got)
	}
}

// TestPubackHanded: where no PUBACK can be inserted, userspace gets it; where
// that fails, too, the device's connection is given up.
func TestPubackHanded(t *testing.T) {
	for name, change := range map[string]func(c *EproxyConn){
		"after our FIN":                 func(c *EproxyConn) { c.Flags |= uint32(EproxyConnFlagCONN_FIN_SENT) },
		"window closed":                 func(c *EproxyConn) { c.TxWnd = 3 },
		"broken":                        func(c *EproxyConn) { c.Flags |= uint32(EproxyConnFlagCONN_BROKEN) },
		"inside a packet of the socket": func(c *EproxyConn) { c.TxFraming.Left = 1 },
		"unknown where a packet ends":   func(c *EproxyConn) { c.TxFramed-- },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			r.events()
			_, req := r.take(t)
			r.change(rigDevice, change)
			if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse))); ret != tcShot {
				t.Errorf("verdict %d", ret)
			}
			r.expectOnly(t, EproxyHookHOOK_TC_POD_IN, reasons(EproxyReasonREASON_PUBACK_HANDED))
			if e := r.events(); len(e) != 1 || e[0].Kind != uint32(EproxyEventKindEVENT_PUBACK) || e[0].PacketId != 7 || e[0].Conn != rigDevice || e[0].Gen != 1 {
				t.Errorf("events %+v", e)
			}
			if c := r.readConn(rigDevice); c.TxNxt != nodISS || c.InFlight != 0 {
				t.Errorf("ledger: tx_nxt %d, %d in flight", c.TxNxt, c.InFlight)
			}
		})
	}
	t.Run("nobody reads events", func(t *testing.T) {
		r := newRig(t, false)
		r.fillEvents()
		r = newRig(t, false)
		_, req := r.take(t)
		r.change(rigDevice, func(c *EproxyConn) { c.TxWnd = 3 })
		r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
		r.expectOnly(t, EproxyHookHOOK_TC_POD_IN, reasons(EproxyReasonREASON_PUBACK_HANDED, EproxyReasonREASON_EVENT_LOST, EproxyReasonREASON_BROKEN))
		if c := r.readConn(rigDevice); c.Flags&uint32(EproxyConnFlagCONN_BROKEN) == 0 {
			t.Error("the connection is not given up")
		}
		r.events()
	})
}

// events are what the programs have notified userspace of since the last call.
func (r *rig) events() []EproxyEvent {
	r.t.Helper()
	rd, err := ringbuf.NewReader(r.objs.Events)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rd.Close()
	rd.SetDeadline(time.Unix(1, 0)) // what is there
	var out []EproxyEvent
	for {
		rec, err := rd.Read()
		if err != nil {
			return out
		}
		var e EproxyEvent
		if err := binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, &e); err != nil {
			r.t.Fatal(err)
		}
		out = append(out, e)
	}
}

// fillEvents leaves no room for another one: each byte on a retired slot is one.
func (r *rig) fillEvents() {
	r.t.Helper()
	seq := uint32(podISS)
	for range r.objs.Events.MaxEntries() / 128 {
		r.run(r.objs.TcPodIn, r.fromPod(seq, sltISS, "PA", []byte("x")))
		seq++
	}
}

// TestFinWhileBusy: a pod that sends FIN while it owes responses gets no more requests.
func TestFinWhileBusy(t *testing.T) {
	for _, fin := range []bool{false, true} {
		r := newRig(t, false)
		r.pod(func(p *EproxyPod) { p.Proven, p.Depth = 2, 2 })
		n, req := r.take(t)
		if fin {
			if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "FA", nil)); ret != tcOK {
				t.Errorf("FIN: verdict %d: %v", ret, r.allReasons())
			}
		}
		var pod EproxyPod
		_ = r.objs.Pods.Lookup(uint32(0), &pod)
		if (pod.Room == 0) != fin {
			t.Errorf("FIN %v: room word %x", fin, pod.Room)
		}
		s := r.slot()
		r.put(r.objs.Pods, uint32(0), &EproxyPod{Room: 1, Up: 1, XdpOk: 1, Ifindex: 1, Concurrency: 16, Proven: 2, Depth: 2}) // as a program sees it that looked before
		ret, _ := r.run(r.objs.XdpDevice, r.fromDevice(devISS+n, "PA", publish("sensors/a/temp", 1, 8, "x")))
		if taken := ret == xdpRedirect; taken == fin || r.slot().Tail-s.Tail != uint32(b2u(taken)) {
			t.Errorf("FIN %v: verdict %d, %v", fin, ret, r.allReasons())
		}
	}
}

// TestBareAckBesidePuback: the response to a QoS 0 message acknowledges it with a bare
// ACK, which stands before a PUBACK that another processor inserted just now and
// may not have sent yet.
func TestBareAckBesidePuback(t *testing.T) {
	for age, want := range map[uint32]uint32{justNow: nodISS, 1000: nodISS + 4} {
		r := newRig(t, false)
		p := publish("sensors/a/temp", 0, 0, "x")
		ret, out := r.run(r.objs.XdpDevice, r.fromDevice(devISS, "PA", p))
		if ret != xdpRedirect {
			t.Fatalf("not taken: %v", r.allReasons())
		}
		req := uint32(len(checkSegment(t, out).Payload))
		r.change(rigDevice, func(c *EproxyConn) {
			c.Tx.Count = 1
			c.Tx.Ring[0] = EproxyGraft{Seq: nodISS, Len: 4, State: uint8(EproxyGraftStateGRAFT_DONE)}
			c.TxNxt, c.NotifiedSeq, c.NotifiedUs = nodISS+4, nodISS, monotonicUs()-age
		})
		ret, out = r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
		if tcp := checkSegment(t, out); ret != tcRedirect || tcp.Seq != want || tcp.Ack != devISS+uint32(len(p)) || len(tcp.Payload) != 0 {
			t.Errorf("%d us later: verdict %d, seq %d, want %d, ack %d", age, ret, tcp.Seq, want, tcp.Ack)
		}
	}
}

// TestQuietSlotIsAckedAtOnce: a response on a slot that was quiet is acknowledged at once;
// one that follows another closely waits for a request to carry the
// acknowledgement.
func TestQuietSlotIsAckedAtOnce(t *testing.T) {
	const quiet = 20 * time.Millisecond // POD_QUIET_NS
	for _, age := range []time.Duration{0, time.Second} {
		for {
			r := newRig(t, false)
			ret, out := r.run(r.objs.XdpDevice, r.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 1, "x")))
			if ret != xdpRedirect {
				t.Fatalf("not taken: %v", r.allReasons())
			}
			req := uint32(len(checkSegment(t, out).Payload))
			began := monotonic()
			slot := r.slot()
			slot.RespondedNs = uint64(began - age.Nanoseconds())
			r.put(r.objs.Slots, uint32(rigSlot), &slot)
			ret, _ = r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
			if age == 0 && monotonic()-began > quiet.Nanoseconds() {
				continue // the machine was not fast enough to tell
			}
			acked := r.readConn(rigSlot).RxAcked - podISS
			if want := map[bool]uint32{true: uint32(len(okResponse))}[age > 0]; ret != tcRedirect || acked != want {
				t.Errorf("%v after the one before: verdict %d, %d bytes acknowledged, want %d", age, ret, acked, want)
			}
			break
		}
	}
}
