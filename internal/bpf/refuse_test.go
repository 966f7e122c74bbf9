package bpf

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"

	"eproxy/internal/abi"
)

// refusal is a packet that must not be taken, and why.
type refusal struct {
	name   string
	reason EproxyReason
	rig    func(r *rig)
	pub    []byte
	seg    func(s *seg)
	tc     bool // only TC can see it: XDP passes before or has no such reason
	xdp    bool // only XDP
}

func (r *rig) device(f func(d *EproxyDevice)) {
	var d EproxyDevice
	if err := r.objs.Devices.Lookup(uint32(0), &d); err != nil {
		r.t.Fatal(err)
	}
	f(&d)
	r.put(r.objs.Devices, uint32(0), &d)
}

func (r *rig) pod(f func(p *EproxyPod)) {
	var p EproxyPod
	if err := r.objs.Pods.Lookup(uint32(0), &p); err != nil {
		r.t.Fatal(err)
	}
	f(&p)
	r.put(r.objs.Pods, uint32(0), &p)
}

func (r *rig) change(index uint32, f func(c *EproxyConn)) {
	c := r.readConn(index)
	f(&c)
	r.put(r.objs.Conns, index, &c)
}

func refusals() []refusal {
	good := publish("sensors/a/temp", 1, 7, "x")
	raw := func(b ...byte) []byte { return b }
	setting := func(f func(g *EproxyGlobals)) func(*rig) {
		return func(r *rig) {
			g := EproxyGlobals{Root: 1, RootDollar: 2, Epoch: 1}
			f(&g)
			r.put(r.objs.Settings, uint32(0), &g)
		}
	}
	v5 := func(r *rig) { r.device(func(d *EproxyDevice) { d.Version = 5 }) }
	connFlag := func(f EproxyConnFlag) func(*rig) {
		return func(r *rig) { r.change(rigDevice, func(c *EproxyConn) { c.Flags |= uint32(f) }) }
	}
	bigPayload := strings.Repeat("x", 1300)
	return []refusal{
		{name: "draining", reason: EproxyReasonREASON_NOT_OPEN, rig: setting(func(g *EproxyGlobals) { g.Draining = 1 })},
		{name: "no take", reason: EproxyReasonREASON_NOT_OPEN, rig: connFlag(EproxyConnFlagCONN_NO_TAKE)},
		{name: "fin", reason: EproxyReasonREASON_TCP_FLAGS, seg: func(s *seg) { s.flags = "FA" }},
		{name: "urg", reason: EproxyReasonREASON_TCP_FLAGS, seg: func(s *seg) { s.flags = "UA" }},
		{name: "tcp option", reason: EproxyReasonREASON_TCP_FLAGS, seg: func(s *seg) {
			s.options = []layers.TCPOption{{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}}
		}},
		{name: "ahead", reason: EproxyReasonREASON_NOT_NEXT, seg: func(s *seg) { s.seq++ }},
		{name: "behind", reason: EproxyReasonREASON_NOT_NEXT, xdp: true, seg: func(s *seg) { s.seq-- }},
		{name: "inside a packet", reason: EproxyReasonREASON_NO_BOUNDARY, rig: func(r *rig) { r.device(func(d *EproxyDevice) { d.Framing.Left = 300 }) }},
		{name: "lost", reason: EproxyReasonREASON_LOST_TRACK, rig: connFlag(EproxyConnFlagCONN_LOST)},
		{name: "bad checksum", reason: EproxyReasonREASON_BAD_CHECKSUM, seg: func(s *seg) { s.badSum = true }},
		{name: "pingreq", reason: EproxyReasonREASON_NOT_PUBLISH, pub: raw(0xc0, 0)},
		{name: "qos 2", reason: EproxyReasonREASON_QOS2, pub: publish("sensors/a/temp", 2, 7, "x")},
		{name: "retain", reason: EproxyReasonREASON_RETAIN, pub: append([]byte{good[0] | 1}, good[1:]...)},
		{name: "dup", reason: EproxyReasonREASON_DUP, pub: append([]byte{good[0] | 8}, good[1:]...)},
		{name: "all packet identifiers in use, and all tables", reason: EproxyReasonREASON_RING_FULL, rig: func(r *rig) {
			r.device(func(d *EproxyDevice) { d.Ids.Used = ^uint64(0) })
			for i := range uint32(abi.IdsTables) {
				r.put(r.objs.IdTables, i+1, EproxyIdTable{Taken: 1})
			}
		}},
		{name: "a message without room for its packet identifier", reason: EproxyReasonREASON_RING_FULL, rig: func(r *rig) { r.device(func(d *EproxyDevice) { d.Ids.Outside = 1 }) }},
		{name: "partial", reason: EproxyReasonREASON_PARTIAL, pub: good[:len(good)-1]},
		{name: "one byte", reason: EproxyReasonREASON_PARTIAL, pub: good[:1]},
		{name: "two packets", reason: EproxyReasonREASON_MULTI, xdp: true, pub: append(bytes.Clone(good), 0xc0, 0)},
		{name: "qos 3", reason: EproxyReasonREASON_MALFORMED, pub: append([]byte{0x36}, good[1:]...)},
		{name: "dup with qos 0", reason: EproxyReasonREASON_MALFORMED, pub: append([]byte{0x38}, good[1:]...)},
		{name: "five length bytes", reason: EproxyReasonREASON_MALFORMED, pub: raw(0x30, 0x80, 0x80, 0x80, 0x80, 1)},
		{name: "topic beyond packet", reason: EproxyReasonREASON_MALFORMED, pub: raw(0x30, 4, 0, 9, 'a', 'b')},
		{name: "no topic", reason: EproxyReasonREASON_MALFORMED, pub: raw(0x30, 3, 0, 0, 'x')},
		{name: "properties", reason: EproxyReasonREASON_PROPERTIES, rig: v5, pub: raw(0x30, 8, 0, 1, 'a', 3, 1, 1, 'x', 'y')},
		{name: "alias only", reason: EproxyReasonREASON_ALIAS, rig: v5, pub: raw(0x30, 6, 0, 0, 3, 0x23, 0, 1)},
		{name: "neither topic nor alias", reason: EproxyReasonREASON_PROPERTIES, rig: v5, pub: raw(0x30, 5, 0, 0, 2, 1, 1)},
		{name: "nothing in place of a topic", reason: EproxyReasonREASON_MALFORMED, rig: v5, pub: raw(0x30, 3, 0, 0, 0)},
		{name: "long length encoding v5", reason: EproxyReasonREASON_MALFORMED, rig: v5, pub: raw(0x30, 0x85, 0, 0, 1, 'a', 0, 'x')},
		{name: "long topic", reason: EproxyReasonREASON_TOPIC_LONG, pub: publish(strings.Repeat("t", 129), 0, 0, "x")},
		{name: "long level", reason: EproxyReasonREASON_TOPIC_LONG, pub: publish(strings.Repeat("t", 61), 0, 0, "x")},
		{name: "no route", reason: EproxyReasonREASON_NO_ROUTE, pub: publish("sensors/a/hum", 1, 7, "x")},
		{name: "route longer", reason: EproxyReasonREASON_NO_ROUTE, pub: publish("sensors/a/temp/x", 1, 7, "x")},
		{name: "route shorter", reason: EproxyReasonREASON_NO_ROUTE, pub: publish("sensors/a", 1, 7, "x")},
		{name: "fallback route", reason: EproxyReasonREASON_ROUTE_FALLBACK, rig: func(r *rig) { r.put(r.objs.Routes, uint32(0), &EproxyRoute{Flags: 1}) }},
		{name: "ordered", reason: EproxyReasonREASON_ORDERED, xdp: true, rig: func(r *rig) { r.put(r.objs.Routes, uint32(0), &EproxyRoute{Line: 1}) }},
		{name: "behind what the server may have", reason: EproxyReasonREASON_ORDER_UNKNOWN, tc: true, rig: func(r *rig) { r.put(r.objs.Routes, uint32(0), &EproxyRoute{Line: 1}) }},
		{name: "behind what subscribers may get later", reason: EproxyReasonREASON_ORDER_UNKNOWN, rig: func(r *rig) {
			r.put(r.objs.Routes, uint32(0), &EproxyRoute{Flags: uint32(EproxyRouteFlagROUTE_COPY)})
		}},
		{name: "not granted", reason: EproxyReasonREASON_NOT_GRANTED, rig: func(r *rig) { r.device(func(d *EproxyDevice) { d.Rights = 0 }) }},
		{name: "busy", reason: EproxyReasonREASON_NO_SLOT, rig: func(r *rig) { r.pod(func(p *EproxyPod) { p.Idle = 0 }) }},
		{name: "socket gone", reason: EproxyReasonREASON_DEAD_SOCKET, rig: func(r *rig) { _ = r.objs.PodSocks.Delete(uint32(rigSlot)) }},
		{name: "slot not open", reason: EproxyReasonREASON_DEAD_SOCKET, rig: func(r *rig) { r.change(rigSlot, func(c *EproxyConn) { c.State = 1 }) }},
		{name: "too large", reason: EproxyReasonREASON_TOO_LARGE, tc: true, pub: publish("sensors/a/temp", 1, 7, bigPayload)},
		{name: "headroom", reason: EproxyReasonREASON_HEADROOM, xdp: true, rig: func(r *rig) {
			r.device(func(d *EproxyDevice) { d.SenderLen[0] = 80; copy(d.Sender[:], strings.Repeat("c", 80)) })
		}},
		{name: "sender too long", reason: EproxyReasonREASON_TOO_LARGE, rig: func(r *rig) {
			r.device(func(d *EproxyDevice) { d.SenderLen[0] = uint8(len(d.Sender)) + 1 })
		}},
		{name: "sender too long for from_publisher", reason: EproxyReasonREASON_TOO_LARGE, rig: func(r *rig) {
			r.device(func(d *EproxyDevice) { d.SenderLen[1] = uint8(len(d.Sender)) + 1 })
			r.put(r.objs.Functions, uint32(0), &EproxyFunction{PodCount: 1, PrefixLen: 5, FromPublisher: 1})
		}},
		{name: "no xdp target", reason: EproxyReasonREASON_NO_XDP_TARGET, xdp: true, rig: func(r *rig) { r.pod(func(p *EproxyPod) { p.XdpOk = 0 }) }},
		{name: "in flight limit", reason: EproxyReasonREASON_RING_FULL, rig: func(r *rig) { r.device(func(d *EproxyDevice) { d.InflightMax = 0 }) }},
		{name: "pod window", reason: EproxyReasonREASON_POD_WINDOW, rig: func(r *rig) { r.change(rigSlot, func(c *EproxyConn) { c.TxWnd = 10 }) }},
		{name: "family", reason: EproxyReasonREASON_FAMILY, rig: func(r *rig) { r.pod(func(p *EproxyPod) { p.Ipv6 = 1 }) }},
		{name: "wildcard in topic", reason: EproxyReasonREASON_TOPIC_NAME, pub: publish("sensors/+/temp", 1, 7, "x")},
		{name: "nul in topic", reason: EproxyReasonREASON_TOPIC_NAME, pub: publish("sensors/\x00/temp", 1, 7, "x")},
		{name: "surrogate in topic", reason: EproxyReasonREASON_TOPIC_NAME, pub: publish("sensors/\xed\xa0\x80/temp", 1, 7, "x")},
		{name: "cut utf-8", reason: EproxyReasonREASON_TOPIC_NAME, pub: publish("sensors/a/\xc3", 1, 7, "x")},
		{name: "packet id 0", reason: EproxyReasonREASON_PACKET_ID, pub: publish("sensors/a/temp", 1, 0, "x")},
	}
}

// TestRefusals sends every kind of packet that must be left to the fallback:
// it passes, the reason is counted, nothing of it reaches the pod, and the
// slot is as idle as before.
func TestRefusals(t *testing.T) {
	for _, c := range refusals() {
		for _, hook := range []string{"xdp", "tc"} {
			if hook == "xdp" && c.tc || hook == "tc" && c.xdp {
				continue
			}
			t.Run(hook+"/"+c.name, func(t *testing.T) {
				r := newRig(t, false)
				prog, h, pass := r.objs.XdpDevice, EproxyHookHOOK_XDP_DEVICE, uint32(xdpPass)
				if hook == "tc" {
					prog, h, pass = r.objs.TcDeviceIn, EproxyHookHOOK_TC_DEVICE_IN, tcOK
				}
				if c.rig != nil {
					c.rig(r)
				}
				pub := c.pub
				if pub == nil {
					pub = publish("sensors/a/temp", 1, 7, "x")
				}
				s := r.fromDevice(devISS, "PA", pub)
				if c.seg != nil {
					c.seg(&s)
				}
				var before EproxyPod
				_ = r.objs.Pods.Lookup(uint32(0), &before)
				ret, _ := r.run(prog, s)
				if got := r.reason(h, c.reason); got != 1 {
					t.Errorf("reason %v counted %d times; all: %v", c.reason, got, r.allReasons())
				}
				if ret != pass {
					t.Errorf("verdict %d, want %d", ret, pass)
				}
				if n := r.readConn(rigSlot).TxNxt; n != sltISS {
					t.Errorf("the pod's ledger moved by %d", n-sltISS)
				}
				var after EproxyPod
				_ = r.objs.Pods.Lookup(uint32(0), &after)
				if after.Idle != before.Idle && c.reason != EproxyReasonREASON_DEAD_SOCKET {
					t.Errorf("idle word %x, was %x", after.Idle, before.Idle)
				}
			})
		}
	}
}

// TestSubjectEncoding: a UTF-8 topic and the characters that CloudEvents escapes.
func TestSubjectEncoding(t *testing.T) {
	r := newRig(t, false)
	_, out := r.run(r.objs.XdpDevice, r.fromDevice(devISS, "PA", publish("sensors/ü \"%/temp", 0, 0, "x")))
	tcp := checkSegment(t, out)
	if want := "ce-subject: sensors/%C3%BC%20%22%25/temp\r\n"; !bytes.Contains(tcp.Payload, []byte(want)) {
		t.Errorf("no %q in %q", want, tcp.Payload)
	}
}
