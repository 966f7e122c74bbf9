package mochi

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"eproxy/internal/mqtt/samples"
)

// dialogue shows clauses that take several connections, or several steps. Numbers are those of MQTT 5 unless a clause says otherwise.
type dialogue struct {
	clauses string // with blanks between
	name    string
	steps   []line
}

// line is what one client does, and what it must get.
type line struct {
	who  string
	do   func(p *part)
	want []string // packets, in their order; packet identifiers of the server's PUBLISH are 0 here
	ends bool     // the server closes the connection
}

// part is a client's in a dialogue.
type part struct {
	net.Conn
	t      *testing.T
	s      *stage
	ids    []uint16 // packet identifiers of the messages that it has got, in their order
	closed bool
}

// send sends these bytes.
func send(who, what string, want ...string) line {
	return line{who: who, want: want, do: func(p *part) { write(p.t, p, []byte(what)...) }}
}

// gets waits for packets.
func gets(who string, want ...string) line { return line{who: who, want: want, do: func(*part) {}} }

// over waits until the server closes, after these packets.
func over(who, what string, want ...string) line {
	x := send(who, what, want...)
	x.ends = true
	return x
}

// back is a new connection of the same client, for which the old one is cut without DISCONNECT.
func back(who, connect string, want ...string) line {
	return line{who: who, want: want, do: func(p *part) {
		p.cut()
		p.Conn, p.closed = p.s.dial(), false
		write(p.t, p, []byte(connect)...)
	}}
}

// cut ends a client's connection without DISCONNECT.
func cut(who string) line { return line{who: who, do: func(p *part) { p.cut() }} }

func (p *part) cut() {
	if p.Conn != nil {
		_ = p.Conn.Close()
	}
	p.closed = true
}

// answers sends an acknowledgement of the n-th message that the client has got, from 0.
func answersTo(who string, n int, first byte, rest string, want ...string) line {
	return line{who: who, want: want, do: func(p *part) {
		write(p.t, p, []byte(pkt(first, string(binary.BigEndian.AppendUint16(nil, p.ids[n])), rest))...)
	}}
}

// expired waits for what a server does once a second.
func pause(d time.Duration) line { return line{do: func(*part) { time.Sleep(d) }} }

// masked is a packet of the server's with the identifier that the server has chosen taken out, and that.
func masked(version byte, b []byte) ([]byte, uint16) {
	if b[0]>>4 != 3 && b[0] != 0x62 || b[0]>>1&3 == 0 {
		return b, 0
	}
	b = bytes.Clone(b)
	at := 1
	for b[at]&0x80 != 0 {
		at++
	}
	at++
	if b[0]>>4 == 3 {
		at += 2 + int(binary.BigEndian.Uint16(b[at:]))
	}
	id := binary.BigEndian.Uint16(b[at:])
	b[at], b[at+1] = 0, 0
	return b, id
}

// TestDialogues: each dialogue goes as the clauses want, and nobody gets anything besides.
func TestDialogues(t *testing.T) {
	for _, d := range dialogues() {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, say("ok"), nil, anonymous)
			parts := make(map[string]*part)
			for i, x := range d.steps {
				p := parts[x.who]
				if p == nil {
					p = &part{t: t, s: s}
					if parts[x.who] = p; x.who != "" {
						p.Conn = s.dial()
					}
				}
				x.do(p)
				for _, want := range x.want {
					p.expect(i, want)
				}
				if x.ends {
					if rest := readAll(t, p); len(rest) > 0 {
						t.Fatalf("step %d: %s got % x, want the end", i, x.who, rest)
					}
					p.closed = true
				}
			}
			for who, p := range parts {
				if who == "" || p.closed {
					continue
				}
				write(t, p, 0xc0, 0)
				if got := packet(t, p); !bytes.Equal(got, []byte{0xd0, 0}) {
					t.Errorf("%s got % x besides", who, got)
				}
			}
		})
	}
}

// expect reads a packet.
func (p *part) expect(step int, want string) {
	p.t.Helper()
	got, id := masked(0, packet(p.t, p))
	if got[0]>>4 == 3 && got[0]>>1&3 > 0 {
		if p.ids = append(p.ids, id); id == 0 {
			p.t.Errorf("step %d: packet identifier 0", step)
		}
	}
	if alike(got) != alike([]byte(want)) {
		p.t.Fatalf("step %d: got % x, want % x", step, got, want)
	}
}

// alike is short, and of CONNACK what is neither its length nor properties.
func alike(p []byte) string {
	if p[0] == 0x20 {
		return string([]byte{0x20, p[2], p[3]})
	}
	return short(p)
}

// Packets of the dialogues, of MQTT 5 unless they name a version.

// hello5 is CONNECT: flags are Connect Flags, rest what follows the client identifier.
func hello5(id string, flags byte, properties string, rest ...string) string {
	return samples.Connect(5, flags, append([]string{samples.Properties(properties), str(id)}, rest...)...)
}

func hello4(id string, flags byte, rest ...string) string {
	return samples.Connect(4, flags, append([]string{str(id)}, rest...)...)
}

const (
	ok4, present4 = "\x20\x02\x00\x00", "\x20\x02\x01\x00"
	clean, kept   = 2, 0
	bye           = "\xe0\x00"
)

// ok5 and present5 are compared up to their properties.
var (
	ok5, present5 = "\x20\x03\x00\x00\x00\x00", "\x20\x03\x01\x00\x00\x00"
	lasting       = "\x11\x00\x00\x00\x3c" // Session Expiry Interval of a minute
)

// sub5 subscribes with options; its answer is granted(qos).
func sub5(filter string, options byte, properties ...string) string {
	return pkt(0x82, "\x00\x01", samples.Properties(properties...), str(filter), string([]byte{options}))
}

func sub4(filter string, qos byte) string {
	return pkt(0x82, "\x00\x01", str(filter), string([]byte{qos}))
}

func granted5(codes ...byte) string { return pkt(0x90, "\x00\x01\x00", string(codes)) }
func granted4(codes ...byte) string { return pkt(0x90, "\x00\x01", string(codes)) }

// pub5 is a PUBLISH with properties; first is its first byte, id is left out with QoS 0.
func pub5(first byte, topic string, id byte, properties, payload string) string {
	if first>>1&3 == 0 {
		return pkt(first, str(topic), samples.Properties(properties), payload)
	}
	return pkt(first, str(topic), string([]byte{0, id}), samples.Properties(properties), payload)
}

func pub4(first byte, topic string, id byte, payload string) string {
	if first>>1&3 == 0 {
		return pkt(first, str(topic), payload)
	}
	return pkt(first, str(topic), string([]byte{0, id}), payload)
}

func ack(first, id byte, code ...byte) string { return pkt(first, string([]byte{0, id}), string(code)) }

// long is a payload of so many bytes.
func long(n int) string { return strings.Repeat("x", n) }
