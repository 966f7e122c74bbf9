package bpf

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
)

// ahead of a message that is cut, in the same segment: so long that the rest is no longer than the segment.
var aheadOfCut = strings.Repeat("whole", 200)

// keptRig is a rig whose slot takes several requests, with a whole message sent and the first k bytes of a second one
// behind it in the same segment, which had these flags. It returns where the second one begins.
func keptRig(t *testing.T, ipv6 bool, flags string, cut []byte, k int) (r *rig, at uint32) {
	t.Helper()
	r = newRig(t, ipv6)
	r.pod(func(p *EproxyPod) { p.Proven, p.Depth = 8, 8 })
	whole := publish("sensors/a/temp", 1, 7, aheadOfCut)
	at = devISS + uint32(len(whole))
	ret, out := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, flags, append(whole, cut[:k]...)))
	if kept := r.reason(EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_KEPT) == 1; kept {
		if tcp := checkSegment(t, out); ret != tcRedirect || body(tcp.Payload) != aheadOfCut {
			t.Fatalf("verdict %d, request %q", ret, tcp.Payload)
		}
		if c := r.readConn(rigDevice); c.RxNxt != at || c.RxHole != at {
			t.Fatalf("next byte %d, passed up to %d; %d is taken", c.RxNxt-devISS, c.RxHole-devISS, at-devISS)
		}
	} else if tcp := checkSegment(t, out); ret != tcOK || string(tcp.Payload) != string(append(whole, cut[:k]...)) {
		// the socket knows its front by its place
		t.Fatalf("verdict %d, passed %q: %v", ret, tcp.Payload, r.allReasons())
	}
	return r, at
}

// bodies are the payloads of the requests in flight on the slot.
func (r *rig) bodies() (all []string) {
	r.t.Helper()
	s := r.slot()
	for n := s.Head; n != s.Tail; n++ {
		var q EproxyRequest
		at := uint32(rigSlot) // request_buffer in slot.h
		if n%8 > 0 {
			at = rigSlots + rigSlot*8 + n%8
		}
		if err := r.objs.Requests.Lookup(at, &q); err != nil {
			r.t.Fatal(err)
		}
		all = append(all, body(q.Buf[:s.Messages[n%8].RequestLen]))
	}
	return all
}

func (r *rig) keep(f func(k *EproxyKept)) {
	r.t.Helper()
	var k EproxyKept
	if err := r.objs.Keeps.Lookup(uint32(rigDevice), &k); err != nil {
		r.t.Fatal(err)
	}
	f(&k)
	r.put(r.objs.Keeps, uint32(rigDevice), &k)
}

func (r *rig) countedTC(reason EproxyReason) uint64 {
	return r.reason(EproxyHookHOOK_TC_DEVICE_IN, reason)
}

// TestCutMessageIsTaken: a message that is cut anywhere behind its fixed header is taken when its rest comes, and
// so is what lies behind it in that segment, nothing having been passed or promised before.
func TestCutMessageIsTaken(t *testing.T) {
	for name, cut := range map[string][]byte{
		"short":    publish("sensors/a/temp", 1, 9, "a short one"),
		"QoS 0":    publish("sensors/a/temp", 0, 0, "nobody asks for it again"),
		"empty":    publish("sensors/a/temp", 1, 9, ""),
		"longest":  publish("sensors/"+strings.Repeat("b", 60)+"/temp", 1, 9, strings.Repeat("0123456789", 90)),
		"no topic": publish("sensors/"+strings.Repeat("%", 60)+"/temp", 0, 0, "encoded"),
	} {
		head := 2 // of the fixed header
		if len(cut) > 129 {
			head = 3
		}
		for _, ipv6 := range []bool{false, true} {
			for k := 1; k < len(cut); k++ {
				if k > 300 && k < len(cut)-100 && k%97 != 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d/ipv6=%v", name, k, ipv6), func(t *testing.T) {
					r, at := keptRig(t, ipv6, "A", cut, k)
					if kept := r.countedTC(EproxyReasonREASON_KEPT) == 1; kept != (k >= head) {
						t.Fatalf("kept: %v", kept)
					} else if !kept {
						return
					}
					last := publish("sensors/a/temp", 1, 8, "last")
					r.run(r.objs.TcDeviceIn, r.fromDevice(at+uint32(k), "PA", append(cut[k:len(cut):len(cut)], last...)))
					_, payload, _ := strings.Cut(string(cut), "/temp")
					if cut[0]&6 != 0 {
						payload = payload[2:]
					}
					if got, want := r.bodies(), []string{aheadOfCut, payload, "last"}; fmt.Sprint(got) != fmt.Sprint(want) {
						t.Fatalf("in flight %q, want %q: %v", got, want, r.allReasons())
					}
					end := at + uint32(len(cut)+len(last))
					c := r.readConn(rigDevice)
					if c.RxNxt != end || c.RxHole != end || c.Rx.Count != 3 || c.Rx.Ring[1].Seq != at || int(c.Rx.Ring[1].Len) != len(cut) {
						t.Errorf("next byte %d of %d, grafts %+v", c.RxNxt-devISS, end-devISS, c.Rx.Ring[:3])
					}
					r.keep(func(k *EproxyKept) {
						if k.Len != 0 || k.Busy != 0 {
							t.Errorf("entry not free: %d bytes, busy %d", k.Len, k.Busy)
						}
					})
				})
			}
		}
	}
}

// TestNotKept: what is not about to be completed, or too long, goes to the socket as ever.
func TestNotKept(t *testing.T) {
	short := publish("sensors/a/temp", 1, 9, "a short one")
	for name, c := range map[string]struct {
		flags string
		cut   []byte
		k     int
	}{
		"sender has no more to send": {"PA", short, 20},
		"too long":                   {"A", publish("sensors/a/temp", 1, 9, strings.Repeat("x", 1600)), 1400},
		"rest longer than a segment": {"A", publish("sensors/a/temp", 1, 9, strings.Repeat("x", 1400)), 20},
		"another packet":             {"A", append([]byte{0x82, 40}, make([]byte, 40)...), 20},
		"QoS 2":                      {"A", append([]byte{0x34}, short[1:]...), 20},
	} {
		t.Run(name, func(t *testing.T) {
			if r, _ := keptRig(t, false, c.flags, c.cut, c.k); r.countedTC(EproxyReasonREASON_KEPT) != 0 {
				t.Errorf("kept: %v", r.allReasons())
			}
		})
	}
}

// TestKeptInVain: whatever comes in place of the rest, and whatever keeps the whole message from being taken, the socket gets every
// byte once at its place, and the entry is free.
func TestKeptInVain(t *testing.T) {
	cut := publish("sensors/a/temp", 1, 9, "a message that is cut somewhere")
	const k = 25
	rest := func(at uint32) (uint32, []byte) { return at + k, append(cut[k:len(cut):len(cut)], 0xc0, 0) }
	again := func(at uint32) (uint32, []byte) { return at, cut[:k] }
	option := []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
		{OptionType: layers.TCPOptionKindSACK, OptionLength: 10, OptionData: make([]byte, 8)}}
	for name, c := range map[string]struct {
		spoil   func(r *rig)
		flags   string
		comes   func(at uint32) (uint32, []byte)
		options []layers.TCPOption
		passes  string // of the message, at its place
		ahead   bool   // the segment passes as it is, beyond what is missing
	}{
		"it comes again":         {nil, "PA", again, nil, string(cut[:k]), false},
		"it comes again, late":   {func(r *rig) { r.keep(func(k *EproxyKept) { k.Ms -= 1000 }) }, "PA", again, nil, string(cut[:k]), false},
		"it comes again, longer": {nil, "PA", func(at uint32) (uint32, []byte) { return at, cut[:k+3] }, nil, string(cut[:k+3]), false},
		"the session is over": {func(r *rig) {
			r.change(rigDevice, func(c *EproxyConn) { c.Flags |= uint32(EproxyConnFlagCONN_NO_TAKE) })
		}, "PA", rest, nil, string(cut[:k]), false},
		"with SACK blocks": {func(r *rig) {
			r.change(rigDevice, func(c *EproxyConn) { c.Flags |= uint32(EproxyConnFlagCONN_NO_TAKE) })
		}, "PA", rest, option, string(cut[:k]), false},
		"nothing more is taken": {func(r *rig) {
			r.put(r.objs.Settings, uint32(0), &EproxyGlobals{Root: 1, RootDollar: 2, Epoch: 1, Draining: 1})
		}, "PA", rest, nil, string(cut[:k]), false},
		"its route is gone":         {func(r *rig) { r.put(r.objs.Settings, uint32(0), &EproxyGlobals{Root: 0, RootDollar: 2, Epoch: 2}) }, "PA", rest, nil, string(cut[:k]), false},
		"too many are in flight":    {func(r *rig) { r.device(func(d *EproxyDevice) { d.InflightMax = 1 }) }, "PA", rest, nil, string(cut[:k]), false},
		"FIN behind the rest":       {nil, "FPA", func(at uint32) (uint32, []byte) { return at + k, cut[k:] }, nil, string(cut[:k]), false},
		"the rest of the rest":      {nil, "PA", func(at uint32) (uint32, []byte) { return at + k + 2, cut[k+2:] }, nil, string(cut[k+2:]), true},
		"part of the rest, no more": {nil, "PA", func(at uint32) (uint32, []byte) { return at + k, cut[k : k+2] }, nil, string(cut[:k]), false},
		"FIN":                       {nil, "FA", func(at uint32) (uint32, []byte) { return at + k, nil }, nil, "", true},
		"too late":                  {func(r *rig) { r.keep(func(k *EproxyKept) { k.Ms -= 201 }) }, "PA", rest, nil, string(cut[k:]) + "\xc0\x00", true},
		"another connection's":      {func(r *rig) { r.keep(func(k *EproxyKept) { k.Conn++ }) }, "PA", rest, nil, string(cut[k:]) + "\xc0\x00", true},
		"another generation's":      {func(r *rig) { r.keep(func(k *EproxyKept) { k.Gen++ }) }, "PA", rest, nil, string(cut[k:]) + "\xc0\x00", true},
		"a processor works with it": {func(r *rig) { r.keep(func(k *EproxyKept) { k.Busy = 1 }) }, "PA", rest, nil, string(cut[k:]) + "\xc0\x00", true},
	} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ipv6=%v", name, ipv6), func(t *testing.T) {
				r, at := keptRig(t, ipv6, "A", cut, k)
				if r.countedTC(EproxyReasonREASON_KEPT) != 1 {
					t.Fatalf("not kept: %v", r.allReasons())
				}
				if c.spoil != nil {
					c.spoil(r)
				}
				seq, b := c.comes(at)
				s := r.fromDevice(seq, c.flags, b)
				s.options = c.options
				ret, out := r.run(r.objs.TcDeviceIn, s)
				tcp := checkSegment(t, out)
				// the whole message in front is removed from the socket's stream
				place := uint32(devISS)
				if c.ahead {
					place += seq - at
				}
				if ret != tcOK || string(tcp.Payload) != c.passes || tcp.Seq != place {
					t.Fatalf("verdict %d, passed %q at %d, want %q at %d: %v", ret, tcp.Payload, tcp.Seq-devISS, c.passes, place-devISS, r.allReasons())
				}
				if got := r.bodies(); len(got) != 1 {
					t.Errorf("in flight: %q", got)
				}
				if name != "a processor works with it" {
					r.keep(func(k *EproxyKept) {
						if k.Busy != 0 {
							t.Error("entry not released")
						}
					})
				}
				// the device sends what is missing
				if c.ahead {
					ret, out = r.run(r.objs.TcDeviceIn, r.fromDevice(at, "A", cut[:k]))
					if tcp := checkSegment(t, out); ret != tcOK || string(tcp.Payload) != string(cut[:k]) || tcp.Seq != devISS {
						t.Errorf("what is missing: verdict %d, %q at %d: %v", ret, tcp.Payload, tcp.Seq-devISS, r.allReasons())
					}
					return
				}
				// and what came in place of the rest comes again
				if seq == at+k {
					ret, out = r.run(r.objs.TcDeviceIn, s)
					if tcp := checkSegment(t, out); ret != tcOK || string(tcp.Payload) != string(b) || tcp.Seq != devISS+k || tcp.FIN != strings.Contains(c.flags, "F") {
						t.Errorf("again: verdict %d, %q at %d: %v", ret, tcp.Payload, tcp.Seq-devISS, r.allReasons())
					}
				}
				if d := r.readDevice(); d.KeepRest == 0 || d.Kept != 0 {
					t.Errorf("kept %d, rests for %d", d.Kept, d.KeepRest)
				}
			})
		}
	}
}

// TestCutMessageInPieces: the rest of a message may itself be cut, as long as more follows each piece.
func TestCutMessageInPieces(t *testing.T) {
	cut := publish("sensors/a/temp", 1, 9, strings.Repeat("0123456789", 90))
	for _, ipv6 := range []bool{false, true} {
		r, at := keptRig(t, ipv6, "A", cut, 5)
		for k := 5; k < 905; k += 100 {
			if ret, _ := r.run(r.objs.TcDeviceIn, r.fromDevice(at+uint32(k), "A", cut[k:k+100])); ret != tcShot {
				t.Fatalf("piece at %d: verdict %d: %v", k, ret, r.allReasons())
			}
			if c := r.readConn(rigDevice); c.RxNxt != at {
				t.Fatalf("piece at %d counts as received", k)
			}
		}
		r.run(r.objs.TcDeviceIn, r.fromDevice(at+905, "PA", cut[905:]))
		if got := r.bodies(); len(got) != 2 || got[1] != strings.Repeat("0123456789", 90) {
			t.Errorf("in flight %q: %v", got, r.allReasons())
		}
		if c := r.readConn(rigDevice); c.RxNxt != at+uint32(len(cut)) {
			t.Errorf("next byte %d", c.RxNxt-devISS)
		}
	}
}

// TestPieceOfAStranger: who does not know what the device has acknowledged adds nothing to what is kept, nor ends the connection at a
// byte that is only expected behind it.
func TestPieceOfAStranger(t *testing.T) {
	cut := publish("sensors/a/temp", 1, 9, strings.Repeat("0123456789", 90))
	for name, spoil := range map[string]func(s *seg){
		"acknowledges what was not sent":  func(s *seg) { s.ack += 1 << 20 },
		"acknowledges what is long since": func(s *seg) { s.ack -= 1 << 30 },
		"RST":                             func(s *seg) { s.flags = "RA" },
		"SYN":                             func(s *seg) { s.flags = "SA" },
	} {
		r, at := keptRig(t, false, "A", cut, 5)
		s := r.fromDevice(at+5, "A", cut[5:105])
		spoil(&s)
		r.run(r.objs.TcDeviceIn, s)
		r.keep(func(k *EproxyKept) {
			if k.Len != 5 || k.Busy != 0 {
				t.Errorf("%s: %d bytes are kept, busy %d: %v", name, k.Len, k.Busy, r.allReasons())
			}
		})
		if c := r.readConn(rigDevice); c.State != uint16(EproxyConnStateCONN_OPEN) {
			t.Errorf("%s: the connection is in state %d", name, c.State)
		}
	}
}

// TestNotTrustedForAWhile: behind a beginning that was kept in vain none is kept, for a number of them.
func TestNotTrustedForAWhile(t *testing.T) {
	cut := publish("sensors/a/temp", 0, 0, "a message that is cut somewhere")
	r, at := keptRig(t, false, "A", cut, 25)
	r.run(r.objs.TcDeviceIn, r.fromDevice(at, "A", cut[:25]))
	r.run(r.objs.TcDeviceIn, r.fromDevice(at+25, "PA", cut[25:]))
	next, n := at+uint32(len(cut)), 0
	for r.countedTC(EproxyReasonREASON_KEPT) == 1 && n < 100 {
		r.put(r.objs.Slots, uint32(rigSlot), &EproxySlot{State: uint32(EproxySlotStateSLOT_IDLE)})
		r.pod(func(p *EproxyPod) { p.Idle, p.Room, p.Busy = 1, 0, 0 })
		r.change(rigDevice, func(c *EproxyConn) { c.Rx.Count, c.Rx.Open, c.InFlight = 0, 0, 0 })
		r.change(rigSlot, func(c *EproxyConn) { c.Tx.Count, c.Tx.Open, c.TxUna = 0, 0, c.TxNxt })
		r.run(r.objs.TcDeviceIn, r.fromDevice(next, "A", append(publish("sensors/a/temp", 0, 0, "x"), cut[:25]...)))
		next = r.readConn(rigDevice).RxNxt
		if d := r.readDevice(); d.Kept == 0 {
			r.run(r.objs.TcDeviceIn, r.fromDevice(next, "PA", cut[25:]))
			next += uint32(len(cut) - 25)
		}
		n++
	}
	if n != 33 {
		t.Errorf("kept again after %d: %v", n, r.allReasons())
	}
}

// TestKeptBetweenCutOnes: a segment that begins with the rest of a packet that went to the socket, and ends with the
// beginning of a message, is passed its rest when it comes again, and nothing of what is kept.
func TestKeptBetweenCutOnes(t *testing.T) {
	whole, cut := publish("sensors/a/temp", 1, 7, "whole"), publish("sensors/a/temp", 1, 9, "cut")
	r := newRig(t, false)
	r.pod(func(p *EproxyPod) { p.Proven, p.Depth = 8, 8 })
	r.device(func(d *EproxyDevice) { d.Framing.Left = 4 })
	sent := append(append([]byte("rest"), whole...), cut[:20]...)
	r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, "A", sent))
	at := devISS + uint32(len(sent)) - 20
	if c := r.readConn(rigDevice); c.RxNxt != at || r.countedTC(EproxyReasonREASON_KEPT) != 1 {
		t.Fatalf("next byte %d: %v", c.RxNxt-devISS, r.allReasons())
	}
	// as the program has sent it to its own interface: cut
	ret, out := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, "A", sent[:len(sent)-20]))
	if tcp := checkSegment(t, out); ret != tcOK || string(tcp.Payload) != "rest" || tcp.Seq != devISS {
		t.Errorf("again: verdict %d, %q at %d: %v", ret, tcp.Payload, tcp.Seq-devISS, r.allReasons())
	}
	r.run(r.objs.TcDeviceIn, r.fromDevice(at+20, "PA", cut[20:]))
	if got := r.bodies(); fmt.Sprint(got) != "[whole cut]" {
		t.Errorf("in flight %q: %v", got, r.allReasons())
	}
}
