package mochi

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt/samples"
	"eproxy/internal/request"
)

// move is a packet that a client sends, and the answer that it is owed.
type move struct {
	name         string
	packet, want []byte
}

// ofClients are the exchanges that a client may begin with packet identifier 1, each with its answers.
func ofClients() map[string][]move {
	publish := func(qos byte) []byte { return []byte{0x30 | qos<<1, 6, 0, 1, 'w', 0, 1, 'x'} }
	return map[string][]move{
		"QoS 1":       {{"PUBLISH", publish(1), []byte{0x40, 2, 0, 1}}},
		"QoS 2":       {{"PUBLISH", publish(2), []byte{0x50, 2, 0, 1}}, {"PUBREL", []byte{0x62, 2, 0, 1}, []byte{0x70, 2, 0, 1}}},
		"SUBSCRIBE":   {{"SUBSCRIBE", []byte{0x82, 6, 0, 1, 0, 1, 'z', 1}, []byte{0x90, 3, 0, 1, 1}}},
		"UNSUBSCRIBE": {{"UNSUBSCRIBE", []byte{0xa2, 5, 0, 1, 0, 1, 'z'}, []byte{0xb0, 2, 0, 1}}},
	}
}

// theirs are a client's steps in the exchange of a message that the server has sent it with packet identifier 1.
func theirs(qos byte) []move {
	if qos == 1 {
		return []move{{"PUBACK", []byte{0x40, 2, 0, 1}, nil}}
	}
	return []move{{"PUBREC", []byte{0x50, 2, 0, 1}, []byte{0x62, 2, 0, 1}}, {"PUBCOMP", []byte{0x70, 2, 0, 1}, nil}}
}

// merges are all orders of two sequences.
func merges(a, b []move) [][]move {
	if len(a) == 0 || len(b) == 0 {
		return [][]move{append(append([]move{}, a...), b...)}
	}
	var out [][]move
	for _, rest := range merges(a[1:], b) {
		out = append(out, append([]move{a[0]}, rest...))
	}
	for _, rest := range merges(a, b[1:]) {
		out = append(out, append([]move{b[0]}, rest...))
	}
	return out
}

// TestIdentifiersOfBothDirections: the packet identifiers of a client and of the server are assigned apart (MQTT 5 section 2.2.1): an
// exchange that the client begins with one that the server uses is answered as any other, in every order of their steps, and both
// messages arrive, once.
func TestIdentifiersOfBothDirections(t *testing.T) {
	for _, qos := range []byte{1, 2} {
		for what, mine := range ofClients() {
			for _, order := range merges(mine, theirs(qos)) {
				name := fmt.Sprintf("server's QoS %d, client's %s:", qos, what)
				for _, s := range order {
					name += " " + s.name
				}
				t.Run(name, func(t *testing.T) { bothDirections(t, qos, order) })
			}
		}
	}
}

func bothDirections(t *testing.T, qos byte, order []move) {
	s := newStage(t, say("ok"), nil, anonymous)
	witness := &client{t: t, Conn: s.dial()}
	write(t, witness, []byte(samples.Packet(0x10, samples.String("MQTT"), "\x04\x02\x00\x00", samples.String("witness")))...)
	want(t, witness, 0x20, 2, 0, 0)
	write(t, witness, 0x82, 6, 0, 1, 0, 1, 'w', 0)
	want(t, witness, 0x90, 3, 0, 1, 0)
	hello := samples.Packet(0x10, samples.String("MQTT"), "\x04\x00\x00\x00", samples.String("c"))
	c := &client{t: t, Conn: s.dial()}
	write(t, c, []byte(hello)...)
	want(t, c, 0x20, 2, 0, 0)
	write(t, c, 0x82, 6, 0, 1, 0, 1, 'q', 2)
	want(t, c, 0x90, 3, 0, 1, 2)
	if err := s.front.Publish(&request.Message{Topic: "q", QoS: qos, Payload: []byte("y")}); err != nil {
		t.Fatal(err)
	}
	want(t, c, 0x30|qos<<1, 6, 0, 1, 'q', 0, 1, 'y')
	published := 0
	for _, x := range order {
		write(t, c, x.packet...)
		if x.want != nil {
			want(t, c, x.want...)
		}
		if x.name == "PUBLISH" {
			published++
		}
	}
	write(t, c, 0xc0, 0)
	want(t, c, 0xd0, 0)
	for range published {
		want(t, witness, 0x30, 4, 0, 1, 'w', 'x')
	}
	write(t, witness, 0xc0, 0)
	want(t, witness, 0xd0, 0)
	_ = c.Close()
	c = &client{t: t, Conn: s.dial()} // nothing is open, so nothing comes again
	write(t, c, []byte(hello)...)
	want(t, c, 0x20, 2, 1, 0)
	write(t, c, 0xc0, 0)
	want(t, c, 0xd0, 0)
}

// TestMessageKeptBesideClients: a message that a client has not acknowledged comes again on its next connection, whatever the client has begun and ended
// with the same packet identifier meanwhile.
func TestMessageKeptBesideClients(t *testing.T) {
	for what, mine := range ofClients() {
		t.Run(what, func(t *testing.T) {
			s := newStage(t, say("ok"), nil, anonymous)
			hello := samples.Packet(0x10, samples.String("MQTT"), "\x04\x00\x00\x00", samples.String("c"))
			c := &client{t: t, Conn: s.dial()}
			write(t, c, []byte(hello)...)
			want(t, c, 0x20, 2, 0, 0)
			write(t, c, 0x82, 6, 0, 1, 0, 1, 'q', 2)
			want(t, c, 0x90, 3, 0, 1, 2)
			if err := s.front.Publish(&request.Message{Topic: "q", QoS: 2, Payload: []byte("y")}); err != nil {
				t.Fatal(err)
			}
			message := c.expect(packets.Publish)
			for _, x := range mine {
				write(t, c, x.packet...)
				want(t, c, x.want...)
			}
			_ = c.Close()
			c = &client{t: t, Conn: s.dial()}
			write(t, c, []byte(hello)...)
			want(t, c, 0x20, 2, 1, 0)
			message[0] |= 8
			if got := c.expect(packets.Publish); !bytes.Equal(got, message) {
				t.Errorf("got % x, want % x", got, message)
			}
		})
	}
}
