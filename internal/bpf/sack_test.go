package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
)

// sackBlock is a SACK block: received bytes [from, to).
type sackBlock struct{ from, to uint32 }

var nop = layers.TCPOption{OptionType: layers.TCPOptionKindNop}

// sackOptions are the blocks behind so many NOPs, filled up with NOPs to whole words.
func sackOptions(front int, blocks ...sackBlock) (opts []layers.TCPOption) {
	var data []byte
	for _, b := range blocks {
		data = binary.BigEndian.AppendUint32(data, b.from)
		data = binary.BigEndian.AppendUint32(data, b.to)
	}
	for range front {
		opts = append(opts, nop)
	}
	opts = append(opts, layers.TCPOption{OptionType: layers.TCPOptionKindSACK, OptionLength: uint8(2 + len(data)), OptionData: data})
	for n := front + 2 + len(data); n%4 != 0; n++ {
		opts = append(opts, nop)
	}
	return opts
}

// sackBlocks are those of a segment, and whether there are other options but NOP.
func sackBlocks(tcp *layers.TCP) (blocks []sackBlock, other bool) {
	for _, o := range tcp.Options {
		switch o.OptionType {
		case layers.TCPOptionKindSACK:
			for d := o.OptionData; len(d) >= 8; d = d[8:] {
				blocks = append(blocks, sackBlock{binary.BigEndian.Uint32(d), binary.BigEndian.Uint32(d[4:])})
			}
		case layers.TCPOptionKindNop:
		default:
			other = true
		}
	}
	return blocks, other
}

func checkBlocks(t *testing.T, tcp *layers.TCP, want ...sackBlock) {
	t.Helper()
	if got, other := sackBlocks(tcp); fmt.Sprint(got) != fmt.Sprint(want) || other {
		t.Errorf("blocks %v (other options: %v), want %v", got, other, want)
	}
}

// grafted is a rig where a message was taken and answered, and the server has sent
// 40 bytes of its own since: nothing of the 4 and 40 is acknowledged.
func grafted(t *testing.T, ipv6 bool) (r *rig, pub uint32) {
	t.Helper()
	r = newRig(t, ipv6)
	pub, req := r.take(t)
	if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse))); ret != tcRedirect {
		t.Fatalf("not answered: %v", r.allReasons())
	}
	r.change(rigDevice, func(c *EproxyConn) {
		c.Flags |= uint32(EproxyConnFlagCONN_SACK)
		c.TxNxt += 40
		c.TxKnxt += 40
		c.TxFramed += 40
		c.Tx.Ring[0].Who -= 1000 / pubackTick << 16
		c.Srtt = 8 * 60000
	})
	return r, pub
}

// TestSackToSocket: blocks of a device are about the wire; the socket gets them with its
// own numbers, wherever they stand in the header and however many there are; the
// checksum is right. What is about the PUBACK only is gone.
func TestSackToSocket(t *testing.T) {
	const at = nodISS + 4 // the server's bytes on the wire
	all := []sackBlock{{at + 2, at + 5}, {at + 7, at + 11}, {at + 13, at + 14}, {at + 20, at + 40}}
	for _, ipv6 := range []bool{false, true} {
		for n := 1; n <= 4; n++ {
			for front := 0; front+2+8*n <= 40; front++ {
				r, pub := grafted(t, ipv6)
				s := r.fromDevice(devISS+pub, "A", nil)
				s.ack = at
				s.options = sackOptions(front, all[:n]...)
				ret, out := r.run(r.objs.TcDeviceIn, s)
				tcp := checkSegment(t, out)
				if ret != tcOK || tcp.Ack != nodISS {
					t.Fatalf("%d blocks behind %d: verdict %d, ack %d: %v", n, front, ret, tcp.Ack, r.allReasons())
				}
				var want []sackBlock
				for _, b := range all[:n] {
					want = append(want, sackBlock{b.from - 4, b.to - 4})
				}
				checkBlocks(t, tcp, want...)
			}
		}
	}
	for name, c := range map[string]struct {
		ack       uint32
		came      []sackBlock
		want      []sackBlock
		resent    uint64
		ofSocket  bool
		duplicate bool
	}{
		"the PUBACK is missing":                {nodISS, []sackBlock{{at, at + 40}}, nil, 1, false, false},
		"the PUBACK and the first byte":        {nodISS, []sackBlock{{at + 1, at + 40}}, []sackBlock{{nodISS + 1, nodISS + 40}}, 1, true, false},
		"a byte of the server's":               {at, []sackBlock{{at + 1, at + 40}}, []sackBlock{{nodISS + 1, nodISS + 40}}, 0, true, false},
		"of what was never sent":               {at, []sackBlock{{at + 1, at + 41}}, nil, 0, false, false},
		"twice, which the server sent twice":   {at + 9, []sackBlock{{at + 1, at + 8}}, []sackBlock{{nodISS + 1, nodISS + 8}}, 0, false, true},
		"twice, which the server sent once":    {at + 9, []sackBlock{{at + 1, at + 8}}, nil, 0, false, false},
		"part of the PUBACK twice, and others": {at, []sackBlock{{nodISS, at}, {at + 1, at + 2}}, []sackBlock{{nodISS + 1, nodISS + 2}}, 0, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, pub := grafted(t, false)
			if c.duplicate {
				dev, node, _, _ := r.addrs()
				again := seg{from: node, to: dev, seq: nodISS, ack: devISS, flags: "PA", payload: make([]byte, 10)}
				if ret, _ := r.run(r.objs.TcDeviceOut, again); ret != tcOK {
					t.Fatalf("retransmission: verdict %d", ret)
				}
			}
			s := r.fromDevice(devISS+pub, "A", nil)
			s.ack = c.ack
			s.options = sackOptions(2, c.came...)
			ret, out := r.run(r.objs.TcDeviceIn, s)
			if ret != tcOK {
				t.Fatalf("verdict %d: %v", ret, r.allReasons())
			}
			checkBlocks(t, checkSegment(t, out), c.want...)
			if n := r.reason(EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_PUBACK_RESENT); n != c.resent {
				t.Errorf("PUBACK sent again %d times, want %d", n, c.resent)
			}
			if missing := r.readConn(rigDevice).Flags&uint32(EproxyConnFlagCONN_MISSING) != 0; missing != c.ofSocket {
				t.Errorf("bytes of the server missing: %v", missing)
			}
			// the same again at once: no more than once per round trip
			r.run(r.objs.TcDeviceIn, s)
			if n := r.reason(EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_PUBACK_RESENT); n != c.resent {
				t.Errorf("PUBACK sent again %d times, want %d", n, c.resent)
			}
		})
	}
}

// TestPubackHandedWhileBytesAreMissing: while the device lacks bytes of the server, a
// PUBACK goes to the server, behind them; once they are there, it is inserted again.
func TestPubackHandedWhileBytesAreMissing(t *testing.T) {
	const at = nodISS + 4
	for _, missing := range []bool{true, false} {
		r, pub := grafted(t, false)
		s := r.fromDevice(devISS+pub, "A", nil)
		s.ack = at
		s.options = sackOptions(2, sackBlock{at + 10, at + 40})
		r.run(r.objs.TcDeviceIn, s)
		if !missing {
			s.ack, s.options = at+40, nil
			r.run(r.objs.TcDeviceIn, s)
		}
		p := publish("sensors/a/temp", 1, 8, "y")
		m := r.fromDevice(devISS+pub, "PA", p)
		m.ack = s.ack
		if ret, _ := r.run(r.objs.TcDeviceIn, m); ret != tcRedirect {
			t.Fatalf("not taken: %v", r.allReasons())
		}
		r.events()
		msg := r.slot().Messages[0]
		r.run(r.objs.TcPodIn, r.fromPod(podISS+uint32(len(okResponse)), msg.RequestSeq+msg.RequestLen, "PA", []byte(okResponse)))
		handed := r.reason(EproxyHookHOOK_TC_POD_IN, EproxyReasonREASON_PUBACK_HANDED) == 1
		if handed != missing {
			t.Errorf("bytes missing %v, PUBACK handed %v: %v", missing, handed, r.allReasons())
		}
	}
}

// TestSackToDevice: blocks of the server's socket are about its own stream; the device
// gets them with the wire's numbers, and none over a message that is open.
func TestSackToDevice(t *testing.T) {
	const pub = 100
	graft := func(seq uint32, state EproxyGraftState) EproxyGraft {
		return EproxyGraft{Seq: seq, Len: pub, Who: ^uint32(0), State: uint8(state)}
	}
	done, open := EproxyGraftStateGRAFT_DONE, EproxyGraftStateGRAFT_OPEN
	for name, c := range map[string]struct {
		state EproxyGraftState
		came  []sackBlock // offsets in the socket's stream, of which it has acknowledged 10; the graft lies behind 30
		want  []sackBlock // offsets on the wire
		ret   uint32
	}{
		"beyond a hole":                  {done, []sackBlock{{50, 60}, {70, 71}}, []sackBlock{{150, 160}, {170, 171}}, tcOK},
		"beyond a hole, message open":    {open, []sackBlock{{50, 60}}, []sackBlock{{150, 160}}, tcOK},
		"across a message that is done":  {done, []sackBlock{{20, 45}}, []sackBlock{{20, 145}}, tcOK},
		"across a message that is open":  {open, []sackBlock{{20, 45}}, []sackBlock{{20, 30}}, tcOK},
		"up to the message":              {open, []sackBlock{{20, 30}}, []sackBlock{{20, 30}}, tcOK},
		"behind the message":             {open, []sackBlock{{30, 35}}, []sackBlock{{130, 135}}, tcOK},
		"at the acknowledgement":         {done, []sackBlock{{10, 20}}, nil, tcShot},
		"twice, but never passed twice":  {done, []sackBlock{{2, 5}}, nil, tcShot},
		"twice, and passed twice":        {done, []sackBlock{{6, 9}}, []sackBlock{{4, 7}}, tcOK},
		"twice, and others beyond":       {done, []sackBlock{{6, 9}, {50, 60}}, []sackBlock{{4, 7}, {150, 160}}, tcOK},
		"twice, never passed, and other": {done, []sackBlock{{1, 3}, {50, 60}}, []sackBlock{{150, 160}}, tcOK},
	} {
		for _, ipv6 := range []bool{false, true} {
			for front := range 4 {
				t.Run(fmt.Sprintf("%s/ipv6=%v/%d", name, ipv6, front), func(t *testing.T) {
					r := newRig(t, ipv6)
					r.change(rigDevice, func(conn *EproxyConn) {
						conn.Flags |= uint32(EproxyConnFlagCONN_SACK)
						conn.RxKack, conn.RxAcked, conn.RxNxt = devISS+10, devISS+10, devISS+40+pub
						conn.RxHole = conn.RxNxt
						conn.RxEdge = devISS + 10 + 65535
						conn.Rx.Count, conn.Rx.Open = 1, uint16(b2u(c.state == open))
						conn.Rx.Ring[0] = graft(devISS+30, c.state)
						conn.RxAgain = EproxyAgain{Wire: devISS + 4, Kernel: devISS + 6, Len: 4}
					})
					s := sides[0].send(r, nodISS, devISS+10, "A", nil)
					var came, want []sackBlock
					for _, b := range c.came {
						came = append(came, sackBlock{devISS + b.from, devISS + b.to})
					}
					for _, b := range c.want {
						want = append(want, sackBlock{devISS + b.from, devISS + b.to})
					}
					s.options = sackOptions(front, came...)
					ret, out := r.run(r.objs.TcDeviceOut, s)
					if ret != c.ret {
						t.Fatalf("verdict %d, want %d: %v", ret, c.ret, r.allReasons())
					}
					if ret == tcOK {
						checkBlocks(t, checkSegment(t, out), want...)
					}
				})
			}
		}
	}
}

// TestSackIsPlain: a message in a segment with blocks is taken at TC. If the blocks
// are news for the server's socket, a bare ACK with them stands in for the
// segment. Other options, and SACK that is malformed, leave it to the server.
func TestSackIsPlain(t *testing.T) {
	const at = nodISS + 4
	other := layers.TCPOption{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}
	for name, c := range map[string]struct {
		options []layers.TCPOption
		taken   bool
		news    []sackBlock
	}{
		"blocks that are news":        {sackOptions(2, sackBlock{at + 10, at + 20}), true, []sackBlock{{nodISS + 10, nodISS + 20}}},
		"at an odd place":             {sackOptions(1, sackBlock{at + 10, at + 20}, sackBlock{at + 30, at + 31}), true, []sackBlock{{nodISS + 10, nodISS + 20}, {nodISS + 30, nodISS + 31}}},
		"about the PUBACK":            {sackOptions(2, sackBlock{nodISS, at}), true, nil},
		"NOPs only":                   {[]layers.TCPOption{nop, nop, nop, nop}, true, nil},
		"with timestamps":             {append(sackOptions(2, sackBlock{at + 10, at + 20}), other, nop, nop), false, []sackBlock{{nodISS + 10, nodISS + 20}}},
		"of a length that is none":    {[]layers.TCPOption{{OptionType: 5, OptionLength: 4, OptionData: []byte{0, 0}}}, false, nil},
		"twice":                       {append(sackOptions(2, sackBlock{at + 10, at + 20}), sackOptions(2, sackBlock{at + 30, at + 40})...), false, []sackBlock{{nodISS + 10, nodISS + 20}}},
		"no bytes of the server open": {sackOptions(2, sackBlock{at + 50, at + 60}), true, nil},
	} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ipv6=%v", name, ipv6), func(t *testing.T) {
				r, pub := grafted(t, ipv6)
				s := r.fromDevice(devISS+pub, "PA", publish("sensors/a/temp", 1, 8, "yes"))
				s.options = c.options
				if ret, out := r.run(r.objs.XdpDevice, s); ret != xdpPass || !bytes.Equal(out, s.frame(t)) {
					t.Errorf("XDP: verdict %d", ret)
				}
				ret, out := r.run(r.objs.TcDeviceIn, s)
				tcp := checkSegment(t, out)
				taken := r.reason(EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_TAKEN) == 1
				if taken != c.taken {
					t.Fatalf("taken: %v, verdict %d: %v", taken, ret, r.allReasons())
				}
				switch {
				case !taken:
					r.expect(t, EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_TCP_FLAGS)
					if got, _ := sackBlocks(tcp); ret != tcOK || !strings.HasSuffix(string(tcp.Payload), "yes") || fmt.Sprint(got) != fmt.Sprint(c.news) {
						t.Errorf("passed with verdict %d, %q, %v", ret, tcp.Payload, got)
					}
				case c.news != nil:
					if ret != tcOK || len(tcp.Payload) > 0 || tcp.Seq != devISS || tcp.Ack != nodISS {
						t.Errorf("stands in: verdict %d, seq %d ack %d %q", ret, tcp.Seq, tcp.Ack, tcp.Payload)
					}
					checkBlocks(t, tcp, c.news...)
				case ret != tcRedirect || !strings.HasSuffix(string(tcp.Payload), "yes"):
					t.Errorf("verdict %d, request %q", ret, tcp.Payload)
				}
			})
		}
	}
}

// TestBareAckWithBlocksPasses: what would be absorbed without blocks is passed with
// them, though the socket waits for nothing.
func TestBareAckWithBlocksPasses(t *testing.T) {
	for _, blocks := range []bool{false, true} {
		r, pub := grafted(t, false)
		r.change(rigDevice, func(c *EproxyConn) { c.TxNxt, c.TxKnxt, c.TxFramed = c.TxNxt-40, c.TxKnxt-40, c.TxFramed-40 })
		r.change(rigDevice, func(c *EproxyConn) { c.TxUna = c.TxNxt - 4 })
		s := r.fromDevice(devISS+pub, "A", nil)
		s.ack = nodISS
		want := uint32(tcShot)
		if blocks {
			s.options, want = sackOptions(2, sackBlock{nodISS + 1, nodISS + 4}), tcOK
			if ret, _ := r.run(r.objs.XdpDevice, s); ret != xdpPass {
				t.Errorf("XDP: verdict %d", ret)
			}
		}
		if ret, _ := r.run(r.objs.TcDeviceIn, s); ret != want {
			t.Errorf("blocks %v: verdict %d, want %d: %v", blocks, ret, want, r.allReasons())
		}
	}
}

// TestThreeDuplicateAcks: a device without SACK shows by three of them what it lacks: a
// PUBACK is sent again, once; bytes of the server are the server's, and PUBACKs go to it.
func TestThreeDuplicateAcks(t *testing.T) {
	for _, puback := range []bool{true, false} {
		r, pub := grafted(t, false)
		r.change(rigDevice, func(c *EproxyConn) { c.Flags &^= uint32(EproxyConnFlagCONN_SACK) })
		s := r.fromDevice(devISS+pub, "A", nil)
		if !puback {
			s.ack = nodISS + 4
			r.run(r.objs.TcDeviceIn, s) // is news
		}
		for n := 1; n <= 5; n++ {
			if ret, _ := r.run(r.objs.XdpDevice, s); ret != xdpPass {
				t.Fatalf("XDP: verdict %d", ret)
			}
			r.run(r.objs.TcDeviceIn, s)
			got, want := r.reason(EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_PUBACK_RESENT), uint64(b2u(puback && n >= 3))
			missing := r.readConn(rigDevice).Flags&uint32(EproxyConnFlagCONN_MISSING) != 0
			if got != want || missing != (!puback && n >= 3) {
				t.Errorf("after %d duplicate ACKs: %d PUBACKs sent again, bytes missing: %v", n, got, missing)
			}
		}
		w := s
		w.ack++
		r.run(r.objs.TcDeviceIn, w)
	}
}

// TestAnswersReportDuplicates: an answer to what has come before says so, where both
// ends may: below the acknowledgement, and above it, where an older message holds it
// back. A message that is open is not said to be here.
func TestAnswersReportDuplicates(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		for _, sack := range []bool{true, false} {
			r, pub := grafted(t, ipv6)
			if !sack {
				r.change(rigDevice, func(c *EproxyConn) { c.Flags &^= uint32(EproxyConnFlagCONN_SACK) })
			}
			again := r.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 7, "x"))
			want := []sackBlock{{devISS, devISS + pub}}
			if !sack {
				want = nil
			}
			ret, out := r.run(r.objs.TcDeviceIn, again)
			tcp := checkSegment(t, out)
			if ret != tcRedirect || string(tcp.Payload) != "\x40\x02\x00\x07" || tcp.Seq != nodISS || tcp.Ack != devISS+pub {
				t.Errorf("PUBACK again: verdict %d seq %d ack %d % x", ret, tcp.Seq, tcp.Ack, tcp.Payload)
			}
			checkBlocks(t, tcp, want...)

			// an older one is open: the acknowledgement stays below
			r.change(rigDevice, func(c *EproxyConn) {
				c.RxAcked, c.RxKack, c.RxNxt = devISS, devISS-c.Rx.Base, devISS+200
				c.RxHole = c.RxNxt
				c.Rx.Count, c.Rx.Open, c.Rx.Head = 2, 1, 0
				c.Rx.Ring[0] = EproxyGraft{Seq: devISS, Len: 100, Who: ^uint32(0), State: uint8(EproxyGraftStateGRAFT_OPEN)}
				c.Rx.Ring[1] = EproxyGraft{Seq: devISS + 100, Len: 100, Who: ^uint32(0), State: uint8(EproxyGraftStateGRAFT_DONE)}
			})
			ret, out = r.run(r.objs.TcDeviceIn, r.fromDevice(devISS+120, "PA", []byte("twice")))
			if tcp = checkSegment(t, out); ret != tcRedirect || tcp.Ack != devISS || len(tcp.Payload) > 0 {
				t.Errorf("verdict %d ack %d: %v", ret, tcp.Ack, r.allReasons())
			}
			if sack {
				want = []sackBlock{{devISS + 120, devISS + 125}, {devISS + 100, devISS + 200}}
			}
			checkBlocks(t, tcp, want...)
		}
	}
}

// TestCutSegmentWithBlocks: the front of a segment that the socket must not see goes,
// its blocks stay, and come out as the socket's.
func TestCutSegmentWithBlocks(t *testing.T) {
	const at = nodISS + 4
	for _, ipv6 := range []bool{false, true} {
		for _, rest := range []string{"r", "rest"} {
			r, pub := grafted(t, ipv6)
			r.device(func(d *EproxyDevice) { d.Framing.Left = uint32(len(rest)) })
			r.change(rigDevice, func(c *EproxyConn) { c.RxKack -= 5; c.RxAcked -= 5 }) // the socket is behind
			s := r.fromDevice(devISS+pub, "PA", []byte(rest+string(publish("sensors/a/temp", 1, 8, "whole"))+"\xc0"))
			s.options = sackOptions(1, sackBlock{at + 10, at + 20})
			ret, out := r.run(r.objs.TcDeviceIn, s)
			tcp := checkSegment(t, out)
			if ret != tcOK || string(tcp.Payload) != "\xc0" {
				t.Fatalf("verdict %d, passed %q: %v", ret, tcp.Payload, r.allReasons())
			}
			checkBlocks(t, tcp, sackBlock{nodISS + 10, nodISS + 20})
		}
	}
}

// TestPassedTwiceIsNoted: what the socket is passed a second time it may report as such:
// under the numbers that it was passed with.
func TestPassedTwiceIsNoted(t *testing.T) {
	r, pub := grafted(t, false)
	ping := r.fromDevice(devISS+pub, "PA", []byte("\xc0\x00"))
	for range 2 {
		if ret, _ := r.run(r.objs.TcDeviceIn, ping); ret != tcOK {
			t.Fatalf("verdict %d: %v", ret, r.allReasons())
		}
	}
	if a := r.readConn(rigDevice).RxAgain; a != (EproxyAgain{Wire: devISS + pub, Kernel: devISS, Len: 2}) {
		t.Errorf("noted: %+v", a)
	}
	// the same bytes in front of new ones
	more := r.fromDevice(devISS+pub, "PA", []byte("\xc0\x00\xc0\x00"))
	if ret, _ := r.run(r.objs.TcDeviceIn, more); ret != tcOK {
		t.Fatalf("verdict %d: %v", ret, r.allReasons())
	}
	s := sides[0].send(r, nodISS+40, devISS+4, "A", nil)
	s.options = sackOptions(2, sackBlock{devISS, devISS + 2})
	ret, out := r.run(r.objs.TcDeviceOut, s)
	if ret != tcOK {
		t.Fatalf("verdict %d: %v", ret, r.allReasons())
	}
	checkBlocks(t, checkSegment(t, out), sackBlock{devISS + pub, devISS + pub + 2})
}
