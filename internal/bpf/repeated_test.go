package bpf

import (
	"testing"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
)

// ids runs device_control for a packet identifier of the rig's device.
func (r *rig) ids(args EproxyDeviceArgs) EproxyDeviceArgs {
	r.t.Helper()
	args.Conn, args.Gen = rigDevice, max(args.Gen, 1)
	if _, err := r.objs.DeviceControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		r.t.Fatal(err)
	}
	return args
}

func (r *rig) hold(id uint16, dup bool) EproxyDeviceArgs {
	return r.ids(EproxyDeviceArgs{Op: uint32(EproxyDeviceOpDEVICE_OP_HOLD), PacketId: id, Dup: uint16(b2u(dup))})
}

func (r *rig) release(hold uint32) bool {
	return r.ids(EproxyDeviceArgs{Op: uint32(EproxyDeviceOpDEVICE_OP_RELEASE), Hold: hold}).Ok == 1
}

// TestRepetitionIsKnown: a repetition is one from when its original was taken until
// the device has acknowledged the PUBACK; after that it is a new message.
func TestRepetitionIsKnown(t *testing.T) {
	r := newRig(t, false)
	n, req := r.take(t)
	if a := r.hold(7, true); a.Ok != 1 || a.Repeated != 1 {
		t.Errorf("under way: %+v", a)
	}
	r.expect(t, EproxyHookHOOK_CONTROL, EproxyReasonREASON_REPEATED)
	if a := r.hold(8, true); a.Repeated != 0 || !r.release(a.Hold) {
		t.Errorf("another identifier: %+v", a)
	}
	ret, out := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
	if tcp := checkSegment(t, out); ret != tcRedirect || string(tcp.Payload) != "\x40\x02\x00\x07" {
		t.Fatalf("response: verdict %d, % x", ret, tcp.Payload)
	}
	if a := r.hold(7, true); a.Repeated != 1 {
		t.Errorf("PUBACK on its way: %+v", a)
	}
	ack := r.fromDevice(devISS+n, "A", nil)
	ack.ack = nodISS + 4
	r.run(r.objs.TcDeviceIn, ack)
	if a := r.hold(7, true); a.Repeated != 0 || !r.release(a.Hold) || r.release(a.Hold) {
		t.Errorf("PUBACK received: %+v", a)
	}
	if a := r.ids(EproxyDeviceArgs{Gen: 2, Op: uint32(EproxyDeviceOpDEVICE_OP_HOLD), PacketId: 7}); a.Ok != 0 || a.Hold != abi.HoldNone || a.Repeated != 0 {
		t.Errorf("another life's: %+v", a)
	}
}

// TestIdentifierOfTheFallback: what the server holds is known to the programs: a
// message without DUP that has its identifier is taken, and the older one may not
// be acknowledged any more.
func TestIdentifierOfTheFallback(t *testing.T) {
	r := newRig(t, false)
	old := r.hold(7, false)
	_, req := r.take(t)
	if r.release(old.Hold) {
		t.Error("the older message may be acknowledged")
	}
	_, out := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
	if tcp := checkSegment(t, out); string(tcp.Payload) != "\x40\x02\x00\x07" {
		t.Errorf("the newer one is answered by % x", tcp.Payload)
	}
}

// TestIdentifierUsedAgain: the response to a message whose identifier another one
// has by now acknowledges nothing; the bytes are acknowledged all the same.
func TestIdentifierUsedAgain(t *testing.T) {
	r := newRig(t, false)
	n, req := r.take(t)
	newer := r.hold(7, false)
	ret, out := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
	if tcp := checkSegment(t, out); ret != tcRedirect || len(tcp.Payload) != 0 || tcp.Ack != devISS+n {
		t.Errorf("verdict %d, ack %d, % x", ret, tcp.Ack, tcp.Payload)
	}
	if c := r.readConn(rigDevice); c.InFlight != 0 || c.TxNxt != nodISS {
		t.Errorf("%d in flight, next byte %d", c.InFlight, c.TxNxt)
	}
	if !r.release(newer.Hold) {
		t.Error("the newer message may not be acknowledged")
	}
}

// TestHoldIsHandedOver: a PUBACK that could not be inserted, and a message that is
// taken over, come with the hold, which is valid until userspace releases it.
func TestHoldIsHandedOver(t *testing.T) {
	r := newRig(t, false)
	r.take(t)
	args := EproxySlotArgs{Slot: rigSlot, Gen: 1, Op: uint32(EproxySlotOpSLOT_OP_TAKE_OVER)}
	if _, err := r.objs.SlotControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil || args.Ok != 1 {
		t.Fatalf("%+v, %v", args, err)
	}
	if a := r.hold(7, true); a.Repeated != 1 {
		t.Error("taken over, and forgotten")
	}
	if !r.release(args.Hold) || r.release(args.Hold) {
		t.Errorf("hold %#x of the message taken over", args.Hold)
	}
}
