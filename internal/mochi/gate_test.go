package mochi

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"eproxy/internal/mqtt"
	"eproxy/internal/mqtt/samples"
	"eproxy/internal/readbuf"
)

// drive sends a stream through a gate in pieces, to a server with buffers of any
// size, and returns what the server gets.
func drive(t *testing.T, g *gate, stream []byte, r *rand.Rand) (got []byte) {
	t.Helper()
	sent := 0
	for sent < len(stream) && g.violation == nil {
		p := make([]byte, 1+r.IntN(3000))
		n := g.pass(p)
		if n == 0 {
			g.unused()
			room := g.Room()
			read := copy(room[:min(len(room), 1+r.IntN(2000))], stream[sent:])
			g.Added(read)
			sent += read
			g.advance(nil)
			n = g.pass(p)
		}
		got = append(got, p[:n]...)
		if g.violation == nil && len(g.Held)-g.From != sent-len(got) || cap(g.Held) > max(readbuf.ReadSize, 4*len(g.Held)+2*readbuf.KeepSize) {
			t.Fatalf("holds %d bytes, with room for %d, of which %d were handed over; %d were not", len(g.Held), cap(g.Held), g.From, sent-len(got))
		}
		if g.atBoundary() && g.From == len(g.Held) && !bytes.Equal(got, stream[:sent]) {
			t.Fatalf("at a boundary after %d bytes, but %d were handed over", sent, len(got))
		}
	}
	for p := make([]byte, 100); ; {
		n := g.pass(p)
		if n == 0 {
			if g.advance(nil); g.From == g.ready {
				return got
			}
		}
		got = append(got, p[:n]...)
	}
}

// TestGatePassesOnlyWhatIsValid: however a stream and the server's buffers are cut, the server gets
// all that comes before a violation, and nothing of the packet that is one.
func TestGatePassesOnlyWhatIsValid(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 13))
	for range 300 {
		stream := []byte(samples.Hello(5))
		for range r.IntN(30) {
			c := samples.All[r.IntN(len(samples.All))]
			if c.Version == 5 && c.Code == 0 && c.Packet[0] != 0xe0 {
				stream = append(stream, c.Packet...)
			}
			large := "\x26" + samples.String("k") + samples.String(strings.Repeat("v", r.IntN(20000)))
			stream = append(stream, samples.Packet(0x82, "\x00\x01", samples.Properties(large), samples.String("a"), "\x00")...)
		}
		valid := len(stream)
		stream = append(stream, "\x82\x06\x12\x34\x00\x00\x01\x70\xc0\x00"...)
		g := &gate{Decoder: mqtt.Decoder{MaxConnect: samples.MaxPacket, MaxPacket: samples.MaxPacket, TopicAlias: topicAliases}}
		got := drive(t, g, stream, r)
		if !bytes.Equal(got, stream[:valid]) {
			t.Fatalf("%d bytes were handed over, want %d", len(got), valid)
		}
		if g.violation == nil || g.violation.Code != mqtt.CodeMalformed || g.atBoundary() {
			t.Fatalf("violation %v, at a boundary %v", g.violation, g.atBoundary())
		}
	}
}
