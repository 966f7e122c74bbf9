package mochi

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt"
	"eproxy/internal/mqtt/samples"
)

// fuzzDeadline is how long one stream may take: less than the 10 s after which
// the fuzzing engine kills the process without a word.
const fuzzDeadline = 8 * time.Second

// FuzzServer sends a stream to a server: decoder, session, hooks and all, over
// loopback. Nothing may panic. What the decoder lets through the library must
// accept: the connection goes on. A violation ends it, with its reason in MQTT 5.
// The first byte says whether a CONNECT of MQTT 3.1, 3.1.1 or 5 goes before.
func FuzzServer(f *testing.F) {
	f.Add([]byte(samples.Hello(4)), byte(0))
	for _, c := range samples.All {
		f.Add([]byte(c.Packet), c.Version)
	}
	for _, seed := range fuzzSeeds() {
		f.Add([]byte(seed), byte(5))
	}
	s := newStage(f, say("ok"), nil, anonymous)
	var runs atomic.Int64
	f.Fuzz(func(t *testing.T, stream []byte, version byte) {
		if runs.Add(1)%1000 == 0 {
			s.forgetAll()
		}
		if v := version % 8; v >= 3 && v <= 5 {
			stream = append([]byte(samples.Hello(v)), stream...)
		}
		s.exchange(t, stream)
	})
}

// fuzzSeeds are sequences that need each other, of MQTT 5.
func fuzzSeeds() []string {
	subscribe := samples.Packet(0x82, "\x00\x01", samples.Properties(), samples.String("a/#"), "\x02")
	publish := samples.Packet(0x34, samples.String("a/b"), "\x00\x07", samples.Properties("\x02\x00\x00\x00\x01"), "p")
	return []string{
		subscribe + publish + "\x62\x02\x00\x07\x50\x02\x00\x01\x70\x02\x00\x01",
		subscribe + samples.Packet(0x31, samples.String("a"), samples.Properties("\x08"+samples.String("r")), "p") +
			samples.Packet(0xa2, "\x00\x02", samples.Properties(), samples.String("a/#")),
		samples.Packet(0x32, samples.String("in/x"), "\x00\x01", samples.Properties("\x23\x00\x01", "\x08"+samples.String("a/r")), "p") +
			samples.Packet(0x32, samples.String(""), "\x00\x02", samples.Properties("\x23\x00\x01"), "p"),
		samples.Packet(0x82, "\x00\x01", samples.Properties("\x0b\x05"), samples.String("$share/g/a"), "\x01", samples.String("+/+"), "\x20") + publish,
	}
}

// forgetAll forgets the sessions that clients left behind.
func (s *stage) forgetAll() {
	for id, cl := range s.front.mqtt.Clients.GetAll() {
		if cl.Closed() {
			s.front.mqtt.UnsubscribeClient(cl)
			s.front.mqtt.Clients.Delete(id)
		}
	}
}

// exchange sends a stream and checks what becomes of its connection.
func (s *stage) exchange(t *testing.T, stream []byte) {
	d := &mqtt.Decoder{MaxConnect: samples.MaxPacket, MaxPacket: samples.MaxPacket, TopicAlias: topicAliases}
	valid := append([]byte(nil), stream...) // the decoder may change it
	passed, violation := d.Next(valid)
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = conn.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: there are many
		_ = conn.Close()
	}()
	_ = conn.SetDeadline(time.Now().Add(fuzzDeadline))
	before := s.counts.of("protocol_error")
	_, _ = conn.Write(stream)
	switch {
	case violation != nil:
		s.ended(t, conn, d, violation, before)
	case passed == len(stream) && d.AtBoundary() && d.Open():
		_, _ = conn.Write([]byte{packets.Pingreq << 4, 0})
		got, err := until(conn, packets.Pingresp<<4)
		if err != nil && !s.mayEnd(valid, got, before) {
			t.Fatalf("valid, and the connection ended with % x (%v)\n% x", got, err, stream)
		}
		_, _ = conn.Write([]byte{packets.Disconnect << 4, 0})
	default: // incomplete
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	readAll(t, conn) // the next connection is not to be taken over by this one
	if n := s.counts.of("panic"); n > 0 {
		t.Fatalf("%d panics; % x", n, stream)
	}
}

// mayEnd says whether the server had a reason of its own to end a connection
// whose packets are all valid.
func (s *stage) mayEnd(stream []byte, got [][]byte, before int) bool {
	switch {
	case s.counts.of("protocol_error") > before: // an acknowledgement out of turn
		return true
	case strings.Contains(strings.ToUpper(string(stream)), "$SYS"): // MQTT 3.1.1 has no other answer
		return true
	case len(got) > 0 && got[0][0] == packets.Connack<<4 && got[0][3] != 0: // refused, for whatever reason
		return reasonOf(got[0]) == packets.ErrPacketTooLarge.Code
	}
	return smallPackets(stream) || disconnects(stream)
}

// smallPackets says whether the client accepts no packet as large as CONNACK.
func smallPackets(stream []byte) bool {
	pk, ok := firstOf(stream)
	return ok && pk.Properties.MaximumPacketSize > 0 && pk.Properties.MaximumPacketSize < 64
}

// disconnects says whether a stream of valid packets has a DISCONNECT.
func disconnects(stream []byte) bool {
	for _, p := range answers(stream) {
		if p[0] == packets.Disconnect<<4 {
			return true
		}
	}
	return false
}

// firstOf is the CONNECT of a stream as the library reads it.
func firstOf(stream []byte) (packets.Packet, bool) {
	p := answers(stream)[0]
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	_, n, err := packets.DecodeLength(strings.NewReader(string(p[1:])))
	return pk, err == nil && pk.ConnectDecode(p[1+n:]) == nil
}

// ended checks that a connection ends, and how.
func (s *stage) ended(t *testing.T, conn net.Conn, d *mqtt.Decoder, violation *mqtt.Error, before int) {
	var got [][]byte
	for {
		p, err := next(conn)
		if err == nil {
			got = append(got, p)
			continue
		}
		if errors.Is(err, syscall.ECONNRESET) {
			return // what was sent may be lost
		}
		if !errors.Is(err, io.EOF) {
			t.Fatalf("%v, and the connection does not end: %v; got % x", violation, err, got)
		}
		break
	}
	if d.Version() != 5 || len(got) == 0 || violation == mqtt.ErrAfterDisconnect {
		return
	}
	if last := got[len(got)-1]; reasonOf(last) < 0x80 && s.counts.of("protocol_error") == before {
		t.Fatalf("%v: the last packet is % x", violation, last)
	}
}
