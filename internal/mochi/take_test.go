package mochi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/codec"
	"eproxy/internal/mqtt"
	"eproxy/internal/mqtt/samples"
)

// FuzzTake: however a stream is cut, and whichever of its PUBLISHes are taken from it, what is taken and
// what the server gets are together the stream, in order, up to its first violation; and what is taken the
// library reads as the same message.
func FuzzTake(f *testing.F) {
	for _, c := range samples.All {
		f.Add([]byte(c.Packet), c.Version, uint64(1))
	}
	many := ""
	for i := range 40 {
		many += samples.Packet(0x32, samples.String("in/x"), fmt.Sprintf("\x00%c", byte(i+1)), strings.Repeat("p", i*50))
	}
	f.Add([]byte(many), byte(4), uint64(2))
	for _, seed := range fuzzSeeds() {
		f.Add([]byte(seed+many), byte(5), uint64(3))
	}
	f.Fuzz(func(t *testing.T, stream []byte, version byte, seed uint64) {
		if version = version%3 + 3; len(stream) > 1<<16 {
			return
		}
		stream = append([]byte(samples.Hello(version)), stream...)
		limits := mqtt.Decoder{MaxConnect: samples.MaxPacket, MaxPacket: samples.MaxPacket, TopicAlias: topicAliases}
		whole, reference := bytes.Clone(stream), limits
		pass, violation := reference.Next(whole) // which changes bytes of MQTT 3.1
		r := rand.New(rand.NewPCG(seed, 1))
		g := &gate{Decoder: limits}
		var got []byte
		take := func(p *mqtt.Publish, packet []byte) bool {
			asTheLibrary(t, p, packet, version)
			if r.IntN(2) == 0 {
				return false
			}
			got = append(got, packet...)
			return true
		}
		for sent := 0; ; {
			p := make([]byte, 1+r.IntN(300))
			if n := g.pass(p); n > 0 {
				got = append(got, p[:n]...)
				continue
			}
			if g.advance(take); g.From < g.ready {
				continue
			}
			if sent == len(stream) || g.violation != nil {
				break
			}
			g.unused()
			room := g.Room()
			n := copy(room[:min(len(room), 1+r.IntN(500))], stream[sent:])
			g.Added(n)
			sent += n
		}
		if g.violation != violation {
			t.Fatalf("%v, want %v", g.violation, violation)
		}
		if rest := whole[len(got):pass]; !bytes.Equal(got, whole[:len(got)]) || len(rest) > 0 && !g.Incomplete(append(rest, whole[pass:]...), holdSize) {
			t.Fatalf("% x\nwant % x", got, whole[:pass])
		}
	})
}

// asTheLibrary checks that the library reads a PUBLISH as it was read here.
func asTheLibrary(t *testing.T, p *mqtt.Publish, packet []byte, version byte) {
	pk := packets.Packet{ProtocolVersion: version, FixedHeader: packets.FixedHeader{}}
	_, n, err := packets.DecodeLength(bytes.NewReader(packet[1:]))
	if err == nil {
		err = pk.FixedHeader.Decode(packet[0])
	}
	if err == nil {
		pk.FixedHeader.Remaining = len(packet) - 1 - n
		err = pk.PublishDecode(packet[1+n:])
	}
	if err != nil {
		t.Fatalf("the library: %v; % x", err, packet)
	}
	h := pk.FixedHeader
	if pk.TopicName != string(p.Topic) || !bytes.Equal(pk.Payload, packet[p.Head:p.Length]) || pk.PacketID != p.PacketID ||
		h.Qos != p.QoS || h.Dup != p.Dup || h.Retain != p.Retain {
		t.Fatalf("the library: %+v; % x", pk, packet)
	}
}

// TestPubacksAsTheLibrarys: PUBACKs that are written together are those that the library would write.
func TestPubacksAsTheLibrarys(t *testing.T) {
	for _, version := range []byte{3, 4, 5} {
		for _, code := range []byte{0x00, 0x10, 0x80, 0x97} {
			pk := packets.Packet{ProtocolVersion: version, FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: 0x1234, ReasonCode: code}
			var want bytes.Buffer
			if err := pk.PubackEncode(&want); err != nil {
				t.Fatal(err)
			}
			if got := codec.AppendPuback(nil, version, 0x1234, code); !bytes.Equal(got, want.Bytes()) {
				t.Errorf("version %d, code %#x: % x, the library: % x", version, code, got, want.Bytes())
			}
		}
	}
}

// TestTakenAlongWithOthers: messages that are taken from the stream, and those of the library, come in their order and
// are acknowledged each once, whatever they come with: in one segment with CONNECT, between SUBSCRIBE and PINGREQ, of
// all QoS, retained, with a topic alias.
func TestTakenAlongWithOthers(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	for _, version := range []byte{4, 5} {
		properties := ""
		if version == 5 {
			properties = "\x00"
		}
		stream := samples.Hello(version)
		for i := byte(1); i <= 60; i += 3 {
			stream += samples.Packet(0x32, samples.String("in/x"), "\x00", string(rune(i)), properties, "a") +
				samples.Packet(0x30, samples.String("in/x"), properties, "b") +
				samples.Packet(0x33, samples.String("in/y"), "\x00", string(rune(i+1)), properties, "c") +
				samples.Packet(0x32, samples.String("other"), "\x00", string(rune(i+2)), properties, "d") + "\xc0\x00"
		}
		before := len(s.payloads())
		conn := s.dial()
		write(t, conn, []byte(stream)...)
		ids := map[uint16]int{}
		pings := 0
		packet(t, conn) // CONNACK
		for len(ids) < 60 || pings < 20 {
			switch p := packet(t, conn); p[0] {
			case 0x40:
				ids[binary.BigEndian.Uint16(p[2:])]++
			case 0xd0:
				pings++
			default:
				t.Fatalf("version %d: % x", version, p)
			}
		}
		for id, n := range ids {
			if n != 1 || id < 1 || id > 60 {
				t.Errorf("version %d: %d acknowledgements of %d", version, n, id)
			}
		}
		s.waitFor(func() bool { return len(s.payloads())-before >= 2*60-1 }, "not all have come")
		for _, x := range "abc" {
			if n := strings.Count(s.payloads()[before:], string(x)); n != 20 {
				t.Errorf("version %d: %d times %c, want 20", version, n, x)
			}
		}
		_ = conn.Close()
	}
}

// TestDeafPublisher: from a client that does not read its acknowledgements no more is read than their bound lets wait.
func TestDeafPublisher(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	var server *conn
	c := s.dial()
	_ = c.(*net.TCPConn).SetReadBuffer(1)
	connect(t, c, 0)
	s.waitFor(func() bool {
		for _, x := range s.front.live.all() {
			server = x
		}
		return server != nil
	}, "no connection")
	_ = server.SetWriteBuffer(1)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		var b []byte
		for id := byte(1); id < 0x80; id++ { // more than are in flight
			b = append(b, samples.Packet(0x32, samples.String("in/x"), "\x00", string(rune(id)))...)
		}
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	s.waitFor(func() bool { return server.acks.Full(acksWaiting) != nil }, "its acknowledgements do not wait")
	if full := server.acks.Full(acksWaiting + 64*4*4); full != nil {
		t.Error("more wait than its messages in flight and the bound")
	}
	_ = c.Close()
	<-stop
}
