package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"eproxy/internal/abi"
)

// TestSweeperFindsOverdue: the timer finds what is overdue at both ends of the table, which
// takes it several ticks, and nothing else: an acknowledgement that nothing
// carries, a PUBACK that was not acknowledged, messages whose time is up. What it
// has userspace send bears the connection's VLAN tag.
func TestSweeperFindsOverdue(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		for _, tci := range []uint16{0, 3<<13 | 5} {
			t.Run(fmt.Sprintf("ipv6=%v/tci=%d", ipv6, tci), func(t *testing.T) { sweepOverdue(t, ipv6, tci) })
		}
	}
}

// sweptRig is a rig of the test's own, with so many conn indexes to look at: the
// sweeper's timer would not let other tests alone.
func sweptRig(t *testing.T, ipv6 bool, slotsEnd, connsEnd uint32) *rig {
	t.Helper()
	r := &rig{t: t, ipv6: ipv6}
	if err := load(&r.objs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.objs.Close() })
	r.fill()
	r.put(r.objs.Settings, uint32(0), &EproxyGlobals{Root: 1, RootDollar: 2, Epoch: 1, SlotsEnd: slotsEnd, ConnsEnd: connsEnd})
	return r
}

// pubackTick is the unit of when a PUBACK was sent, milliseconds.
const pubackTick = 4

// puback is struct graft's who of a PUBACK with this packet identifier that was sent at ms.
func puback(id uint16, ms uint32) uint32 { return ms/pubackTick<<16 | uint32(id) }

// sentAt is when that was, less than a minute from now, milliseconds.
func sentAt(who, now uint32) uint32 {
	return now + uint32(int32(int16(uint16(who>>16)-uint16(now/pubackTick)))*pubackTick)
}

// attend has the sweeper look at connections, as the programs do.
func (r *rig) attend(conns ...uint32) {
	r.t.Helper()
	for _, conn := range conns {
		var bits uint64
		if err := r.objs.Attention.Lookup(conn/64, &bits); err != nil {
			r.t.Fatal(err)
		}
		r.put(r.objs.Attention, conn/64, bits|1<<(conn%64))
	}
}

// attended is the connections that the sweeper will look at.
func (r *rig) attended() (conns []uint32) {
	r.t.Helper()
	var word uint32
	var bits uint64
	for it := r.objs.Attention.Iterate(); it.Next(&word, &bits); {
		for n := range uint32(64) {
			if bits>>n&1 == 1 {
				conns = append(conns, 64*word+n)
			}
		}
	}
	return conns
}

func sweepOverdue(t *testing.T, ipv6 bool, tci uint16) {
	const last = 127 // conn index
	r := sweptRig(t, ipv6, rigSlots, last+1)
	r.change(rigSlot, func(c *EproxyConn) { c.RxAcked -= 100 })
	dev, node, _, _ := r.addrs()
	r.conn(last, EproxyConnKindCONN_DEVICE, node, netip.AddrPortFrom(dev.Addr(), 40009), devISS, nodISS+4)
	r.change(last, func(c *EproxyConn) {
		c.VlanTci = tci
		c.TxUna = nodISS
		c.Tx.Count = 1
		c.Tx.Ring[0] = EproxyGraft{Seq: nodISS, Len: 4, State: uint8(EproxyGraftStateGRAFT_DONE), Who: puback(7, uint32(monotonic()/1e6)-30000)}
	})
	r.put(r.objs.Pods, uint32(0), &EproxyPod{Up: 1, TimeoutMs: 60000, UnackedMs: 1000})
	message := func(slot uint32, age time.Duration, acked uint8) {
		s := EproxySlot{State: uint32(EproxySlotStateSLOT_BUSY), Tail: 1}
		s.Messages[0] = EproxyMessage{TakenNs: uint64(monotonic() - age.Nanoseconds()), Acked: acked, SentMs: uint32((monotonic() - age.Nanoseconds()) / 1e6)}
		r.put(r.objs.Slots, slot, &s)
	}
	message(rigSlot, 2*time.Second, 0)  // the pod's TCP is silent
	message(rigSlots-1, time.Minute, 1) // a little later too late
	message(1, 2*time.Second, 1)        // a slow function
	message(2, 0, 0)                    // just sent
	r.attend(rigSlot, 1, 2, rigSlots-1, rigDevice, last)

	for range 2 { // userspace calls it again where the kernel had no memory for the timer
		if ret, err := r.objs.SweepStart.Run(&ebpf.RunOptions{}); err != nil || ret != 0 {
			t.Fatalf("sweep_start: %d, %v", int32(ret), err)
		}
	}
	rd, err := ringbuf.NewReader(r.objs.Events)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	rd.SetDeadline(time.Now().Add(10 * time.Second))
	overdue, lost, sent := map[uint32]int{}, map[uint32]int{}, map[uint32][]byte{}
	for overdue[rigSlot] < 3 { // two whole passes
		rec, err := rd.Read()
		if err != nil {
			t.Fatalf("overdue %v, sent %v: %v", overdue, sent, err)
		}
		var e EproxyEvent
		if err := binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, &e); err != nil {
			t.Fatal(err)
		}
		switch EproxyEventKind(e.Kind) {
		case EproxyEventKindEVENT_OVERDUE:
			overdue[e.Conn]++
		case EproxyEventKindEVENT_LOST:
			lost[e.Conn]++
		case EproxyEventKindEVENT_SEND:
			if sent[e.Conn] != nil && e.Conn == rigSlot { // a PUBACK is, in time
				t.Errorf("connection %d: sent twice", e.Conn)
			}
			sent[e.Conn] = e.Frame[:e.FrameLen]
		default:
			t.Errorf("event %+v", e)
		}
	}
	if overdue[rigSlots-1] < 2 || len(overdue) != 2 {
		t.Errorf("overdue slots: %v", overdue)
	}
	if lost[rigSlot] < 2 || len(lost) != 1 {
		t.Errorf("requests to be sent again of slots: %v", lost)
	}
	for conn, want := range map[uint32]struct {
		seq, ack uint32
		payload  string
	}{rigSlot: {sltISS, podISS, ""}, last: {nodISS, devISS, "\x40\x02\x00\x07"}} {
		p := gopacket.NewPacket(sent[conn], layers.LayerTypeEthernet, gopacket.Default)
		tag, _ := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
		if wants := conn == last && tci != 0; (tag != nil) != wants || wants && (uint16(tag.Priority)<<13|tag.VLANIdentifier) != tci {
			t.Errorf("connection %d: tag %v of %x", conn, tag, sent[conn])
		}
		tcp, _ := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if tcp == nil || tcp.Seq != want.seq || tcp.Ack != want.ack || string(tcp.Payload) != want.payload {
			t.Errorf("connection %d: sent %x", conn, sent[conn])
		}
	}
	if len(sent) != 2 {
		t.Errorf("%d connections were sent something", len(sent))
	}
	if got := r.attended(); !slices.Equal(got, []uint32{rigSlot, 1, 2, rigSlots - 1, last}) {
		t.Errorf("looked at again: %v", got)
	}
}

// TestTakeOverOverdue: what the sweeper notified of may be over when userspace
// acts: only a message whose own time is up is taken over then.
func TestTakeOverOverdue(t *testing.T) {
	for name, c := range map[string]struct {
		age   time.Duration
		acked uint8
		sleep EproxyPodSleep
		want  bool
	}{
		"response is late":                  {31 * time.Second, 1, EproxyPodSleepPOD_AWAKE, true},
		"the next one, still in time":       {2 * time.Second, 1, EproxyPodSleepPOD_AWAKE, false},
		"not acknowledged":                  {2 * time.Second, 0, EproxyPodSleepPOD_AWAKE, true},
		"just sent":                         {0, 0, EproxyPodSleepPOD_AWAKE, false},
		"not yet, by its processor's clock": {-5 * time.Second, 0, EproxyPodSleepPOD_AWAKE, false},
		"to a pod that sleeps":              {31 * time.Second, 1, EproxyPodSleepPOD_ASLEEP, false},
		"to one that is being woken":        {2 * time.Second, 1, EproxyPodSleepPOD_WAKING, false},
		"to one that does not wake":         {31 * time.Second, 1, EproxyPodSleepPOD_WAKING, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			r.put(r.objs.Pods, uint32(0), &EproxyPod{Up: 1, TimeoutMs: 30000, UnackedMs: 1000, Sleep: uint32(c.sleep)})
			s := EproxySlot{State: uint32(EproxySlotStateSLOT_BUSY), Tail: 1}
			s.Messages[0] = EproxyMessage{TakenNs: uint64(monotonic() - c.age.Nanoseconds()), Acked: c.acked, Origin: abi.NoIndex}
			r.put(r.objs.Slots, uint32(rigSlot), &s)
			args := EproxySlotArgs{Slot: rigSlot, Gen: 1, Op: uint32(EproxySlotOpSLOT_OP_TAKE_OVER), Only: uint32(EproxyTakeOnlyTAKE_OVERDUE)}
			if _, err := r.objs.SlotControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
				t.Fatal(err)
			}
			if taken := args.Ok == uint32(EproxySlotResultSLOT_CHANGED); taken != c.want {
				t.Errorf("taken over: %t, want %t", taken, c.want)
			}
		})
	}
}

// TestPubackDueBetweenPasses: PUBACKs are sent again each at its own time, not all with
// the next pass over the connections; none early, and none twice.
func TestPubackDueBetweenPasses(t *testing.T) {
	const n, step = 20, 12 // connections; milliseconds from one to the next
	r := sweptRig(t, false, 1, rigDevice+1+n)
	var delay uint32
	if err := r.objs.KnobPubackMs.Get(&delay); err != nil {
		t.Fatal(err)
	}
	_, node, _, _ := r.addrs()
	now := uint32(monotonic() / 1e6)
	due := map[uint32]uint32{}
	for i := range uint32(n) {
		conn := uint32(rigDevice) + 1 + i
		r.conn(conn, EproxyConnKindCONN_DEVICE, node, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), uint16(40000+i)), devISS, nodISS+4)
		const roundTrip = 50
		due[conn] = now + 250 + step*i
		r.change(conn, func(c *EproxyConn) {
			c.TxUna, c.Srtt = nodISS, 8*roundTrip
			c.Tx.Count = 1
			c.Attended = 1
			c.Tx.Ring[0] = EproxyGraft{Seq: nodISS, Len: 4, State: uint8(EproxyGraftStateGRAFT_DONE), Who: puback(7, due[conn]-2*roundTrip-delay)}
		})
		r.attend(conn)
	}
	rd, err := ringbuf.NewReader(r.objs.Events)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	rd.SetDeadline(time.Now().Add(20 * time.Second))
	if ret, err := r.objs.SweepStart.Run(&ebpf.RunOptions{}); err != nil || ret != 0 {
		t.Fatalf("sweep_start: %d, %v", int32(ret), err)
	}
	sent, times := map[uint32]uint32{}, map[uint32]bool{}
	for len(sent) < n {
		rec, err := rd.Read()
		if err != nil {
			t.Fatalf("%d of %d sent: %v", len(sent), n, err)
		}
		var e EproxyEvent
		if err := binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, &e); err != nil {
			t.Fatal(err)
		}
		if e.Kind != uint32(EproxyEventKindEVENT_SEND) {
			continue
		}
		if sent[e.Conn] != 0 {
			t.Errorf("connection %d: sent twice", e.Conn)
		}
		at := sentAt(r.readConn(e.Conn).Tx.Ring[0].Who, now)
		sent[e.Conn], times[at] = at, true
		if int32(at-due[e.Conn]) <= -pubackTick {
			t.Errorf("connection %d: sent %d ms early", e.Conn, due[e.Conn]-at)
		}
	}
	if len(times) < n/2 {
		t.Errorf("sent at %d different times: %v", len(times), times)
	}
}

// sweeperRuns says whether the sweeper's timer runs, once it was started.
func (r *rig) sweeperRuns() bool {
	r.t.Helper()
	w, err := r.objs.Sweepers.LookupBytes(uint32(0))
	if err != nil {
		r.t.Fatal(err)
	}
	return binary.NativeEndian.Uint32(w[16:]) == 0 // struct sweeper: stopped, behind the timer
}

// sweeperStops waits until the sweeper's timer has stopped with nothing left to look at. The kernel tells nobody of
// that, so that only looking at it tells.
func (r *rig) sweeperStops() {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); r.sweeperRuns() || len(r.attended()) > 0; runtime.Gosched() {
		if time.Now().After(end) {
			r.t.Fatalf("the sweeper does not stop: it will look at %d connections", len(r.attended()))
		}
	}
}

// TestSweeperStops: with nothing to look at the timer stops; a message starts it again, and its
// connections are looked at until nothing is left to be done for them, and no longer.
func TestSweeperStops(t *testing.T) {
	r := sweptRig(t, false, rigSlots, rigDevice+1)
	r.put(r.objs.Pods, uint32(0), &EproxyPod{Idle: 1, Up: 1, XdpOk: 1, Ifindex: 1, Concurrency: 16, TimeoutMs: 60000, UnackedMs: 60000})
	runs := r.sweeperRuns
	if ret, err := r.objs.SweepStart.Run(&ebpf.RunOptions{}); err != nil || ret != 0 {
		t.Fatalf("sweep_start: %d, %v", int32(ret), err)
	}
	r.sweeperStops()
	pub, request := r.take(t)
	if !runs() || !slices.Equal(r.attended(), []uint32{rigSlot}) {
		t.Fatalf("after a message: runs %t, looks at %v", runs(), r.attended())
	}
	r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+request, "PA", []byte("HTTP/1.1 204 No Content\r\n\r\n")))
	if got := r.attended(); !slices.Contains(got, rigDevice) {
		t.Fatalf("after the response: looks at %v", got)
	}
	ack := r.fromDevice(devISS+pub, "A", nil)
	ack.ack = nodISS + 4
	r.run(r.objs.XdpDevice, ack)
	r.sweeperStops()
	if got := r.attended(); len(got) != 0 || r.readConn(rigSlot).Attended != 0 || r.readConn(rigDevice).Attended != 0 {
		t.Errorf("stopped, but would look at %v", got)
	}
	if n := r.reason(EproxyHookHOOK_CONTROL, EproxyReasonREASON_ACK_SWEPT); n != 1 {
		t.Errorf("%d acknowledgements to the pod", n)
	}
}
