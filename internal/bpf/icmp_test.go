package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// eachFamily runs f on the side of a device, whose connection is known by both families in turn.
func eachFamily(t *testing.T, f func(t *testing.T, r *rig, s side)) {
	for _, ipv6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "ipv4", true: "ipv6"}[ipv6], func(t *testing.T) { f(t, newRig(t, ipv6), sides[0]) })
	}
}

// icmp describes an ICMP error about a packet of ours.
type icmp struct {
	kind, code uint8
	seq        uint32                    // of the quoted segment
	mtu        uint16                    // 0: 1280
	length     uint16                    // of the quoted packet, as its header says; 0: its own
	cut        int                       // bytes of the TCP header that are quoted; 0: all, with its payload
	change     func(quote []byte) []byte // the quote, from the IP header on
	options    bool                      // IPv4: the outer header has options
	tags       []tag                     // outermost first
	frame      func(b []byte) []byte     // the whole frame, at last
}

const quotedData = "twenty bytes of data"

// head is the length of a quoted IP header.
func (r *rig) head() int { return map[bool]int{false: 20, true: 40}[r.ipv6] }

// build is the frame of the error about a segment with a payload of 20 bytes, as
// a router sends it.
func (e icmp) build(t *testing.T, r *rig, s side) []byte {
	t.Helper()
	from := s.send(r, e.seq, s.rcv, "PA", []byte(quotedData))
	quote := from.frame(t)[14:]
	if e.length > 0 {
		binary.BigEndian.PutUint16(quote[map[bool]int{false: 2, true: 4}[r.ipv6]:], e.length-map[bool]uint16{false: 0, true: 40}[r.ipv6])
	}
	mtu := e.mtu
	if mtu == 0 {
		mtu = 1280
	}
	if e.change != nil {
		quote = e.change(quote)
	}
	if e.cut > 0 {
		quote = quote[:r.head()+e.cut]
	}
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	next := &eth.EthernetType
	ls := []gopacket.SerializableLayer{eth}
	for _, tag := range e.tags {
		q := &layers.Dot1Q{VLANIdentifier: tag.vid}
		*next, next = tag.proto, &q.Type
		ls = append(ls, q)
	}
	if r.ipv6 {
		*next = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolICMPv6, HopLimit: 64, SrcIP: net.ParseIP("fd99::9"), DstIP: from.from.Addr().AsSlice()}
		head := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(e.kind, e.code)}
		_ = head.SetNetworkLayerForChecksum(ip)
		ls = append(ls, ip, head, gopacket.Payload(append([]byte{0, 0, byte(mtu >> 8), byte(mtu)}, quote...)))
	} else {
		*next = layers.EthernetTypeIPv4
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: net.IP{192, 0, 2, 9}, DstIP: from.from.Addr().AsSlice()}
		if e.options {
			ip.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 1}}
		}
		ls = append(ls, ip, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(e.kind, e.code), Seq: mtu}, gopacket.Payload(quote))
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	b := bytes.Clone(buf.Bytes())
	if e.frame != nil {
		b = e.frame(b)
	}
	return b
}

// tooBig is "fragmentation needed", or "packet too big".
func (r *rig) tooBig() icmp {
	if r.ipv6 {
		return icmp{kind: layers.ICMPv6TypePacketTooBig}
	}
	return icmp{kind: layers.ICMPv4TypeDestinationUnreachable, code: layers.ICMPv4CodeFragmentationNeeded}
}

// inserted has the local socket send two bytes, the programs insert n, and the
// socket send twenty more: all are in flight, and older insertions settled.
func (r *rig) inserted(t *testing.T, s side) (first, n uint32) {
	t.Helper()
	if ret, _ := r.run(s.prog(r), s.send(r, s.snd, s.rcv, "PA", []byte("\xd0\x00"))); ret != tcOK {
		t.Fatalf("verdict %d", ret)
	}
	r.change(s.conn, func(c *EproxyConn) { c.TxKuna = c.TxKnxt; c.DataUs -= 1000 })
	at := s
	at.snd += 2
	_, n = r.insertAt(t, at)
	if ret, _ := r.run(s.prog(r), s.send(r, s.snd+2, s.rcv, "PA", []byte("\x30\x12eighteen more byte"))); ret != tcOK {
		t.Fatalf("verdict %d", ret)
	}
	// as if much had been inserted and acknowledged before
	const before = 12000
	r.change(s.conn, func(c *EproxyConn) {
		c.Tx.Base += before
		c.TxUna += before
		c.TxNxt += before
		for i := range c.Tx.Ring {
			c.Tx.Ring[i].Seq += before
		}
	})
	return s.snd + before, n
}

// passes runs an error; what passes must be the same as want.
func (e icmp) passes(t *testing.T, r *rig, s side, want icmp, reasons ...EproxyReason) {
	t.Helper()
	hook, prog := EproxyHookHOOK_TC_DEVICE_IN, r.objs.TcDeviceIn
	if s.conn == rigSlot {
		hook, prog = EproxyHookHOOK_TC_POD_IN, r.objs.TcPodIn
	}
	count := func() (all uint64) {
		for reason := range EproxyReasonREASON_COUNT {
			all += r.reason(hook, reason)
		}
		return all
	}
	before := count()
	var counted []uint64
	for _, reason := range reasons {
		counted = append(counted, r.reason(hook, reason))
	}
	ret, out := r.runFrame(prog, e.build(t, r, s), nil)
	if expected := want.build(t, r, s); ret != tcOK || !bytes.Equal(out, expected) {
		t.Errorf("%+v: verdict %d\n got % x\nwant % x", e, ret, out, expected)
	}
	for i, reason := range reasons {
		if r.reason(hook, reason) != counted[i]+1 {
			t.Errorf("%+v: %v not counted: %v", e, reason, r.allReasons())
		}
	}
	if n := count() - before; n != uint64(len(reasons)) {
		t.Errorf("%+v: %d counts: %v", e, n, r.allReasons())
	}
}

// TestICMPErrorsAreTranslated: each kind of error that the kernel's TCP looks at
// (tcp_v4_err, tcp_v6_err), however much it quotes. What passes is what a router
// would have sent about the socket's own segment, checksums included.
func TestICMPErrorsAreTranslated(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, s side) {
		wire, n := r.inserted(t, s)
		kinds := []icmp{{kind: 3, code: 0}, {kind: 3, code: 1}, {kind: 3, code: 3}, {kind: 3, code: 4}, {kind: 3, code: 13}, {kind: 11, code: 0}, {kind: 12, code: 0}}
		if r.ipv6 {
			kinds = []icmp{{kind: 1, code: 0}, {kind: 1, code: 4}, {kind: 2, code: 0}, {kind: 3, code: 0}, {kind: 4, code: 1}}
		}
		for _, e := range kinds {
			for _, cut := range []int{0, 8, 9, 16, 17, 18, 19, 20} {
				e.cut = cut
				e.seq = wire + 2 + n
				want := e
				want.seq = s.snd + 2
				if cut == 17 { // half of the quoted checksum stays as it was
					at := r.head() + 16
					half := s.send(r, e.seq, s.rcv, "PA", []byte(quotedData)).frame(t)[14+at]
					want.change = func(q []byte) []byte { q[at] = half; return q }
				}
				e.passes(t, r, s, want, EproxyReasonREASON_ICMP_TRANSLATED)
			}
		}
	})
}

// TestICMPPositions: numbers before, inside and behind an insertion get the socket's
// own; what was acknowledged, or never sent, passes as it is.
func TestICMPPositions(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, s side) {
		wire, n := r.inserted(t, s)
		e := r.tooBig()
		e.cut = 8
		for _, c := range []struct {
			at     uint32 // from SND.UNA
			kernel uint32 // from the socket's
			flying bool
		}{
			{0, 0, true}, {1, 1, true}, // before
			{2, 2, true}, {3, 2, true}, {2 + n - 1, 2, true}, // inside
			{2 + n, 2, true}, {3 + n, 3, true}, {21 + n, 21, true}, // behind
			{22 + n, 22, true},             // a bare ACK
			{at: 23 + n}, {at: ^uint32(0)}, // one beyond, one below
			{at: 1 << 31}, {at: ^uint32(0) - 100}, // far
			{at: 1<<31 - 1}, {at: ^uint32(0) - 11999}, // the socket's own number
			{at: 5000 + n}, {at: ^uint32(0) - 1<<20},
		} {
			e.seq = wire + c.at
			want, reason := e, EproxyReasonREASON_ICMP_STRAY
			if c.flying {
				want.seq, reason = s.snd+c.kernel, EproxyReasonREASON_ICMP_TRANSLATED
			}
			e.passes(t, r, s, want, reason)
		}
	})
}

// TestICMPOfAConnectionWithoutGrafts: nothing is to be changed.
func TestICMPOfAConnectionWithoutGrafts(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, s side) {
		e := r.tooBig()
		e.seq = s.snd
		e.passes(t, r, s, e, EproxyReasonREASON_ICMP_TRANSLATED)
	})
}

// TestOtherICMPPassesAsItIs: what is no error, or none about a segment of ours, and
// what does not quote enough.
func TestOtherICMPPassesAsItIs(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, s side) {
		wire, n := r.inserted(t, s)
		big := r.tooBig()
		big.seq = wire + 2 + n
		same := func(e icmp, reasons ...EproxyReason) {
			t.Helper()
			e.passes(t, r, s, e, reasons...)
		}
		with := func(change func(q []byte) []byte) icmp {
			e := big
			e.change = change
			return e
		}
		whole := func(change func(b []byte) []byte) icmp {
			e := big
			e.frame = change
			return e
		}
		set := func(at int, v byte) func([]byte) []byte {
			return func(b []byte) []byte { b[at] = v; return b }
		}
		part := EproxyReasonREASON_ICMP_PART
		short := big
		for _, cut := range []int{1, 4, 7} {
			short.cut = cut
			same(short, part)
		}
		same(with(func(q []byte) []byte { return q[:8] }), part)
		last := r.head() - 1
		same(with(set(last, 77)))                                                   // another connection
		same(with(set(r.head()+1, 99)))                                             // another port
		same(whole(func(b []byte) []byte { return b[:len(b)-15] }), part)           // longer than the frame
		same(whole(set(12, 0x88)))                                                  // no IP
		same(whole(func(b []byte) []byte { return b[:14+r.head()] }))               // nothing behind the IP header
		same(icmp{kind: map[bool]uint8{false: 8, true: 128}[r.ipv6], seq: big.seq}) // echo request
		same(icmp{kind: map[bool]uint8{false: 0, true: 129}[r.ipv6], seq: big.seq}) // echo reply
		same(icmp{kind: map[bool]uint8{false: 5, true: 137}[r.ipv6], seq: big.seq}) // redirect
		for _, tags := range [][]tag{{{layers.EthernetTypeQinQ, 5}, {layers.EthernetTypeDot1Q, 6}}} {
			e := big
			e.tags = tags
			same(e)
		}
		if r.ipv6 {
			same(with(set(6, 17))) // UDP
			for _, header := range []byte{0, 43, 44, 60} {
				same(with(set(6, header)), part)
			}
			same(whole(set(14+6, 44))) // the error itself is a fragment
		} else {
			same(with(set(9, 17)))         // UDP
			same(with(set(7, 1)))          // not the first fragment
			same(with(set(0, 0x44)), part) // no header has 16 bytes
			same(whole(set(14+7, 1)))      // the error itself is a fragment
			same(whole(set(14+6, 0x20)))
		}
		for _, state := range []EproxyConnState{EproxyConnStateCONN_FREE, EproxyConnStateCONN_ARMED} {
			r.change(s.conn, func(c *EproxyConn) { c.State = uint16(state) })
			same(big, EproxyReasonREASON_NOT_OPEN)
		}
	})
}

// TestICMPBehindOptionsAndTags: IPv4 options, in the error or the quote, and a VLAN tag do
// not hide the number.
func TestICMPBehindOptionsAndTags(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, s side) {
		wire, n := r.inserted(t, s)
		options := func(q []byte) []byte {
			q = append(q[:20:20], append([]byte{1, 1, 1, 1}, q[20:]...)...)
			q[0] = 0x46
			return q
		}
		variants := []icmp{{tags: []tag{{layers.EthernetTypeDot1Q, 5}}}, {tags: priorityTag}, {tags: []tag{{layers.EthernetTypeQinQ, 5}}}}
		if !r.ipv6 {
			variants = append(variants, icmp{options: true}, icmp{change: options}, icmp{options: true, change: options})
		}
		for i, e := range variants {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				big := r.tooBig()
				e.kind, e.code, e.seq = big.kind, big.code, wire+2+n
				want := e
				want.seq = s.snd + 2
				e.passes(t, r, s, want, EproxyReasonREASON_ICMP_TRANSLATED)
			})
		}
	})
}

// TestICMPWithWrongChecksum: stays wrong, for the stack to drop.
func TestICMPWithWrongChecksum(t *testing.T) {
	eachFamily(t, func(t *testing.T, r *rig, s side) {
		wire, n := r.inserted(t, s)
		e := r.tooBig()
		e.seq = wire + 2 + n
		for _, cut := range []int{0, 8} {
			e.cut = cut
			e.frame = func(b []byte) []byte { b[14+r.head()+1] ^= 1; return b } // another code than the sender's
			want := e
			want.seq = s.snd + 2
			e.passes(t, r, s, want, EproxyReasonREASON_ICMP_TRANSLATED)
		}
	})
}
