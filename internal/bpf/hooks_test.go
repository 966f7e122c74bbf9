package bpf

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

const okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"

// take sends one PUBLISH through XDP and returns its length and the request's.
func (r *rig) take(t *testing.T) (pub, request uint32) {
	t.Helper()
	p := publish("sensors/a/temp", 1, 7, "x")
	ret, out := r.run(r.objs.XdpDevice, r.fromDevice(devISS, "PA", p))
	if ret != xdpRedirect {
		t.Fatalf("not taken: %v", r.allReasons())
	}
	return uint32(len(p)), uint32(len(checkSegment(t, out).Payload))
}

func (r *rig) expect(t *testing.T, h EproxyHook, reason EproxyReason) {
	t.Helper()
	if r.reason(h, reason) != 1 {
		t.Errorf("reason %v not counted once: %v", reason, r.allReasons())
	}
}

// TestRetransmission: while a message is open its retransmission is not passed
// to the socket; when it is answered the PUBACK comes again, at the same place.
func TestRetransmission(t *testing.T) {
	r := newRig(t, false)
	n, req := r.take(t)
	again := r.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 7, "x"))
	if ret, _ := r.run(r.objs.TcDeviceIn, again); ret != tcShot {
		t.Errorf("repetition at once: verdict %d", ret)
	}
	r.expect(t, EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_DUP_REQUEST)
	// older than any tail loss probe: the request goes out again, byte for byte
	s := r.slot()
	s.Messages[0].TakenNs -= uint64(time.Second)
	r.put(r.objs.Slots, uint32(rigSlot), &s)
	ret, out := r.run(r.objs.TcDeviceIn, again)
	if ret != tcRedirect {
		t.Fatalf("repetition: verdict %d, %v", ret, r.allReasons())
	}
	if tcp := checkSegment(t, out); tcp.Seq != sltISS || uint32(len(tcp.Payload)) != req || string(tcp.Payload) != wantRequest(1, 1, "x") {
		t.Errorf("injected again: seq %d %q", tcp.Seq, tcp.Payload)
	}
	if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse))); ret != tcRedirect {
		t.Fatalf("response: verdict %d, %v", ret, r.allReasons())
	}
	ret, out = r.run(r.objs.TcDeviceIn, again)
	if tcp := checkSegment(t, out); ret != tcRedirect || tcp.Seq != nodISS || tcp.Ack != devISS+n || string(tcp.Payload) != "\x40\x02\x00\x07" {
		t.Errorf("PUBACK again: verdict %d seq %d ack %d % x", ret, tcp.Seq, tcp.Ack, tcp.Payload)
	}
	r.expect(t, EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_PUBACK_RESENT)
}

// TestTranslationBehindGraft: behind a grafted message the socket's numbers and the wire's
// differ by what was removed and inserted.
func TestTranslationBehindGraft(t *testing.T) {
	r := newRig(t, false)
	n, req := r.take(t)
	r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
	ping := r.fromDevice(devISS+n, "PA", []byte{0xc0, 0})
	ping.ack = nodISS + 4
	ret, out := r.run(r.objs.TcDeviceIn, ping)
	if tcp := checkSegment(t, out); ret != tcOK || tcp.Seq != devISS || tcp.Ack != nodISS || string(tcp.Payload) != "\xc0\x00" {
		t.Errorf("to the socket: verdict %d seq %d ack %d", ret, tcp.Seq, tcp.Ack)
	}
	dev, node, _, _ := r.addrs()
	ret, out = r.run(r.objs.TcDeviceOut, seg{from: node, to: dev, seq: nodISS, ack: devISS + 2, flags: "PA", payload: []byte{0xd0, 0}})
	if tcp := checkSegment(t, out); ret != tcOK || tcp.Seq != nodISS+4 || tcp.Ack != devISS+n+2 {
		t.Errorf("to the device: verdict %d seq %d ack %d", ret, tcp.Seq, tcp.Ack)
	}
}

// TestDeviceSegmentsOutOfPlace: what an armed connection does with segments that are not
// the next bytes.
func TestDeviceSegmentsOutOfPlace(t *testing.T) {
	x := []byte("x")
	for name, c := range map[string]struct {
		seg     func(r *rig) seg
		verdict uint32
		reason  EproxyReason
	}{
		"payload ahead":     {func(r *rig) seg { return r.fromDevice(devISS+10, "PA", x) }, tcOK, EproxyReasonREASON_AHEAD},
		"beyond the window": {func(r *rig) seg { return r.fromDevice(devISS+65536, "PA", x) }, tcRedirect, EproxyReasonREASON_AHEAD},
		"old duplicate":     {func(r *rig) seg { return r.fromDevice(devISS-1, "PA", x) }, tcRedirect, EproxyReasonREASON_OLD_DUPLICATE},
		"keepalive probe":   {func(r *rig) seg { return r.fromDevice(devISS-1, "A", nil) }, tcRedirect, EproxyReasonREASON_OLD_DUPLICATE},
		"bare ack":          {func(r *rig) seg { return r.fromDevice(devISS, "A", nil) }, tcShot, EproxyReasonREASON_ACK_ABSORBED},
		"ack of the unsent": {func(r *rig) seg { s := r.fromDevice(devISS, "A", nil); s.ack += 100; return s }, tcRedirect, EproxyReasonREASON_CHALLENGE},
		"rst in the window": {func(r *rig) seg { return r.fromDevice(devISS+1, "R", nil) }, tcRedirect, EproxyReasonREASON_CHALLENGE},
		"rst at the next":   {func(r *rig) seg { return r.fromDevice(devISS, "RA", nil) }, tcOK, EproxyReasonREASON_TRANSLATED},
		"fin":               {func(r *rig) seg { return r.fromDevice(devISS, "FA", nil) }, tcOK, EproxyReasonREASON_TRANSLATED},
		"no ack flag":       {func(r *rig) seg { return r.fromDevice(devISS, "P", x) }, tcShot, EproxyReasonREASON_CHALLENGE},
		"another connection": {func(r *rig) seg {
			s := r.fromDevice(devISS, "PA", x)
			s.from = netip.MustParseAddrPort("10.9.9.9:1")
			return s
		}, tcOK, EproxyReasonREASON_COUNT},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			ret, _ := r.run(r.objs.TcDeviceIn, c.seg(r))
			if ret != c.verdict {
				t.Errorf("verdict %d, want %d: %v", ret, c.verdict, r.allReasons())
			}
			if c.reason != EproxyReasonREASON_COUNT {
				r.expect(t, EproxyHookHOOK_TC_DEVICE_IN, c.reason)
			}
		})
	}
}

// TestDigestibleResponses: which answers the kernel digests.
func TestDigestibleResponses(t *testing.T) {
	for name, c := range map[string]struct {
		response string
		flags    string
		verdict  uint32
		reason   EproxyReason
		state    EproxySlotState
	}{
		"200":                {okResponse, "PA", tcRedirect, EproxyReasonREASON_RESPONSE, EproxySlotStateSLOT_IDLE},
		"204":                {"HTTP/1.1 204 No Content\r\n\r\n", "PA", tcRedirect, EproxyReasonREASON_RESPONSE, EproxySlotStateSLOT_IDLE},
		"lower case":         {"HTTP/1.1 201 Created\r\ncontent-length:0\r\n\r\n", "PA", tcRedirect, EproxyReasonREASON_RESPONSE, EproxySlotStateSLOT_IDLE},
		"close":              {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "PA", tcRedirect, EproxyReasonREASON_SLOT_RETIRED, EproxySlotStateSLOT_RETIRED},
		"keep-alive":         {"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", "PA", tcRedirect, EproxyReasonREASON_RESPONSE, EproxySlotStateSLOT_IDLE},
		"with fin":           {okResponse, "FPA", tcRedirect, EproxyReasonREASON_SLOT_RETIRED, EproxySlotStateSLOT_RETIRED},
		"first part":         {"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\nbegin", "PA", tcRedirect, EproxyReasonREASON_RESPONSE_PART, EproxySlotStateSLOT_RESPONDING},
		"500":                {"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "PA", tcOK, EproxyReasonREASON_RESPONSE_HANDED, EproxySlotStateSLOT_PASSING},
		"chunked":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "PA", tcRedirect, EproxyReasonREASON_RESPONSE, EproxySlotStateSLOT_IDLE},
		"chunked, long":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4b0\r\n" + strings.Repeat("x", 1200) + "\r\n0\r\n\r\n", "PA", tcRedirect, EproxyReasonREASON_RESPONSE, EproxySlotStateSLOT_IDLE},
		"chunked, closing":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", "PA", tcRedirect, EproxyReasonREASON_SLOT_RETIRED, EproxySlotStateSLOT_RETIRED},
		"chunked, not whole": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "PA", tcOK, EproxyReasonREASON_RESPONSE_HANDED, EproxySlotStateSLOT_PASSING},
		"chunked, extension": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n", "PA", tcOK, EproxyReasonREASON_RESPONSE_HANDED, EproxySlotStateSLOT_PASSING},
		"chunked, trailers":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n", "PA", tcOK, EproxyReasonREASON_RESPONSE_HANDED, EproxySlotStateSLOT_PASSING},
		"upgrade":            {"HTTP/1.1 200 OK\r\nConnection: Upgrade, Keep-Alive\r\nContent-Length: 0\r\n\r\n", "PA", tcRedirect, EproxyReasonREASON_RESPONSE, EproxySlotStateSLOT_IDLE},
		"close at the end":   {"HTTP/1.1 200 OK\r\nConnection: Upgrade, Close\r\nContent-Length: 0\r\n\r\n", "PA", tcRedirect, EproxyReasonREASON_SLOT_RETIRED, EproxySlotStateSLOT_RETIRED},
		"HTTP/1.0":           {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "PA", tcOK, EproxyReasonREASON_RESPONSE_HANDED, EproxySlotStateSLOT_PASSING},
		"head cut":           {"HTTP/1.1 200 OK\r\nContent-Len", "PA", tcOK, EproxyReasonREASON_RESPONSE_HANDED, EproxySlotStateSLOT_PASSING},
		"no length":          {"HTTP/1.1 200 OK\r\n\r\n", "PA", tcOK, EproxyReasonREASON_RESPONSE_HANDED, EproxySlotStateSLOT_PASSING},
		"two lengths":        {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n", "PA", tcOK, EproxyReasonREASON_RESPONSE_HANDED, EproxySlotStateSLOT_PASSING},
		"odd length":         {"HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\n", "PA", tcOK, EproxyReasonREASON_RESPONSE_HANDED, EproxySlotStateSLOT_PASSING},
		"more than said":     {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", "PA", tcOK, EproxyReasonREASON_RESPONSE_HANDED, EproxySlotStateSLOT_PASSING},
		"1xx":                {"HTTP/1.1 100 Continue\r\n\r\n", "PA", tcOK, EproxyReasonREASON_RESPONSE_HANDED, EproxySlotStateSLOT_PASSING},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			_, req := r.take(t)
			ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, c.flags, []byte(c.response)))
			if ret != c.verdict {
				t.Errorf("verdict %d, want %d: %v", ret, c.verdict, r.allReasons())
			}
			r.expect(t, EproxyHookHOOK_TC_POD_IN, c.reason)
			var slot EproxySlot
			if err := r.objs.Slots.Lookup(uint32(rigSlot), &slot); err != nil {
				t.Fatal(err)
			}
			if slot.State != uint32(c.state) {
				t.Errorf("slot state %d, want %d", slot.State, c.state)
			}
			var pod EproxyPod
			_ = r.objs.Pods.Lookup(uint32(0), &pod)
			if idle := pod.Idle == 1; idle != (c.state == EproxySlotStateSLOT_IDLE) {
				t.Errorf("idle word %x in slot state %d", pod.Idle, slot.State)
			}
		})
	}
}

// TestLateResponse: an answer for a device whose connection is another one by now
// acknowledges nothing.
func TestLateResponse(t *testing.T) {
	r := newRig(t, false)
	_, req := r.take(t)
	r.change(rigDevice, func(c *EproxyConn) { c.Gen++ })
	if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse))); ret != tcShot {
		t.Errorf("verdict %d: %v", ret, r.allReasons())
	}
	r.expect(t, EproxyHookHOOK_TC_POD_IN, EproxyReasonREASON_DEVICE_GONE)
	if c := r.readConn(rigDevice); c.TxNxt != nodISS {
		t.Error("something was inserted into the new connection")
	}
}

// TestFullLedgerIsCompacted: behind a message that is open for long those that are done
// cannot settle; where they fill the ring they are merged for the next one, and
// where all are open nothing can be.
func TestFullLedgerIsCompacted(t *testing.T) {
	fill := func(state EproxyGraftState) func(c *EproxyConn) {
		return func(c *EproxyConn) {
			n := uint32(len(c.Rx.Ring))
			c.Rx.Count, c.Rx.Open = uint16(n), 1
			for i := range n {
				c.Rx.Ring[i] = EproxyGraft{Seq: devISS - 100*(n-i), Len: 100, Who: ^uint32(0), State: uint8(state)}
			}
			c.Rx.Ring[0].State = uint8(EproxyGraftStateGRAFT_OPEN)
			if state == EproxyGraftStateGRAFT_OPEN {
				c.Rx.Open = uint16(n)
			}
			c.RxAcked = c.Rx.Ring[0].Seq
			c.RxKack = c.RxAcked
		}
	}
	for _, xdp := range []bool{true, false} {
		run := func(state EproxyGraftState) (*rig, int) {
			r := newRig(t, false)
			r.change(rigDevice, fill(state))
			prog, taken := r.objs.TcDeviceIn, uint32(tcRedirect)
			if xdp {
				prog, taken = r.objs.XdpDevice, xdpRedirect
			}
			ret, _ := r.run(prog, r.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 7, "x")))
			if ret != taken {
				return r, 0
			}
			return r, int(r.readConn(rigDevice).Rx.Count)
		}
		if r, n := run(EproxyGraftStateGRAFT_DONE); n != 3 {
			t.Errorf("xdp %v: %d grafts, want the open one, one of all that are done, and the new one: %v", xdp, n, r.allReasons())
		}
		if r, n := run(EproxyGraftStateGRAFT_OPEN); n != 0 {
			t.Errorf("xdp %v: taken into a full ring: %v", xdp, r.allReasons())
		}
	}
}
