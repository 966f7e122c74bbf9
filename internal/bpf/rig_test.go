package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"eproxy/internal/abi"
)

// Indexes and addresses of the rig: one device, one pod with one slot.
const (
	rigSlots  = 64
	rigDevice = rigSlots // conn index
	rigSlot   = 0

	devISS = 1000 // next byte of the device
	nodISS = 5000 // next byte towards the device
	podISS = 7000 // next byte of the pod
	sltISS = 9000 // next byte towards the pod

	rigPrefix = "POST /ingest HTTP/1.1\r\nHost: temp.local\r\nce-specversion: 1.0\r\nce-type: mqtt.publish\r\nce-source: eproxy/"
	rigHead   = rigPrefix + "dev-1\r\nce-subject: sensors/a/temp\r\n"
)

// rig is a loaded object with one device's and one slot's connection open.
type rig struct {
	t    testing.TB
	objs EproxyObjects
	ipv6 bool
}

func (r *rig) addrs() (dev, node, slotSrc, pod netip.AddrPort) {
	if r.ipv6 {
		return netip.MustParseAddrPort("[fd00::1]:40000"), netip.MustParseAddrPort("[fd00::2]:1883"),
			netip.MustParseAddrPort("[fd01::1]:50000"), netip.MustParseAddrPort("[fd01::2]:8080")
	}
	return netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:1883"),
		netip.MustParseAddrPort("10.1.0.1:50000"), netip.MustParseAddrPort("10.1.0.2:8080")
}

// loaded is the object, loaded once for all tests: verification takes a second.
var loaded struct {
	once sync.Once
	objs EproxyObjects
	err  error
}

// object is what the tests run against: the one that this kernel gets, or, if
// EPROXY_OBJECT is "bounded", the one of older kernels.
func object() Object {
	if os.Getenv("EPROXY_OBJECT") == Bounded.Name {
		return Bounded
	}
	return Choose()
}

func load(objs *EproxyObjects) error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return err
	}
	spec, err := object().Load()
	if err != nil {
		return err
	}
	for name, n := range map[string]uint32{"flows": 128, "conns": 1, "devices": 1, "slots": 1, "requests": 1, "route_counters": 1, "pod_counters": 1, "pod_socks": rigSlots, "pods": 2, "nodes": 1 << 16, "routes": 1 << 14} {
		spec.Maps[name].MaxEntries = n
	}
	for name, v := range map[string]uint32{"knob_slots": rigSlots, "knob_sweep": 16, "knob_pipeline": 8} {
		if err := spec.Variables[name].Set(v); err != nil {
			return err
		}
	}
	if err := spec.LoadAndAssign(objs, nil); err != nil {
		return err
	}
	for name, outer := range map[string]**ebpf.Map{"conns": &objs.Conns, "devices": &objs.Devices, "slots": &objs.Slots,
		"alias_tables": &objs.AliasTables, "requests": &objs.Requests, "route_counters": &objs.RouteCounters, "pod_counters": &objs.PodCounters} {
		if err := fillChunk(spec.Maps[name].InnerMap, outer); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// fillChunk makes the only chunk of an array, which stands for the array from then on:
// a rig has no entry beyond it.
func fillChunk(spec *ebpf.MapSpec, m **ebpf.Map) error {
	chunk, err := ebpf.NewMap(spec)
	if err != nil {
		return err
	}
	outer := *m
	defer outer.Close() // the programs hold it
	*m = chunk
	return outer.Put(uint32(0), chunk)
}

// whole is an error with all that the verifier said, if it has refused a program.
func whole(err error) string {
	if ve, ok := errors.AsType[*ebpf.VerifierError](err); ok {
		return fmt.Sprintf("%v\n%+v", err, ve)
	}
	return err.Error()
}

// newRig is a fresh state in the loaded object.
func newRig(t testing.TB, ipv6 bool) *rig {
	t.Helper()
	loaded.once.Do(func() { loaded.err = load(&loaded.objs) })
	if loaded.err != nil {
		t.Fatal(whole(loaded.err))
	}
	r := &rig{t: t, ipv6: ipv6, objs: loaded.objs}
	zero := make([]uint64, ebpf.MustPossibleCPU())
	for i := range r.objs.Reasons.MaxEntries() {
		r.put(r.objs.Reasons, i, zero)
	}
	for i := range r.objs.IdTables.MaxEntries() {
		r.put(r.objs.IdTables, i, EproxyIdTable{})
	}
	r.put(r.objs.Keeps, uint32(rigDevice), &EproxyKept{})
	r.fill()
	return r
}

func (r *rig) put(m *ebpf.Map, k, v any) {
	r.t.Helper()
	if err := m.Put(k, v); err != nil {
		r.t.Fatalf("%s: %v", m, err)
	}
}

// empty removes all entries of a map of numbers: what a test before this one has left.
func empty[K any](r *rig, m *ebpf.Map) {
	r.t.Helper()
	var keys []K
	var k K
	var v uint32
	for it := m.Iterate(); it.Next(&k, &v); {
		keys = append(keys, k)
	}
	for _, k := range keys {
		if err := m.Delete(&k); err != nil {
			r.t.Fatalf("%s: %v", m, err)
		}
	}
}

func (r *rig) fill() {
	dev, node, src, pod := r.addrs()
	o := &r.objs
	empty[EproxyGrantKey](r, o.Grants)
	empty[EproxyListener](r, o.Listeners)
	r.put(o.Settings, uint32(0), &EproxyGlobals{Root: 1, RootDollar: 2, Epoch: 1})
	// sensors/+/temp
	none := uint32(abi.NoIndex)
	for i, n := range []EproxyNode{node0(none, -1), node0(none, -1), node0(none, -1), node0(4, -1), node0(none, -1), node0(none, 0)} {
		r.put(o.Nodes, uint32(i), &n)
	}
	r.edge(1, "sensors", 3)
	r.edge(4, "temp", 5)
	r.put(o.Routes, uint32(0), &EproxyRoute{Function: 0})
	fn := EproxyFunction{PodCount: 1, PrefixLen: uint32(len(rigPrefix))}
	copy(fn.Prefix[:], rigPrefix)
	r.put(o.Functions, uint32(0), &fn)
	r.put(o.Pods, uint32(0), &EproxyPod{Idle: 1, Up: 1, XdpOk: 1, Ipv6: b2u(r.ipv6), Ifindex: 1, Concurrency: 16})
	slot := EproxySlot{State: uint32(EproxySlotStateSLOT_IDLE)}
	copy(slot.IdPrefix[:], "0123456789ab")
	r.put(o.Slots, uint32(rigSlot), &slot)
	r.neverQuiet()
	d := rigDevicePart()
	r.put(o.Devices, uint32(0), &d)
	r.conn(rigDevice, EproxyConnKindCONN_DEVICE, node, dev, devISS, nodISS)
	r.conn(rigSlot, EproxyConnKindCONN_SLOT, src, pod, podISS, sltISS)
	r.socket()
}

// rigDevicePart is the device part of a connection of the rig.
func rigDevicePart() EproxyDevice {
	d := EproxyDevice{Gen: 1, Rights: uint32(EproxyRightRIGHTS_ALL), Version: 4, InflightMax: 16, SenderLen: [2]uint8{5, 5}}
	copy(d.Sender[:], "dev-1")
	return d
}

func edgeKey(node uint32, level string) *EproxyEdgeKey {
	k := &EproxyEdgeKey{Node: node, Len: uint32(len(level))}
	copy(k.Level[:], level)
	return k
}

func (r *rig) edge(node uint32, level string, child uint32) {
	r.put(r.objs.Edges, edgeKey(node, level), child)
}

// conn opens a connection's ledger: rcv is the peer's next byte, snd is ours.
func (r *rig) conn(index uint32, kind EproxyConnKind, local, remote netip.AddrPort, rcv, snd uint32) {
	c := r.opened(index, kind, local, remote, rcv, snd)
	r.put(r.objs.Conns, index, &c)
	r.put(r.objs.Flows, &c.Tuple, index)
}

// opened is a connection's entry whose ledger has begun.
func (r *rig) opened(index uint32, kind EproxyConnKind, local, remote netip.AddrPort, rcv, snd uint32) EproxyConn {
	t := rigTuple(local, remote)
	c := EproxyConn{Gen: 1, State: uint16(EproxyConnStateCONN_OPEN), Kind: uint8(kind), Tuple: t,
		RxNxt: rcv, RxHole: rcv, RxKack: rcv, RxAcked: rcv, RxEdge: rcv + 65535, TxNxt: snd, TxUna: snd, TxKnxt: snd, TxKuna: snd, TxFramed: snd,
		TxWnd: 65535, TxMaxWnd: 65535, TxMss: 1460, TxRawwnd: 65535, RxRawwnd: 65535, Ifindex: 1, DstMac: [6]uint8{2, 2, 2, 2, 2, byte(index)}, SrcMac: [6]uint8{2, 1, 1, 1, 1, byte(index)}}
	if r.ipv6 {
		c.Flags = uint32(EproxyConnFlagCONN_IPV6)
	}
	sum := uint32(0)
	words := func(a netip.Addr) {
		b := a.AsSlice()
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.NativeEndian.Uint16(b[i:]))
		}
	}
	words(local.Addr())
	words(remote.Addr())
	c.PseudoSum = sum + uint32(be16(6))
	return c
}

// socket puts an established socket into the socket map.
func (r *rig) socket() { r.sockets(rigSlot) }

// sockets is socket for another slot.
func (r *rig) sockets(slot uint32) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close(); l.Close() })
	rc, _ := c.(*net.TCPConn).SyscallConn()
	if err := rc.Control(func(fd uintptr) { err = r.objs.PodSocks.Put(slot, uint64(fd)) }); err != nil {
		r.t.Fatal(err)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func rigTuple(local, remote netip.AddrPort) EproxyTuple {
	t := EproxyTuple{LocalPort: be16(local.Port()), RemotePort: be16(remote.Port())}
	for i := range 4 {
		l, p := local.Addr().As16(), remote.Addr().As16()
		t.Local[i] = binary.NativeEndian.Uint32(l[4*i:])
		t.Remote[i] = binary.NativeEndian.Uint32(p[4*i:])
	}
	return t
}

func be16(v uint16) uint16 { return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)}) }

func b2u(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// seg describes a TCP segment of a golden packet.
type seg struct {
	from, to netip.AddrPort
	seq, ack uint32
	flags    string // letters of SYN, FIN, RST, PSH, ACK, URG: "SA", "F"
	payload  []byte
	tags     []tag // outermost first
	badSum   bool
	options  []layers.TCPOption
}

// tag is a VLAN tag; vid 0 makes it a priority tag.
type tag struct {
	proto layers.EthernetType
	vid   uint16
}

var priorityTag = []tag{{layers.EthernetTypeDot1Q, 0}}

// frame builds the packet with correct lengths and checksums.
func (s seg) frame(t testing.TB) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(s.from.Port()), DstPort: layers.TCPPort(s.to.Port()), Seq: s.seq, Ack: s.ack, Window: 65535, Options: s.options}
	for _, f := range s.flags {
		switch f {
		case 'S':
			tcp.SYN = true
		case 'F':
			tcp.FIN = true
		case 'R':
			tcp.RST = true
		case 'P':
			tcp.PSH = true
		case 'A':
			tcp.ACK = true
		case 'U':
			tcp.URG = true
		}
	}
	var ls []gopacket.SerializableLayer
	var ip gopacket.SerializableLayer
	et := layers.EthernetTypeIPv4
	if s.from.Addr().Is6() {
		et = layers.EthernetTypeIPv6
		v6 := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolTCP, HopLimit: 64, SrcIP: s.from.Addr().AsSlice(), DstIP: s.to.Addr().AsSlice()}
		_ = tcp.SetNetworkLayerForChecksum(v6)
		ip = v6
	} else {
		v4 := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: s.from.Addr().AsSlice(), DstIP: s.to.Addr().AsSlice()}
		_ = tcp.SetNetworkLayerForChecksum(v4)
		ip = v4
	}
	eth.EthernetType = et
	ls = append(ls, eth)
	next := &eth.EthernetType // whose value says what comes next
	for _, tag := range s.tags {
		q := &layers.Dot1Q{Priority: 3, VLANIdentifier: tag.vid, Type: et}
		*next, next = tag.proto, &q.Type
		ls = append(ls, q)
	}
	ls = append(ls, ip, tcp, gopacket.Payload(s.payload))
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	b := append([]byte(nil), buf.Bytes()...)
	if s.badSum { // the last byte may be padding
		b[14+4*len(s.tags)+map[bool]int{false: 20, true: 40}[s.from.Addr().Is6()]+16] ^= 0xff
	}
	return b
}

func node0(plus uint32, exact int32) EproxyNode {
	return EproxyNode{Plus: plus, Exact: exact, Hash: -1}
}
