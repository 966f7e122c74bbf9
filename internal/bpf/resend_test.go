package bpf

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket/layers"
)

// expire runs requests_send for the rig's slot.
func (r *rig) expire(t *testing.T, gen uint32) uint32 {
	t.Helper()
	skb := make([]byte, 68)
	binary.NativeEndian.PutUint32(skb[48:], rigSlot)
	binary.NativeEndian.PutUint32(skb[52:], gen)
	ret, err := r.objs.RequestsSend.Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: skb})
	if err != nil {
		t.Fatal(err)
	}
	return ret
}

// message changes the oldest message of the rig's slot, and the slot.
func (r *rig) message(change func(s *EproxySlot, m *EproxyMessage)) {
	s := r.slot()
	change(&s, &s.Messages[0])
	r.put(r.objs.Slots, uint32(rigSlot), &s)
}

// nowMs is the programs' clock.
func nowMs() uint32 { return uint32(monotonic() / 1e6) }

// TestRequestTimeout: a request whose time is up is sent again, once, whatever userspace was told before; none is that was
// acknowledged, or whose connection is over.
func TestRequestTimeout(t *testing.T) {
	const old = 100_000 // ms: longer than any timeout
	for name, c := range map[string]struct {
		change func(r *rig)
		gen    uint32
		want   uint32
	}{
		"its time is up":     {func(r *rig) {}, 1, 1},
		"just sent":          {func(r *rig) { r.message(func(_ *EproxySlot, m *EproxyMessage) { m.SentMs = nowMs() }) }, 1, 0},
		"by a clock behind":  {func(r *rig) { r.message(func(_ *EproxySlot, m *EproxyMessage) { m.SentMs = nowMs() + 1000 }) }, 1, 0},
		"another generation": {func(r *rig) {}, 2, 0},
		"acknowledged":       {func(r *rig) { r.message(func(s *EproxySlot, m *EproxyMessage) { m.Acked, s.Acked = 1, 1 }) }, 1, 0},
		"retired": {func(r *rig) {
			r.message(func(s *EproxySlot, _ *EproxyMessage) { s.State = uint32(EproxySlotStateSLOT_RETIRED) })
		}, 1, 0},
		"taken over":            {func(r *rig) { r.message(func(s *EproxySlot, _ *EproxyMessage) { s.Head = 1 }) }, 1, 0},
		"connection closed":     {func(r *rig) { r.change(rigSlot, func(c *EproxyConn) { c.State = uint16(EproxyConnStateCONN_CLOSED) }) }, 1, 0},
		"many timeouts before":  {func(r *rig) { r.message(func(s *EproxySlot, _ *EproxyMessage) { s.Recovery.Backoff = 5 }) }, 1, 1},
		"round trips of 10 min": {func(r *rig) { r.change(rigSlot, func(c *EproxyConn) { c.Srtt = 8 * 600_000 }) }, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			r.take(t)
			r.change(rigSlot, func(c *EproxyConn) { c.Srtt, c.Rttvar, c.RttLow = 8*10_000, 4*100, 16*10_000 })
			r.message(func(_ *EproxySlot, m *EproxyMessage) { m.SentMs = nowMs() - old })
			c.change(r)
			before := r.slot()
			if got := r.expire(t, c.gen); got != c.want {
				t.Errorf("sent again: %d, want %d", got, c.want)
			}
			s := r.slot()
			m := s.Messages[0]
			if n := r.reason(EproxyHookHOOK_CONTROL, EproxyReasonREASON_REQUEST_RESENT); n != uint64(c.want) || uint32(m.Again) != c.want {
				t.Errorf("sent again %d times, message %+v", n, m)
			}
			if c.want == 1 && (s.Recovery.Backoff != min(before.Recovery.Backoff+1, 5) || nowMs()-m.SentMs > old/2) {
				t.Errorf("recovery %+v, sent %d ms ago", s.Recovery, nowMs()-m.SentMs)
			}
			if got := r.expire(t, c.gen); got != 0 {
				t.Error("sent a third time at once")
			}
		})
	}
}

// TestRequestRoundTrip: the time from a request to its acknowledgement, alone or with the response, is measured; not that of
// a request that was sent twice.
func TestRequestRoundTrip(t *testing.T) {
	const ms = 1000
	for name, c := range map[string]struct {
		response string
		again    uint8
	}{"acknowledged": {}, "answered": {response: okResponse}, "sent twice": {again: 1}, "sent twice, answered": {okResponse, 1}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			_, req := r.take(t)
			r.message(func(s *EproxySlot, m *EproxyMessage) { m.SentMs, m.Again, s.Recovery.Backoff = nowMs()-ms, c.again, 3 })
			r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(c.response)))
			slot, backoff := r.readConn(rigSlot), r.slot().Recovery.Backoff
			if c.again != 0 {
				if slot.Srtt != 0 || slot.RttLow != 0 || backoff != 3 {
					t.Errorf("a round trip of %d ms was measured, the timeout has doubled %d times", slot.Srtt/8, backoff)
				}
			} else if slot.Srtt < 8*ms || slot.RttLow < 16*ms || slot.Rttvar < 2*ms || backoff != 0 {
				t.Errorf("SRTT %d ms, short ones %d ms, RTTVAR %d ms, the timeout has doubled %d times", slot.Srtt/8, slot.RttLow/16, slot.Rttvar/4, backoff)
			}
		})
	}
}

// TestFarPod: the device is acknowledged a message for a pod that is far at once, and not again by the pod's
// acknowledgement; its retransmission brings no request again. A pod that is near acknowledges first.
func TestFarPod(t *testing.T) {
	for _, away := range []bool{true, false} {
		r := newRig(t, false)
		if away {
			r.change(rigSlot, far)
		}
		p := publish("sensors/a/temp", 1, 7, "x")
		n := uint32(len(p))
		ret, out := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, "PA", p))
		tcp := checkSegment(t, out)
		acked := tcp.Seq == nodISS && tcp.Ack == devISS+n && len(tcp.Payload) == 0
		if ret != tcRedirect || acked != away {
			t.Fatalf("far %t: verdict %d, seq %d ack %d, %d bytes: %v", away, ret, tcp.Seq, tcp.Ack, len(tcp.Payload), r.allReasons())
		}
		r.expect(t, EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_TAKEN)
		if c := r.readConn(rigDevice); (c.Rx.Open == 0) != away || c.RxNxt != devISS+n || c.InFlight != 1 {
			t.Errorf("far %t: %d grafts open, %d messages in flight", away, c.Rx.Open, c.InFlight)
		}
		again, _ := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, "PA", p))
		want := map[bool]int{true: tcRedirect, false: tcShot}[away]
		if int(again) != want {
			t.Errorf("far %t: repetition: verdict %d", away, again)
		}
		m := r.slot().Messages[0]
		ret, out = r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+m.RequestLen, "A", nil))
		if silent := ret == tcShot; silent != away {
			t.Errorf("far %t: acknowledgement of the pod: verdict %d, % x", away, ret, out)
		}
		ret, out = r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+m.RequestLen, "PA", []byte(okResponse)))
		if tcp := checkSegment(t, out); ret != tcRedirect || string(tcp.Payload) != "\x40\x02\x00\x07" || tcp.Ack != devISS+n {
			t.Errorf("far %t: response: verdict %d, ack %d % x", away, ret, tcp.Ack, tcp.Payload)
		}
	}
}

// TestPodSACK: a pod's blocks are about requests: the slot's socket is shown NOPs. What comes twice is answered with a D-SACK
// block, if SACK was negotiated.
func TestPodSACK(t *testing.T) {
	edges := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, sltISS+10), sltISS+20)
	for _, sack := range []bool{true, false} {
		r := newRig(t, false)
		_, req := r.take(t)
		r.change(rigSlot, func(c *EproxyConn) {
			shut(c)
			if sack {
				c.Flags |= uint32(EproxyConnFlagCONN_SACK)
			}
		})
		p := r.fromPod(podISS, sltISS, "A", nil)
		p.options = []layers.TCPOption{{OptionType: 1}, {OptionType: 1}, {OptionType: 5, OptionLength: 10, OptionData: edges}}
		ret, out := r.run(r.objs.TcPodIn, p)
		tcp := checkSegment(t, out)
		if ret != tcOK || tcp.Seq != podISS || tcp.Ack != sltISS {
			t.Errorf("blocks: verdict %d seq %d ack %d", ret, tcp.Seq, tcp.Ack)
		}
		for _, o := range tcp.Options {
			if o.OptionType != 1 {
				t.Errorf("the socket is shown option %v", o)
			}
		}
		response := r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse))
		r.run(r.objs.TcPodIn, response)
		ret, out = r.run(r.objs.TcPodIn, response)
		tcp = checkSegment(t, out)
		if ret != tcRedirect || tcp.Ack != podISS+uint32(len(okResponse)) || len(tcp.Payload) != 0 {
			t.Errorf("response again: verdict %d ack %d % x", ret, tcp.Ack, tcp.Payload)
		}
		var blocks []byte
		for _, o := range tcp.Options {
			if o.OptionType == 5 {
				blocks = o.OptionData
			}
		}
		want := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, podISS), podISS+uint32(len(okResponse)))
		if !sack {
			want = nil
		}
		if string(blocks) != string(want) {
			t.Errorf("SACK %t: blocks % x, want % x", sack, blocks, want)
		}
	}
}
