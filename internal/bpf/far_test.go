package bpf

import (
	"net/netip"
	"testing"
)

// far makes a slot's pod look as if it were 40 ms away.
func far(c *EproxyConn) { c.Srtt, c.RttLow = 8*40, 16*40 }

// TestFarPodsSlotsShare: messages of one device for a pod that is far, none of whose slots is idle, are spread over those that have
// room. Of a pod that is near one slot gets as many as it can take, so that they leave together.
func TestFarPodsSlotsShare(t *testing.T) {
	const slots, messages, full = 8, 24, 8
	for _, away := range []bool{true, false} {
		r := newRig(t, false)
		_, _, src, pod := r.addrs()
		for i := range uint32(slots) {
			s := r.slot()
			s.State, s.Tail, s.Count = uint32(EproxySlotStateSLOT_BUSY), 1, 1
			r.put(r.objs.Slots, i, &s)
			r.conn(i, EproxyConnKindCONN_SLOT, netip.AddrPortFrom(src.Addr(), src.Port()+uint16(i)), pod, podISS, sltISS)
			if away {
				r.change(i, far)
			}
			r.sockets(i)
		}
		all := uint64(1)<<slots - 1
		r.pod(func(p *EproxyPod) {
			p.Idle, p.Room, p.Busy, p.Proven, p.Depth, p.Concurrency = 0, all, all, full, full, slots
		})
		var d EproxyDevice
		if err := r.objs.Devices.Lookup(uint32(0), &d); err != nil {
			t.Fatal(err)
		}
		d.InflightMax = 64
		r.put(r.objs.Devices, uint32(0), &d)
		message := publish("sensors/a/temp", 0, 0, "x")
		for i := range uint32(messages) {
			r.run(r.objs.TcDeviceIn, r.fromDevice(devISS+i*uint32(len(message)), "PA", message))
		}
		used, most := 0, uint32(0)
		for i := range uint32(slots) {
			var s EproxySlot
			if err := r.objs.Slots.Lookup(i, &s); err != nil {
				t.Fatal(err)
			}
			if s.Count > 1 {
				used++
			}
			most = max(most, s.Count)
		}
		// all by chance on four of eight: less than one in 100,000
		if away && used < 5 || !away && (used > 4 || most != full) {
			t.Errorf("far %t: %d slots got messages, one up to %d in flight: %v", away, used, most, r.allReasons())
		}
	}
}

// TestOvertakenAcknowledgement: what a device or a pod sends with an acknowledgement that later ones have overtaken passes with the
// latest that the local socket was passed, which drops what acknowledges less than it has ever sent. Without payload it
// tells nothing.
func TestOvertakenAcknowledgement(t *testing.T) {
	const inserted, behind = 40, 20
	for _, pod := range []bool{false, true} {
		r := newRig(t, false)
		conn, iss, program := uint32(rigDevice), uint32(nodISS), r.objs.TcDeviceIn
		if pod {
			conn, iss, program = rigSlot, sltISS, r.objs.TcPodIn
			s := r.slot()
			s.State = uint32(EproxySlotStateSLOT_PASSING)
			r.put(r.objs.Slots, uint32(rigSlot), &s)
		}
		r.change(conn, func(c *EproxyConn) {
			c.TxNxt, c.TxUna, c.Tx.Base = iss+inserted, iss+inserted, inserted
			c.TxRawwnd = 1000
		})
		segment := func(payload []byte) seg {
			s := r.fromDevice(devISS, "PA", payload)
			if pod {
				s = r.fromPod(podISS, 0, "PA", payload)
			}
			s.ack = iss + inserted - behind
			if len(payload) == 0 {
				s.flags = "A"
			}
			return s
		}
		if ret, _ := r.run(program, segment(nil)); ret != tcShot {
			t.Errorf("pod %t: bare acknowledgement: verdict %d: %v", pod, ret, r.allReasons())
		}
		ret, out := r.run(program, segment([]byte("\xc0\x00")))
		if tcp := checkSegment(t, out); ret != tcOK || tcp.Ack != iss || tcp.Window != 1000 || len(tcp.Payload) != 2 {
			t.Errorf("pod %t: verdict %d, ack %d from the first byte on, window %d: %v", pod, ret, tcp.Ack-iss, tcp.Window, r.allReasons())
		}
	}
}
