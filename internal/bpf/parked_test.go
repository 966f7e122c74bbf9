package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"

	"eproxy/internal/abi"
)

// parkedPods is how many pods the function of a parkingRig has at most; only pod 0 has a real slot.
const parkedPods = 16

// parkingRig is a rig in which messages that find no slot wait, all places of its pod being taken.
type parkingRig struct {
	*rig
	seq map[uint32]uint32 // next byte of each device, by conn index
	res uint32            // next byte of the pod's responses
}

func newParkingRig(t *testing.T) *parkingRig {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := object().Load()
	if err != nil {
		t.Fatal(err)
	}
	chunks := []string{"conns", "devices", "slots", "requests", "route_counters", "queues", "parked"}
	for _, name := range chunks {
		spec.Maps[name].MaxEntries = 1
	}
	spec.Maps["flows"].MaxEntries, spec.Maps["pod_socks"].MaxEntries, spec.Maps["pods"].MaxEntries = 128, rigSlots, parkedPods
	for name, v := range map[string]uint32{"knob_slots": rigSlots, "knob_pipeline": 8} {
		if err := spec.Variables[name].Set(v); err != nil {
			t.Fatal(err)
		}
	}
	r := &parkingRig{rig: &rig{t: t}, seq: map[uint32]uint32{}, res: podISS}
	if err := spec.LoadAndAssign(&r.objs, nil); err != nil {
		t.Fatal(whole(err))
	}
	t.Cleanup(func() { r.objs.Close() })
	o := &r.objs
	for i, m := range []**ebpf.Map{&o.Conns, &o.Devices, &o.Slots, &o.Requests, &o.RouteCounters, &o.Queues, &o.Parked} {
		if err := fillChunk(spec.Maps[chunks[i]].InnerMap, m); err != nil {
			t.Fatalf("%s: %v", chunks[i], err)
		}
	}
	r.fill()
	r.put(o.Settings, uint32(0), &EproxyGlobals{Root: 1, RootDollar: 2, Epoch: 1, SlotsEnd: rigSlots, ConnsEnd: rigSlots + 8})
	for i := range uint32(2) {
		q := EproxyQueue{Function: i, HandoverMs: 1 << 30, Most: 100}
		copy(q.IdPrefix[:], fmt.Sprintf("abcdef01%04x", i))
		r.put(o.Queues, i, &q)
	}
	r.control(EproxyParkOpPARK_OP_ROOM, EproxyParkArgs{Number: 60})
	r.client(0, false)
	r.pod(func(p *EproxyPod) { p.Concurrency, p.Idle, p.Busy, p.Proven, p.Depth = 1, 0, 1, 1, 1 })
	return r
}

// client opens the connection of another device.
func (r *parkingRig) client(i uint32, ipv6 bool) {
	r.t.Helper()
	r.ipv6 = ipv6
	dev, node, _, _ := r.addrs()
	d := rigDevicePart()
	r.put(r.objs.Devices, i, &d)
	r.conn(rigDevice+i, EproxyConnKindCONN_DEVICE, node, netip.AddrPortFrom(dev.Addr(), dev.Port()+uint16(i)), devISS, nodISS)
	r.seq[rigDevice+i] = devISS
}

// publishes: the device sends these messages of QoS 1 in one segment.
func (r *parkingRig) publishes(i uint32, payloads ...string) {
	r.t.Helper()
	var b []byte
	for _, p := range payloads {
		b = append(b, publish("sensors/a/temp", 1, uint16(len(r.allReasons()))+uint16(p[len(p)-1]), p)...)
	}
	r.sends(i, b)
}

func (r *parkingRig) sends(i uint32, b []byte) {
	r.t.Helper()
	c := r.readConn(rigDevice + i)
	r.ipv6 = c.Flags&uint32(EproxyConnFlagCONN_IPV6) != 0
	s := r.fromDevice(r.seq[rigDevice+i], "PA", b)
	s.from = netip.AddrPortFrom(s.from.Addr(), s.from.Port()+uint16(i))
	if ret, _ := r.run(r.objs.TcDeviceIn, s); ret == tcOK {
		r.t.Fatalf("passed: %v", r.allReasons())
	}
	r.seq[rigDevice+i] += uint32(len(b))
}

// responds: the pod answers the request that its slot carries.
func (r *parkingRig) responds() {
	r.t.Helper()
	r.ipv6 = false
	c := r.readConn(rigSlot)
	r.run(r.objs.TcPodIn, r.fromPod(r.res, c.TxNxt, "PA", []byte(okResponse)))
	r.res += uint32(len(okResponse))
}

// carried is the payload of the request that the slot carries; "" if it is idle.
func (r *parkingRig) carried() string {
	r.t.Helper()
	s := r.slot()
	if s.Head == s.Tail {
		return ""
	}
	var q EproxyRequest
	if err := r.objs.Requests.Lookup(uint32(rigSlot), &q); err != nil {
		r.t.Fatal(err)
	}
	return body(q.Buf[:s.Messages[s.Head%8].RequestLen])
}

func body(request []byte) string {
	_, b, _ := strings.Cut(string(request), "\r\n\r\n")
	return b
}

func (r *parkingRig) queue(i uint32) (q EproxyQueue) {
	r.t.Helper()
	if err := r.objs.Queues.Lookup(i, &q); err != nil {
		r.t.Fatal(err)
	}
	return q
}

func (r *parkingRig) waiting(want uint32) {
	r.t.Helper()
	if n := r.queue(0).Count; n != want {
		r.t.Fatalf("%d messages wait, want %d: %v", n, want, r.allReasons())
	}
}

func (r *parkingRig) control(op EproxyParkOp, a EproxyParkArgs) EproxyParkArgs {
	r.t.Helper()
	a.Op = uint32(op)
	if _, err := r.objs.ParkControl.Run(&ebpf.RunOptions{Context: &a, ContextOut: &a}); err != nil {
		r.t.Fatal(err)
	}
	return a
}

// send runs park_send for queue 0.
func (r *parkingRig) send() uint32 {
	r.t.Helper()
	ret, err := r.objs.ParkSend.Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: make([]byte, 68)})
	if err != nil {
		r.t.Fatal(err)
	}
	return ret
}

// free makes the slot idle, whatever it carried.
func (r *parkingRig) free() {
	r.pod(func(p *EproxyPod) { p.Idle, p.Busy = 1, 0 })
}

// TestParkedBurst: of a segment's messages those that find no slot wait; each response sends the next one,
// in order, and the client's next ones stand behind another client's first.
func TestParkedBurst(t *testing.T) {
	r := newParkingRig(t)
	r.client(1, false)
	r.free()
	r.publishes(0, "a1", "a2", "a3")
	r.waiting(2)
	r.publishes(1, "b1")
	r.waiting(3)
	for i, want := range []string{"a1", "a2", "b1", "a3", ""} {
		if got := r.carried(); got != want {
			t.Fatalf("request %d carries %q, want %q: %v", i, got, want, r.allReasons())
		}
		r.responds()
	}
	r.waiting(0)
	for i, want := range []uint16{0, 0} {
		if n := r.readConn(rigDevice + uint32(i)).InFlight; n != want {
			t.Errorf("client %d: %d messages in flight", i, n)
		}
	}
}

// TestParkedFamily: what waits for a pod of one address family leaves with that family's responses, whoever waits
// for the other.
func TestParkedFamily(t *testing.T) {
	r := newParkingRig(t)
	r.client(1, true)
	var fn EproxyFunction
	if err := r.objs.Functions.Lookup(uint32(0), &fn); err != nil {
		t.Fatal(err)
	}
	pods := func(pods ...uint32) {
		fn.PodCount = uint32(copy(fn.Pods[:], pods))
		r.put(r.objs.Functions, uint32(0), &fn)
	}
	r.put(r.objs.Pods, uint32(1), &EproxyPod{FirstSlot: 1, Busy: 1, Up: 1, Ipv6: 1, Concurrency: 1, Proven: 1, Depth: 1, Ifindex: 1})
	pods(1)
	r.publishes(1, "b1", "b2")
	pods(0)
	r.free()
	r.publishes(0, "a1", "a2", "a3")
	pods(0, 1)
	r.waiting(4)
	for i, want := range []string{"a1", "a2", "a3", ""} {
		if got := r.carried(); got != want {
			t.Fatalf("request %d carries %q, want %q: %v", i, got, want, r.allReasons())
		}
		r.responds()
	}
	r.waiting(2)
	r.send()
	if got := r.carried(); got != "" {
		t.Errorf("the slot of a pod of IPv4 carries %q", got)
	}
}

// TestParkedFindsAnyPod: a place is found wherever it is.
func TestParkedFindsAnyPod(t *testing.T) {
	r := newParkingRig(t)
	var fn EproxyFunction
	if err := r.objs.Functions.Lookup(uint32(0), &fn); err != nil {
		t.Fatal(err)
	}
	fn.PodCount = parkedPods
	for i := uint32(1); i < parkedPods; i++ {
		fn.Pods[i] = i
		r.put(r.objs.Pods, i, &EproxyPod{FirstSlot: i, Busy: 1, Up: 1, Concurrency: 1, Proven: 1, Depth: 1, Ifindex: 1})
	}
	r.put(r.objs.Functions, uint32(0), &fn)
	r.free()
	for i := range 8 {
		r.publishes(0, fmt.Sprint("m", i))
		if got := r.carried(); got != fmt.Sprint("m", i) {
			t.Fatalf("message %d waits while a pod has a place: %v", i, r.allReasons())
		}
		r.responds()
	}
}

// TestParkedAsks: while a message waits that no pod had a place for, each look asks userspace for more connections, as long as
// none has come: perhaps no other message comes that would. It is one message all the time.
func TestParkedAsks(t *testing.T) {
	r := newParkingRig(t)
	r.publishes(0, "a1")
	r.pod(func(p *EproxyPod) { p.Asked, p.Lacked = 0, 0 })
	r.send()
	r.waiting(1)
	r.pod(func(p *EproxyPod) {
		if p.Asked != 1 || p.Lacked != 0 {
			t.Errorf("asked %d, lacked %d more after a look: %v", p.Asked, p.Lacked, r.allReasons())
		}
	})
}

// TestParkedWindows: where the pod's receive window is full a message waits as long as somebody will answer; if nobody
// will it is userspace's, and just that one.
func TestParkedWindows(t *testing.T) {
	r := newParkingRig(t)
	r.client(1, false)
	r.publishes(0, "a1", "a2")
	r.publishes(1, "b1")
	r.change(rigSlot, func(c *EproxyConn) { c.TxWnd = 10 })
	r.pod(func(p *EproxyPod) { p.Concurrency, p.Idle, p.Busy = 2, 1, 2 }) // the second slot has a request in flight
	if r.send() != 0 {
		t.Error("refused while a response is to come")
	}
	r.waiting(3)
	r.pod(func(p *EproxyPod) { p.Busy = 0 })
	if r.send() != 1 {
		t.Error("not refused, but nobody will answer")
	}
	r.waiting(3)
	a := r.control(EproxyParkOpPARK_OP_TAKE, EproxyParkArgs{BeforeMs: uint32(time.Duration(monotonic()).Milliseconds())})
	if a.Ok != 1 {
		t.Fatal("nothing was taken")
	}
	if got := r.parked(a.Number); got != "a1" {
		t.Errorf("taken %q, want the message that was refused", got)
	}
	r.waiting(2)
}

// parked is the payload of the message that waits with this number.
func (r *parkingRig) parked(number uint32) string {
	r.t.Helper()
	var m EproxyParkedMessage
	if err := r.objs.Parked.Lookup(number, &m); err != nil {
		r.t.Fatal(err)
	}
	return body(m.Buf[:m.Message.RequestLen])
}

// TestParkedGivenBack: a message that no slot took is the next one again, in front of other clients' and its own
// client's others.
func TestParkedGivenBack(t *testing.T) {
	r := newParkingRig(t)
	r.client(1, false)
	r.publishes(0, "a1", "a2")
	r.publishes(1, "b1")
	r.free()
	r.change(rigSlot, func(c *EproxyConn) { c.TxWnd = 10 })
	r.send()
	r.change(rigSlot, func(c *EproxyConn) { c.TxWnd = 65535 })
	r.send()
	for i, want := range []string{"a1", "b1", "a2"} {
		if got := r.carried(); got != want {
			t.Fatalf("request %d carries %q, want %q: %v", i, got, want, r.allReasons())
		}
		r.responds()
	}
}

// TestParkedTwoFunctions: a segment's messages of two functions find places of both behind their parking.
func TestParkedTwoFunctions(t *testing.T) {
	r := newParkingRig(t)
	r.edge(4, "other", 6)
	n := node0(abi.NoIndex, 1)
	r.put(r.objs.Nodes, uint32(6), &n)
	r.put(r.objs.Routes, uint32(1), &EproxyRoute{Function: 1})
	var fn EproxyFunction
	if err := r.objs.Functions.Lookup(uint32(0), &fn); err != nil {
		t.Fatal(err)
	}
	other := EproxyFunction{PodCount: 1, Queue: 1, PrefixLen: fn.PrefixLen, Prefix: fn.Prefix}
	other.Pods[0] = 1
	r.put(r.objs.Functions, uint32(1), &other)
	r.put(r.objs.Pods, uint32(1), &EproxyPod{FirstSlot: 1, Function: 1, Queue: 1, Busy: 1, Up: 1, Concurrency: 1, Proven: 1, Depth: 1, Ifindex: 1})
	fn.PodCount = parkedPods
	for i := uint32(2); i <= parkedPods; i++ {
		fn.Pods[i-1] = i % parkedPods // pod 0 is the last one
		if i < parkedPods {
			r.put(r.objs.Pods, i, &EproxyPod{FirstSlot: i, Busy: 1, Up: 1, Concurrency: 1, Proven: 1, Depth: 1, Ifindex: 1})
		}
	}
	fn.Pods[0] = 2
	r.put(r.objs.Functions, uint32(0), &fn)
	r.free()
	for i := range 8 { // chance may find the place at once
		r.sends(0, append(publish("sensors/a/temp", 1, 7, "one"), publish("sensors/a/other", 1, 8, "two")...))
		if got := r.carried(); got != "one" {
			t.Fatalf("round %d: the slot carries %q: %v", i, got, r.allReasons())
		}
		r.responds()
	}
	if n := r.queue(1).Count; n != 8 {
		t.Errorf("%d messages wait for the other function, want 8", n)
	}
}

// TestParkedClientGone: the message of a client that is gone is sent all the same; its successor's ledger is not touched.
func TestParkedClientGone(t *testing.T) {
	r := newParkingRig(t)
	r.publishes(0, "a1")
	f := EproxyFreeArgs{Conn: rigDevice, Gen: r.readConn(rigDevice).Gen}
	if _, err := r.objs.ConnFree.Run(&ebpf.RunOptions{Context: &f}); err != nil {
		t.Fatal(err)
	}
	r.change(rigDevice, func(c *EproxyConn) { c.State, c.InFlight = uint16(EproxyConnStateCONN_OPEN), 5 })
	r.free()
	r.send()
	if got := r.carried(); got != "a1" {
		t.Fatalf("the slot carries %q", got)
	}
	r.responds()
	if n := r.readConn(rigDevice).InFlight; n != 5 {
		t.Errorf("the next client has %d messages in flight, want 5", n)
	}
	r.expect(t, EproxyHookHOOK_TC_POD_IN, EproxyReasonREASON_DEVICE_GONE)
}

// TestParkedIDs: ce-id is another one when its counter has been at its end.
func TestParkedIDs(t *testing.T) {
	r := newParkingRig(t)
	q := r.queue(0)
	q.Ids = 1<<32 - 1
	r.put(r.objs.Queues, uint32(0), &q)
	r.publishes(0, "a1")
	var m EproxyParkedMessage
	if err := r.objs.Parked.Lookup(uint32(1), &m); err != nil {
		t.Fatal(err)
	}
	if want := "\r\nce-id: abcdef01100000000000\r\n"; !strings.Contains(string(m.Buf[:m.Message.RequestLen]), want) {
		t.Errorf("%q: no %q", m.Buf[:m.Message.RequestLen], want)
	}
}

// TestParkedWithoutPods: the sweeper tells userspace of what waits when the pods are gone.
func TestParkedWithoutPods(t *testing.T) {
	r := newParkingRig(t)
	r.publishes(0, "a1")
	r.pod(func(p *EproxyPod) { p.Up = 0 })
	s := r.slot()
	s.Pod = 3 // its slot is another pod's now
	r.put(r.objs.Slots, uint32(rigSlot), &s)
	r.events()
	rd := r.reader()
	if ret, err := r.objs.SweepStart.Run(&ebpf.RunOptions{}); err != nil || ret != 0 {
		t.Fatalf("sweep_start: %d, %v", int32(ret), err)
	}
	for {
		rec, err := rd.Read()
		if err != nil {
			t.Fatalf("userspace is not told: %v", err)
		}
		if EproxyEventKind(binary.NativeEndian.Uint32(rec.RawSample)) == EproxyEventKindEVENT_PARKED {
			return
		}
	}
}

// reader reads events for at most ten seconds.
func (r *parkingRig) reader() *ringbuf.Reader {
	r.t.Helper()
	rd, err := ringbuf.NewReader(r.objs.Events)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { rd.Close() })
	rd.SetDeadline(time.Now().Add(10 * time.Second))
	return rd
}
