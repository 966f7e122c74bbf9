package wire

import (
	"bytes"
	"net"
	"slices"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// frame is a TCP segment as gopacket makes it.
func frame(t *testing.T, v6 bool, seq uint32, payload []byte) Segment {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	tcp := &layers.TCP{SrcPort: 1, DstPort: 2, Seq: seq, Ack: 7, ACK: true, PSH: true, Window: 100}
	var ip gopacket.SerializableLayer
	if v6 {
		eth.EthernetType = layers.EthernetTypeIPv6
		l := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
		_ = tcp.SetNetworkLayerForChecksum(l)
		ip = l
	} else {
		l := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IPv4(10, 0, 0, 1).To4(), DstIP: net.IPv4(10, 0, 0, 2).To4()}
		_ = tcp.SetNetworkLayerForChecksum(l)
		ip = l
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	s, ok := Parse(append([]byte(nil), b.Bytes()...))
	if !ok {
		t.Fatal("not parsed")
	}
	return s
}

// TestCutAndJoinedSegments: what is cut and joined is what gopacket would have made, so that
// only corrupted segments have wrong checksums.
func TestCutAndJoinedSegments(t *testing.T) {
	data := []byte("several bytes of payload, an odd number of them")
	for _, v6 := range []bool{false, true} {
		whole := frame(t, v6, 1000, data)
		a, b := whole.Piece(0, 11), whole.Piece(11, len(data))
		want := frame(t, v6, 1011, data[11:])
		if !bytes.Equal(b.Frame, want.Frame) {
			t.Errorf("v6 %v: piece\n% x, want\n% x", v6, b.Frame, want.Frame)
		}
		if !a.Joins(b) || b.Joins(a) {
			t.Error("pieces do not join")
		}
		if j := a.Join(b); !bytes.Equal(j.Frame, whole.Frame) {
			t.Errorf("v6 %v: joined\n% x, want\n% x", v6, j.Frame, whole.Frame)
		}
	}
}

// TestCuttingLosesNothing: cutting and joining alone lose nothing, and the same seed
// decides the same.
func TestCuttingLosesNothing(t *testing.T) {
	run := func() (stream []byte, frames int) {
		d := newDirection(5, 0)
		d.faults = Faults{Cut: 0.5, Bytes: 0.1, Join: 0.3}
		want := make([]byte, 0, 1<<16)
		got := make([]byte, 1<<16)
		var out []due
		for i := range 200 {
			p := bytes.Repeat([]byte{byte(i)}, 1+i*7%300)
			out = append(out, d.frame(frame(t, i%2 == 0, uint32(len(want)), p).Frame)...)
			want = append(want, p...)
		}
		for _, o := range append(out, d.flush()...) {
			s, ok := Parse(o.frame)
			if !ok {
				t.Fatal("a frame that is no TCP segment")
			}
			copy(got[s.Seq():], s.Payload())
			frames++
		}
		if !bytes.Equal(got[:len(want)], want) {
			t.Error("the stream changed")
		}
		return got, frames
	}
	a, n := run()
	b, m := run()
	if n != m || !bytes.Equal(a, b) {
		t.Error("the same seed decided differently")
	}
	if n < 400 {
		t.Errorf("%d frames: nothing was cut", n)
	}
}

// TestSeedDecidesPerFrame: what happens to the n-th frame does not depend on what the
// frames before it were, so that a seed repeats the faults of a run whose
// segments are not the same.
func TestSeedDecidesPerFrame(t *testing.T) {
	const n = 2000
	run := func(size func(i int) int) (lost []int, count Count) {
		d := newDirection(5, 1)
		d.faults = Faults{Drop: 0.1, Duplicate: 0.1, Delay: 1, Reorder: 0.1}
		for i := range n {
			if out := d.frame(frame(t, false, 1, make([]byte, size(i))).Frame); len(out) == 0 {
				lost = append(lost, i)
			}
		}
		return lost, d.count
	}
	a, count := run(func(int) int { return 100 })
	b, _ := run(func(i int) int { return 1 + i%7*200 })
	if !slices.Equal(a, b) {
		t.Errorf("lost frames differ: %d and %d", len(a), len(b))
	}
	if len(a) < n/20 || len(a) > n/5 || count.Faults < len(a) || count.Segments != n {
		t.Errorf("%d of %d frames lost, counted %+v", len(a), n, count)
	}
}

// TestPlanReplacesFaults: a plan is asked in place of the faults, and its segments leave as
// they are, with right checksums unless a bit was flipped.
func TestPlanReplacesFaults(t *testing.T) {
	d := newDirection(5, 0)
	d.faults = Faults{Drop: 1}
	d.plan = func(s Segment) []Segment {
		return []Segment{s.Piece(2, 5), s.Urgent(1), s.Flip(3, 1), s.Unscaled()}
	}
	out := d.frame(frame(t, false, 10, []byte("payload")).Frame)
	if len(out) != 4 {
		t.Fatalf("%d segments", len(out))
	}
	var got []Segment
	for _, o := range out {
		s, ok := Parse(o.frame)
		if !ok {
			t.Fatal("no segment")
		}
		got = append(got, s)
	}
	if got[0].Seq() != 12 || string(got[0].Payload()) != "ylo" || got[1].Flags()&FlagURG == 0 || string(got[2].Payload()) != "paynoad" {
		t.Errorf("%d %q, flags %x, %q", got[0].Seq(), got[0].Payload(), got[1].Flags(), got[2].Payload())
	}
	for i, s := range got {
		if s.Intact() != (i != 2) {
			t.Errorf("segment %d: checksum right: %v", i, s.Intact())
		}
	}
}
