package observer

import (
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// rig is the loaded object with one pod, and one connection to it.
type rig struct {
	t       testing.TB
	objs    *ObserveObjects
	ipv6    bool
	toPod   uint32 // the client's next byte
	fromPod uint32 // the pod's
}

// loaded is the object, loaded once for all tests: verification takes a second.
var loaded *ObserveObjects

// load loads the object with maps of its own.
func load(t testing.TB) *ObserveObjects {
	t.Helper()
	if loaded != nil {
		return loaded
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := LoadObserve()
	if err != nil {
		t.Fatal(err)
	}
	o := new(ObserveObjects)
	if err := spec.LoadAndAssign(o, nil); err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			t.Fatalf("%+v", ve)
		}
		t.Fatal(err)
	}
	loaded = o
	return o
}

var (
	clientIP = map[bool]net.IP{false: net.IPv4(10, 1, 0, 1), true: net.ParseIP("fd01::1")}
	podIP    = map[bool]net.IP{false: net.IPv4(10, 1, 0, 2), true: net.ParseIP("fd01::2")}
)

func newRig(t testing.TB, ipv6 bool) *rig {
	r := &rig{t: t, objs: load(t), ipv6: ipv6, toPod: ^uint32(0) - 20, fromPod: ^uint32(0) - 30}
	var conn ObserveObserveKey
	for r.objs.ObservedConns.NextKey(nil, &conn) == nil {
		if err := r.objs.ObservedConns.Delete(&conn); err != nil {
			t.Fatal(err)
		}
	}
	zero := make([]ObserveObserveCounts, ebpf.MustPossibleCPU())
	if err := errors.Join(r.objs.Observed.Put(uint32(0), zero), r.objs.ObservedFlight.Put(uint32(0), &ObserveObserveFlight{})); err != nil {
		t.Fatal(err)
	}
	var key ObserveObservePod
	ip := podIP[ipv6].To16()
	for i := range key.Address {
		key.Address[i] = binary.NativeEndian.Uint32(ip[4*i:])
	}
	key.Port = 8080>>8 | 8080&0xff<<8
	if err := errors.Join(r.objs.ObservedPods.Put(&key, uint32(0)), r.objs.ObservePorts(key.Port)); err != nil {
		t.Fatal(err)
	}
	return r
}

// packet is a segment of the connection.
func (r *rig) packet(fromPod bool, seq, ack uint32, flags, body string) []byte {
	r.t.Helper()
	src, dst := clientIP[r.ipv6], podIP[r.ipv6]
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 8080, Seq: seq, Ack: ack, Window: 500, SYN: strings.Contains(flags, "S"),
		ACK: strings.Contains(flags, "A"), FIN: strings.Contains(flags, "F"), RST: strings.Contains(flags, "R")}
	if fromPod {
		src, dst = dst, src
		tcp.SrcPort, tcp.DstPort = tcp.DstPort, tcp.SrcPort
	}
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.SerializableLayer = &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
	if r.ipv6 {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
	}
	if err := tcp.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer)); err != nil {
		r.t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp, gopacket.Payload(body)); err != nil {
		r.t.Fatal(err)
	}
	return buf.Bytes()
}

// run has a program see a packet, which it must leave as it is to whatever comes next.
func (r *rig) run(fromPod bool, p []byte) {
	r.t.Helper()
	prog := r.objs.ObserveOut
	if fromPod {
		prog = r.objs.ObserveIn
	}
	out := make([]byte, len(p)+64)
	opts := &ebpf.RunOptions{Data: p, DataOut: out}
	ret, err := prog.Run(opts)
	if err != nil {
		r.t.Fatal(err)
	}
	if int32(ret) != -1 || string(opts.DataOut) != string(p) {
		r.t.Fatalf("verdict %d, %d bytes of %d", int32(ret), len(opts.DataOut), len(p))
	}
}

func (r *rig) open() {
	r.run(false, r.packet(false, r.toPod, 0, "S", ""))
	r.run(true, r.packet(true, r.fromPod, r.toPod+1, "SA", ""))
	r.toPod++
	r.fromPod++
}

// asks and answers are segments in order.
func (r *rig) asks(body string) {
	r.run(false, r.packet(false, r.toPod, r.fromPod, "A", body))
	r.toPod += uint32(len(body))
}

func (r *rig) answers(body string) {
	r.run(true, r.packet(true, r.fromPod, r.toPod, "A", body))
	r.fromPod += uint32(len(body))
}

// counts are the pod's, of all processors.
func (r *rig) counts() (sum ObserveObserveCounts) {
	r.t.Helper()
	var each []ObserveObserveCounts
	if err := r.objs.Observed.Lookup(uint32(0), &each); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range each {
		sum.Requests += c.Requests
		sum.Unanswered += c.Unanswered
		sum.Unknown += c.Unknown
		sum.RequestBytes += c.RequestBytes
		sum.ResponseBytes += c.ResponseBytes
		for i := range c.Responses {
			sum.Responses[i] += c.Responses[i]
		}
		for i := range c.Marked {
			sum.Marked[i] += c.Marked[i]
		}
		for i := range c.Protocols {
			sum.Protocols[i] += c.Protocols[i]
		}
		for i := range c.Unfollowed {
			sum.Unfollowed[i] += c.Unfollowed[i]
		}
		for i := range c.Took {
			sum.Took[0] += c.Took[i] // all of them
		}
	}
	return sum
}

func (r *rig) inFlight() uint32 { return uint32(r.flight().All.Now) }

func (r *rig) flight() InFlight {
	r.t.Helper()
	var f ObserveObserveFlight
	if err := r.objs.ObservedFlight.Lookup(uint32(0), &f); err != nil {
		r.t.Fatal(err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		r.t.Fatal(err)
	}
	return f.At(uint64(now.Nano()))
}
