//go:build cgo

package native

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"eproxy/internal/mqtt"
	"eproxy/internal/topic"
)

// packetOf makes a PUBLISH without properties; first is its first byte.
func packetOf(first byte, name string, id uint16, payload int, v5 bool) []byte {
	body := []byte{byte(len(name) >> 8), byte(len(name))}
	body = append(body, name...)
	if first&6 != 0 {
		body = append(body, byte(id>>8), byte(id))
	}
	if v5 {
		body = append(body, 0)
	}
	body = append(body, bytes.Repeat([]byte{'x'}, payload)...)
	b := []byte{first}
	for n := len(body); ; {
		c := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			b = append(b, c|0x80)
			continue
		}
		b = append(b, c)
		break
	}
	return append(b, body...)
}

// comparePublish runs both parsers over the same segment. The kernel's must
// take exactly what the reference finds to be one whole PUBLISH of the kinds
// that it serves, with the same fields, and blame only what is to blame.
func comparePublish(t *testing.T, b []byte, version byte) {
	t.Helper()
	if len(b) == 0 {
		return
	}
	var p Publish
	reason := ParsePublish(b, version, &p)
	var ref mqtt.Publish
	err := mqtt.ReadPublish(b, version, &ref)
	if err == nil && ref.Length > len(b) {
		err = mqtt.ErrShort
	}

	topicOK := true
	if reason == ReasonTaken {
		end := int(p.topic + p.topic_len)
		if end > len(b) || end > Look || int(p.payload) > len(b) || int(p.payload)-int(p.properties) > Look || int(p.length) > len(b) {
			t.Fatalf("%x: version %d: offsets %+v", b, version, p)
		}
		topicOK = TopicOK(b[p.topic:end])
	}
	if reason == ReasonTaken && err == nil && string(b[p.payload-p.properties:p.payload]) != string(ref.Properties) {
		t.Fatalf("%x: properties %d before %d, reference %x", b, p.properties, p.payload, ref.Properties)
	}
	if reason == ReasonTaken && p.properties > 0 { // compared with those by compareProperties
		reason = ReasonProperties
	}
	mine := reason == ReasonTaken && topicOK
	served := err == nil && ref.QoS < 2 && !ref.Retain && !ref.Dup && len(ref.Properties) == 0 &&
		len(ref.Topic) > 0 && len(ref.Topic) <= TopicN
	if mine != served {
		t.Fatalf("%x: version %d: reason %d, topic %v; reference %+v, %v", b, version, reason, topicOK, ref, err)
	}
	if mine {
		if string(b[p.topic:p.topic+p.topic_len]) != string(ref.Topic) || uint16(p.packet_id) != ref.PacketID ||
			byte(p.qos) != ref.QoS || int(p.payload) != ref.Head || int(p.length) != ref.Length {
			t.Fatalf("%x: version %d: %+v, reference %+v", b, version, p, ref)
		}
		return
	}
	bad := errors.As(err, new(*mqtt.Error))
	var ok bool
	switch reason {
	case ReasonTaken: // topic name
		ok = bad
	case ReasonMalformed, ReasonPacketID:
		ok = bad
	case ReasonNotPublish:
		ok = errors.Is(err, mqtt.ErrNotPublish)
	case ReasonPartial: // at fault only if there is a whole valid packet
		ok = err != nil
	case ReasonQoS2:
		ok = b[0]>>1&3 == 2
	case ReasonDup:
		ok = b[0]&8 != 0
	case ReasonRetain:
		ok = b[0]&1 == 1
	case ReasonPropertiesLong:
		ok = bad || errors.Is(err, mqtt.ErrShort) || len(ref.Properties) > PropertiesMax
	case ReasonProperties:
		ok = version == 5 && (bad || len(ref.Properties) > 0)
	case ReasonTopicLong:
		ok = bad || len(ref.Topic) > TopicN
	}
	if !ok {
		t.Fatalf("%x: version %d: reason %d; reference %+v, %v", b, version, reason, ref, err)
	}
}

// publishSeeds are one packet of every kind.
func publishSeeds() [][]byte {
	var s [][]byte
	for _, v5 := range []bool{false, true} {
		for _, first := range []byte{0x30, 0x31, 0x32, 0x33, 0x34, 0x36, 0x38, 0x3a} {
			s = append(s, packetOf(first, "a/b", 7, 5, v5))
		}
		s = append(s, packetOf(0x32, strings.Repeat("t", TopicN), 7, 300, v5), packetOf(0x32, strings.Repeat("t", TopicN+1), 7, 0, v5),
			packetOf(0x32, "a", 0, 0, v5), packetOf(0x30, "", 0, 3, v5), packetOf(0x30, "a/+", 0, 3, v5), packetOf(0x30, "\u00e9\u20ac\U0001f600", 0, 3, v5),
			packetOf(0x30, "\xed\xa0\x80", 0, 3, v5), packetOf(0x30, "\xc0\x80", 0, 3, v5), packetOf(0x30, "\xf4\x90\x80\x80", 0, 3, v5), packetOf(0x30, "a\xe2\x82", 0, 3, v5),
			append(packetOf(0x30, "a", 0, 3, v5), 0xc0, 0), packetOf(0x30, "a", 0, 20000, v5), packetOf(0x30, "a", 0, 20000, v5)[:100])
	}
	return append(s, []byte{0x30}, []byte{0x30, 0}, []byte{0x30, 0x80, 0x80, 0x80, 0x80}, []byte{0x30, 0x80, 0x80, 0x80}, []byte{0xc0, 0},
		[]byte("\x30\x83\x00\x00\x01a"), []byte("\x30\x84\x00\x00\x01a\x00"), []byte("\x30\x06\x00\x00\x03\x23\x00\x01"))
}

// FuzzPublish compares mqtt_publish and utf8_step with the reference parser.
func FuzzPublish(f *testing.F) {
	for _, b := range publishSeeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, version := range []byte{3, 4, 5} {
			comparePublish(t, b, version)
		}
	})
}

// TestDamagedPublish does the same over random damage to valid packets.
func TestDamagedPublish(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	seeds := publishSeeds()
	for range 200_000 {
		b := append([]byte(nil), seeds[r.IntN(len(seeds))]...)
		for range r.IntN(4) {
			switch i := r.IntN(min(len(b), 12)); r.IntN(4) {
			case 0:
				b[i] = byte(r.Uint32())
			case 1:
				b[i] ^= 1 << r.IntN(8)
			case 2:
				b = b[:1+r.IntN(len(b))]
			case 3:
				b = append(b[:i], append([]byte{byte(r.Uint32())}, b[i:]...)...)
			}
		}
		comparePublish(t, b, byte(3+r.IntN(3)))
	}
}

// TestTopicNames compares utf8_step with the reference over all short names.
func TestTopicNames(t *testing.T) {
	check := func(b []byte) {
		if TopicOK(b) != (topic.ValidateName(b) == nil) {
			t.Fatalf("%x: %v", b, TopicOK(b))
		}
	}
	for a := range 256 {
		check([]byte{byte(a)})
		for b := range 256 {
			check([]byte{byte(a), byte(b)})
			if a < 0xc0 {
				continue
			}
			for _, c := range []byte{0, 'a', 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff} {
				check([]byte{byte(a), byte(b), c})
				for _, d := range []byte{'a', 0x7f, 0x80, 0xbf, 0xc0} {
					check([]byte{byte(a), byte(b), c, d})
				}
			}
		}
	}
}

// TestPacketsThatLeaveSessionOpen: which first bytes of a client's packets leave its session as it is,
// by the tables of the specification (MQTT 5 sections 2.1.2 and 2.1.3).
func TestPacketsThatLeaveSessionOpen(t *testing.T) {
	want := map[byte]bool{0x40: true, 0x50: true, 0x62: true, 0x70: true, 0x82: true, 0xa2: true, 0xc0: true}
	for qos := range byte(3) {
		for retain := range byte(2) {
			want[0x30|qos<<1|retain] = true
			want[0x38|qos<<1|retain] = qos > 0 // DUP
		}
	}
	for b := range 256 {
		if got := GoesOn(byte(b)); got != want[byte(b)] {
			t.Errorf("%#02x: %v", b, got)
		}
	}
}

// compareFraming feeds a stream in pieces to both and compares after each piece.
func compareFraming(t *testing.T, stream []byte, r *rand.Rand) {
	t.Helper()
	var w framing
	var ref mqtt.Framing
	bad := false
	for len(stream) > 0 {
		n := 1 + r.IntN(len(stream))
		if r.IntN(2) == 0 {
			n = min(n, 1+r.IntN(4))
		}
		w.Step(stream[:n])
		if _, err := ref.Write(stream[:n]); err != nil {
			bad = true
		}
		if w.Bad() != bad || w.AtBoundary() != ref.AtBoundary() {
			t.Fatalf("bad %v at boundary %v, reference %v %v; next %x", w.Bad(), w.AtBoundary(), bad, ref.AtBoundary(), stream[n:min(n+8, len(stream))])
		}
		stream = stream[n:]
	}
}

// FuzzFraming compares framing_head_byte with the reference under arbitrary splits.
func FuzzFraming(f *testing.F) {
	var all []byte
	for i, b := range publishSeeds() {
		f.Add(b, uint64(i))
		all = append(all, b...)
	}
	f.Add(all, uint64(1))
	f.Add([]byte("\xc0\x00\xe0\x00\x30\xff\xff\xff\x7f"), uint64(2))
	f.Add([]byte("\x30\xff\xff\xff\xff\x01"), uint64(3))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		compareFraming(t, stream, rand.New(rand.NewPCG(seed, 1)))
	})
}

// TestFramingStreams does the same over long streams of valid packets.
func TestFramingStreams(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	for range 300 {
		var stream []byte
		for range 40 {
			switch r.IntN(4) {
			case 0:
				stream = append(stream, 0xc0, 0)
			case 1:
				stream = append(stream, packetOf(0x30, "t", 0, r.IntN(20000), false)...)
			default:
				stream = append(stream, packetOf(0x32, "a/b", 9, r.IntN(200), false)...)
			}
		}
		compareFraming(t, stream, r)
	}
}
