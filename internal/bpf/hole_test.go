package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
)

// ahead is a rig with one message taken and a PINGREQ passed beyond what follows it: one message
// that is missing. It returns that message and where it belongs.
func ahead(t *testing.T, ipv6 bool) (r *rig, missing []byte, at uint32) {
	t.Helper()
	r = newRig(t, ipv6)
	r.device(func(d *EproxyDevice) { d.Anchor = devISS })
	n, _ := r.take(t)
	missing, at = publish("sensors/a/temp", 1, 8, "missing"), devISS+n
	end := at + uint32(len(missing))
	if ret, _ := r.run(r.objs.XdpDevice, r.fromDevice(end, "PA", []byte{0xc0, 0})); ret != xdpPass {
		t.Fatalf("XDP: verdict %d: %v", ret, r.allReasons())
	}
	ret, out := r.run(r.objs.TcDeviceIn, r.fromDevice(end, "PA", []byte{0xc0, 0}))
	if tcp := checkSegment(t, out); ret != tcOK || tcp.Seq != devISS+uint32(len(missing)) || string(tcp.Payload) != "\xc0\x00" {
		t.Fatalf("verdict %d, at %d of the socket's stream: %v", ret, tcp.Seq-devISS, r.allReasons())
	}
	r.expect(t, EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_AHEAD)
	if c := r.readConn(rigDevice); c.RxNxt != at || c.RxHole != end+2 || c.Flags&uint32(EproxyConnFlagCONN_LOST) != 0 {
		t.Fatalf("next byte %d, passed up to %d, flags %#x", c.RxNxt-devISS, c.RxHole-devISS, c.Flags)
	}
	return r, missing, at
}

// boundary: the server has read so many bytes, to a packet's end.
func (r *rig) boundary(t *testing.T, read uint64) bool {
	t.Helper()
	args := EproxyDeviceArgs{Conn: rigDevice, Gen: 1, Op: uint32(EproxyDeviceOpDEVICE_OP_BOUNDARY), Read: read}
	if _, err := r.objs.DeviceControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		t.Fatal(err)
	}
	return args.Ok == 1
}

// TestHoleBelongsToTheSocket: what comes beyond missing bytes passes at its exact place, and so does what
// is missing; nothing is taken until the socket has both, and then again, also
// while an older message is still with its function.
func TestHoleBelongsToTheSocket(t *testing.T) {
	for _, told := range []string{"by its acknowledgement", "by what the server has read"} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(told, func(t *testing.T) {
				r, missing, at := ahead(t, ipv6)
				n := uint32(len(missing))
				if ret, _ := r.run(r.objs.XdpDevice, r.fromDevice(at, "PA", missing)); ret != xdpPass {
					t.Fatalf("XDP: verdict %d: %v", ret, r.allReasons())
				}
				if r.boundary(t, 0) {
					t.Error("a boundary was named in front of what is missing")
				}
				ret, out := r.run(r.objs.TcDeviceIn, r.fromDevice(at, "PA", missing))
				if tcp := checkSegment(t, out); ret != tcOK || tcp.Seq != devISS || string(tcp.Payload) != string(missing) {
					t.Fatalf("verdict %d, at %d of the socket's stream: %v", ret, tcp.Seq-devISS, r.allReasons())
				}
				if r.boundary(t, uint64(n)) {
					t.Error("a boundary was named in front of what was passed")
				}
				if told == "by its acknowledgement" {
					dev, node, _, _ := r.addrs()
					r.run(r.objs.TcDeviceOut, seg{from: node, to: dev, seq: nodISS, ack: devISS + n + 2, flags: "A"})
					if c := r.readConn(rigDevice); c.RxNxt != at+n+2 || c.Flags&uint32(EproxyConnFlagCONN_LOST|EproxyConnFlagCONN_BROKEN) != uint32(EproxyConnFlagCONN_LOST) {
						t.Errorf("next byte %d of %d, flags %#x", c.RxNxt-at, n+2, c.Flags)
					}
				}
				if !r.boundary(t, uint64(n+2)) {
					t.Error("no boundary was named behind all that was passed")
				}
				if c := r.readConn(rigDevice); c.RxNxt != at+n+2 || c.RxHole != c.RxNxt || c.Flags&uint32(EproxyConnFlagCONN_LOST) != 0 || c.Rx.Open != 1 {
					t.Errorf("next byte %d of %d, passed up to %d, flags %#x, %d open messages", c.RxNxt-at, n+2, c.RxHole-at, c.Flags, c.Rx.Open)
				}
				r.pod(func(p *EproxyPod) { p.Idle = 1 })
				r.put(r.objs.Slots, uint32(rigSlot), &EproxySlot{State: uint32(EproxySlotStateSLOT_IDLE)})
				r.run(r.objs.TcDeviceIn, r.fromDevice(at+n+2, "PA", publish("sensors/a/temp", 1, 9, "behind")))
				r.device(func(d *EproxyDevice) {
					if d.Taken != 2 {
						t.Errorf("%d messages taken, want 2: %v", d.Taken, r.allReasons())
					}
				})
			})
		}
	}
}

// TestHoleIsAskedFor: the socket's duplicate acknowledgements reach the device; those
// that would ask for the open message in front of the hole wait until that is
// done, and follow its PUBACK.
func TestHoleIsAskedFor(t *testing.T) {
	r, _, at := ahead(t, false)
	dev, node, _, _ := r.addrs()
	ask := seg{from: node, to: dev, seq: nodISS, ack: devISS, flags: "A"}
	for range 2 {
		if ret, _ := r.run(r.objs.TcDeviceOut, ask); ret != tcShot {
			t.Errorf("asks for the open message: verdict %d", ret)
		}
	}
	if c := r.readConn(rigDevice); c.RxDups != 2 {
		t.Errorf("%d wait, want 2", c.RxDups)
	}
	m := r.slot().Messages[0]
	ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, m.RequestSeq+m.RequestLen, "PA", []byte(okResponse)))
	if ret != tcShot { // all of it has left in clones
		t.Errorf("response: verdict %d", ret)
	}
	if c := r.readConn(rigDevice); c.RxAcked != at || c.RxDups != 0 {
		t.Errorf("acknowledged up to %d of %d, %d wait", c.RxAcked-devISS, at-devISS, c.RxDups)
	}
	ask.seq = nodISS
	if ret, out := r.run(r.objs.TcDeviceOut, ask); ret != tcOK || checkSegment(t, out).Ack != at {
		t.Errorf("duplicate acknowledgement: verdict %d", ret)
	}
}

// TestHoleEndsAtTheWindow: nothing is passed that the socket would have to drop for its place.
func TestHoleEndsAtTheWindow(t *testing.T) {
	r := newRig(t, false)
	r.change(rigDevice, func(c *EproxyConn) { c.RxRawwnd = 100 })
	ret, out := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS+90, "FPA", make([]byte, 20)))
	if tcp := checkSegment(t, out); ret != tcOK || tcp.Seq != devISS+90 || len(tcp.Payload) != 10 || tcp.FIN || tcp.PSH {
		t.Errorf("verdict %d, %d bytes at %d, FIN %v", ret, len(tcp.Payload), tcp.Seq-devISS, tcp.FIN)
	}
	if ret, _ := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS+100, "PA", []byte("x"))); ret != tcRedirect {
		t.Errorf("beyond the window: verdict %d", ret)
	}
	if ret, _ := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS+101, "FA", nil)); ret != tcRedirect {
		t.Errorf("FIN beyond the window: verdict %d", ret)
	}
	if c := r.readConn(rigDevice); c.RxHole != devISS+100 || c.RxNxt != devISS {
		t.Errorf("next byte %d, passed up to %d", c.RxNxt-devISS, c.RxHole-devISS)
	}
	// in order, too: what the device sends beyond it comes again
	ret, out = r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, "PA", make([]byte, 110)))
	if tcp := checkSegment(t, out); ret != tcOK || len(tcp.Payload) != 100 {
		t.Errorf("verdict %d, %d bytes", ret, len(tcp.Payload))
	}
	if c := r.readConn(rigDevice); c.RxHole != devISS+100 || c.RxNxt != devISS+100 || c.Flags&uint32(EproxyConnFlagCONN_LOST) == 0 {
		t.Errorf("next byte %d, passed up to %d, flags %#x", c.RxNxt-devISS, c.RxHole-devISS, c.Flags)
	}
}

// TestEndBeyondAHole: a FIN beyond missing bytes passes, and counts when they have come;
// an RST passes behind all that was passed.
func TestEndBeyondAHole(t *testing.T) {
	r, missing, at := ahead(t, false)
	end := at + uint32(len(missing)) + 2
	dev, node, _, _ := r.addrs()
	fin := uint32(EproxyConnFlagCONN_FIN_SEEN)
	ret, out := r.run(r.objs.TcDeviceIn, r.fromDevice(end, "FA", nil))
	if tcp := checkSegment(t, out); ret != tcOK || !tcp.FIN || tcp.Seq != devISS+end-at {
		t.Errorf("FIN: verdict %d, at %d of %d", ret, tcp.Seq-devISS, end-at)
	}
	if c := r.readConn(rigDevice); c.Flags&fin != 0 || c.RxFin != end+1 || c.RxHole != end+1 {
		t.Errorf("flags %#x, FIN at %d, passed up to %d of %d", c.Flags, c.RxFin-at, c.RxHole-at, end+1-at)
	}
	r.run(r.objs.TcDeviceIn, r.fromDevice(at, "PA", missing))
	if c := r.readConn(rigDevice); c.Flags&fin != 0 {
		t.Error("FIN seen although the socket has not said that it has the bytes before it")
	}
	r.run(r.objs.TcDeviceOut, seg{from: node, to: dev, seq: nodISS, ack: devISS + end - at + 1, flags: "A"})
	if c := r.readConn(rigDevice); c.Flags&fin == 0 || c.Flags&uint32(EproxyConnFlagCONN_BROKEN) != 0 || c.RxNxt != end+1 {
		t.Errorf("flags %#x, next byte %d of %d", c.Flags, c.RxNxt-at, end+1-at)
	}

	r, missing, at = ahead(t, false)
	end = at + uint32(len(missing)) + 2
	if ret, _ := r.run(r.objs.TcDeviceIn, r.fromDevice(end-1, "R", nil)); ret == tcOK {
		t.Error("an RST inside what was passed passes")
	}
	ret, out = r.run(r.objs.TcDeviceIn, r.fromDevice(end, "R", nil))
	if tcp := checkSegment(t, out); ret != tcOK || !tcp.RST || tcp.Seq != devISS+end-at {
		t.Errorf("RST: verdict %d, at %d of %d", ret, tcp.Seq-devISS, end-at)
	}
}
