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

// table reads a table of packet identifiers.
func (r *rig) table(n uint32) (t EproxyIdTable) {
	r.t.Helper()
	if err := r.objs.IdTables.Lookup(n, &t); err != nil {
		r.t.Fatal(err)
	}
	return t
}

func (r *rig) readDevice() (out EproxyDevice) {
	r.device(func(d *EproxyDevice) { out = *d })
	return out
}

// TestManyIdentifiers: a client with more messages under way than its entry has room for gets a table, in which
// repetitions are known and from which messages are acknowledged; when it is empty it is anybody's again.
func TestManyIdentifiers(t *testing.T) {
	r := newRig(t, false)
	holds := make(map[uint16]uint32)
	for id := uint16(100); id < 1000; id++ {
		a := r.hold(id, false)
		if a.Ok != 1 || a.Hold == abi.HoldOutside {
			t.Fatalf("identifier %d: %+v", id, a)
		}
		holds[id] = a.Hold
	}
	number := uint32(r.readDevice().Ids.Table)
	if number == 0 || r.table(number).Taken != 1 || r.table(number).Count != 900-abi.IdsMax {
		t.Fatalf("table %d", number)
	}
	if a := r.hold(999, true); a.Repeated != 1 {
		t.Errorf("a repetition of the latest: %+v", a)
	}
	if a := r.hold(99, true); a.Repeated != 0 || !r.release(a.Hold) {
		t.Errorf("one that is not under way: %+v", a)
	}
	_, req := r.take(t) // identifier 7
	if d := r.readDevice(); d.Ids.Outside != 0 || r.table(number).Ids[7] != 7 {
		t.Errorf("what was taken is not in the table; %d outside", d.Ids.Outside)
	}
	_, out := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
	if tcp := checkSegment(t, out); string(tcp.Payload) != "\x40\x02\x00\x07" || r.table(number).Ids[7] != 0 {
		t.Errorf("its response is answered by % x", tcp.Payload)
	}
	for id, hold := range holds {
		if !r.release(hold) || r.release(hold) {
			t.Errorf("hold %#x of identifier %d", hold, id)
		}
	}
	if d := r.readDevice(); d.Ids.Table != 0 || d.Ids.Used != 0 || r.table(number).Taken != 0 {
		t.Errorf("the table was not given back: %d, taken %d", d.Ids.Table, r.table(number).Taken)
	}
}

// TestTableOfAConnectionThatIsGone: it is empty, and anybody's; a message of the connection's that ends late does no harm.
func TestTableOfAConnectionThatIsGone(t *testing.T) {
	r := newRig(t, false)
	var last EproxyDeviceArgs
	for id := uint16(1); id <= 200; id++ {
		last = r.hold(id, false)
	}
	number := uint32(r.readDevice().Ids.Table)
	args := EproxyFreeArgs{Conn: rigDevice, Gen: 1}
	if _, err := r.objs.ConnFree.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil || args.Ok != 1 {
		t.Fatalf("%+v, %v", args, err)
	}
	if tab := r.table(number); number == 0 || tab.Taken != 0 || tab.Count != 0 || tab.Ids != [abi.IdsTable]uint16{} {
		t.Errorf("table %d: taken %d, %d identifiers", number, tab.Taken, tab.Count)
	}
	if r.release(last.Hold) || r.table(number).Count != 0 {
		t.Error("a message of a connection that is gone may be acknowledged")
	}
}
