package wire

import (
	"bytes"
	"math/rand/v2"
	"net"
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

// TestSegments: what is cut and joined is what gopacket would have made, so that
// only corrupted segments have wrong checksums.
func TestSegments(t *testing.T) {
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

// TestDirection: cutting and joining alone lose nothing, and the same seed
// decides the same.
func TestDirection(t *testing.T) {
	run := func() (stream []byte, frames int) {
		d := direction{rng: rand.New(rand.NewPCG(5, 0)), faults: Faults{Cut: 0.5, Bytes: 0.1, Join: 0.3}}
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
