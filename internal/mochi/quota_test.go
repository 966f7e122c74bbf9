package mochi

import (
	"encoding/binary"
	"net"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt/samples"
	"eproxy/internal/request"
)

// subscriber connects an MQTT 5 client with a Receive Maximum, subscribed to "q".
func subscriber(t *testing.T, s *stage, maximum byte) *client {
	t.Helper()
	c := &client{t: t, Conn: s.dial()}
	write(t, c, []byte(samples.Connect(5, 2, samples.Properties("\x21\x00"+string([]byte{maximum})), samples.String("sub"))+
		samples.Packet(0x82, "\x00\x01", samples.Properties(), samples.String("q"), "\x02"))...)
	c.expect(packets.Connack)
	c.expect(packets.Suback)
	return c
}

// TestReceiveMaximum: a client has no more unacknowledged messages than it allows,
// of either QoS, and gets all.
func TestReceiveMaximum(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	sub, pub := subscriber(t, s, 2), s.dial()
	write(t, pub, []byte(samples.Hello(4))...)
	const n = 20
	for i := range n {
		qos := byte(0x32 + i%2*2)
		write(t, pub, []byte(samples.Packet(qos, samples.String("q"), string([]byte{0, byte(i + 1)}), string([]byte{byte(i)}))+"\x62\x02\x00"+string([]byte{byte(i + 1)}))...)
	}
	write(t, pub, 0xc0, 0)
	if _, err := until(pub, packets.Pingresp<<4); err != nil { // all have been published
		t.Fatal(err)
	}
	first, second := sub.expect(packets.Publish), sub.expect(packets.Publish)
	write(t, sub, 0xc0, 0)
	sub.expect(packets.Pingresp) // and not a third message
	open, done := 2, 0
	for _, p := range [][]byte{first, second} {
		if sub.settle(p) {
			open, done = open-1, done+1
		}
	}
	for done < n {
		p := packet(t, sub)
		if p[0]>>4 == packets.Publish {
			if open++; open > 2 {
				t.Fatal("a third message while two are open")
			}
		}
		if sub.settle(p) {
			open, done = open-1, done+1
		}
	}
}

// TestExpiredHeld: messages that expire while they wait for a client's
// acknowledgement are not kept, however many come; what has not expired is sent, once
// and in order.
func TestExpiredHeld(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	sub := subscriber(t, s, 1)
	cl, _ := s.front.mqtt.Clients.Get("sub")
	const rounds, each = 20, 4000 // more than there are packet identifiers
	var first []byte
	for round := range rounds {
		cl.ClearInflights() // as when they expire
		for i := range each {
			if err := s.front.Publish(&request.Message{Topic: "q", QoS: 1, Payload: binary.BigEndian.AppendUint16([]byte{byte(round)}, uint16(i))}); err != nil {
				t.Fatal(err)
			}
		}
		if round == 0 {
			first = sub.expect(packets.Publish)
		}
		if err := s.front.Publish(&request.Message{Topic: "q"}); err != nil {
			t.Fatal(err)
		}
		sub.expect(packets.Publish) // of QoS 0, behind all
		q := &cl.Net.Conn.(*conn).quota
		q.mu.Lock()
		n := len(q.held)
		q.mu.Unlock()
		if n > heldMax {
			t.Fatalf("%d are kept after round %d", n, round)
		}
	}
	sub.settle(first)
	for i := range each {
		p := sub.expect(packets.Publish)
		if got := p[len(p)-3:]; got[0] != rounds-1 || int(binary.BigEndian.Uint16(got[1:])) != i {
			t.Fatalf("got % x as message %d", got, i)
		}
		sub.settle(p)
	}
	write(t, sub, 0xc0, 0)
	sub.expect(packets.Pingresp)
}

// TestBusySubscriber: messages to a client and its acknowledgements do not wait for
// each other.
func TestBusySubscriber(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	sub := subscriber(t, s, 10)
	const each, publishers = 3000, 2
	for range publishers {
		pub := s.dial()
		write(t, pub, []byte(samples.Connect(4, 2, samples.String("")))...)
		want(t, pub, 0x20, 2, 0, 0)
		go func() {
			for range each {
				if _, err := pub.Write([]byte(samples.Packet(0x32, samples.String("q"), "\x00\x01", "p"))); err != nil {
					return
				}
				if _, err := next(pub); err != nil {
					return
				}
			}
		}()
	}
	for range each * publishers {
		sub.settle(sub.expect(packets.Publish))
	}
}

// settle sends what a PUBLISH or PUBREL asks for; true if that ends the message.
func (c *client) settle(p []byte) bool {
	c.t.Helper()
	switch {
	case p[0]>>4 == packets.Pubrel:
		write(c.t, c, packets.Pubcomp<<4, 2, p[2], p[3])
		return true
	case p[0]&6 == 4: // QoS 2
		write(c.t, c, packets.Pubrec<<4, 2, p[5], p[6])
		return false
	}
	write(c.t, c, packets.Puback<<4, 2, p[5], p[6])
	return true
}

// client is a raw connection whose packets come one by one.
type client struct {
	net.Conn
	t *testing.T
}

// expect reads the next packet, which has to be of this type.
func (c *client) expect(kind byte) []byte {
	c.t.Helper()
	p := packet(c.t, c)
	if p[0]>>4 != kind {
		c.t.Fatalf("got % x, want a packet of type %d", p, kind)
	}
	return p
}
