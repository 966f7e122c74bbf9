package relay

import (
	"bytes"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt"
)

// TestWelcome: what the broker's CONNACK allows is lowered to what holds here, and nothing else of it changes.
func TestWelcome(t *testing.T) {
	for name, c := range map[string]struct {
		version byte
		in, out []byte
		aliases uint16
		size    int
	}{
		"3.1.1":         {4, []byte{0x20, 2, 1, 0}, []byte{0x20, 2, 1, 0}, 0, 0},
		"refused":       {5, []byte{0x20, 3, 0, 0x87, 0}, []byte{0x20, 3, 0, 0x87, 0}, 0, 0},
		"without limit": {5, []byte{0x20, 3, 0, 0, 0}, []byte{0x20, 8, 0, 0, 5, 0x27, 0, 0, 4, 0}, 0, 0},
		"within limits": {5, []byte{0x20, 11, 0, 0, 8, 0x27, 0, 0, 1, 0, 0x22, 0, 4}, []byte{0x20, 11, 0, 0, 8, 0x27, 0, 0, 1, 0, 0x22, 0, 4}, 4, 256},
		"aliases":       {5, []byte{0x20, 11, 0, 0, 8, 0x22, 1, 0, 0x27, 0, 0, 1, 0}, []byte{0x20, 11, 0, 0, 8, 0x27, 0, 0, 1, 0, 0x22, 0, 16}, 16, 256},
		"other":         {5, []byte{0x20, 6, 0, 0, 3, 0x21, 0, 9}, []byte{0x20, 11, 0, 0, 8, 0x21, 0, 9, 0x27, 0, 0, 4, 0}, 0, 0},
	} {
		w, err := readWelcome(c.in, c.version, 1024)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(w.packet, c.out) || w.aliases != c.aliases || w.packetSize != c.size {
			t.Errorf("%s: % x, %d aliases, %d bytes", name, w.packet, w.aliases, w.packetSize)
		}
	}
	for _, bad := range [][]byte{{0x20, 1, 0}, {0x20, 2, 0}, {0x20, 3, 0, 0, 9}} {
		if _, err := readWelcome(bad, 5, 1024); err == nil {
			t.Errorf("% x is taken", bad)
		}
	}
}

// publish5 is a PUBLISH of MQTT 5, QoS 0, with an alias.
func publish5(topic string, alias byte, payload string) []byte {
	body := append([]byte{0, byte(len(topic))}, topic...)
	body = append(body, 3, 0x23, 0, alias)
	body = append(body, payload...)
	return append([]byte{0x30, byte(len(body))}, body...)
}

// TestAliases: a message whose topic the broker was never told, because the one that said it was taken, goes there with it.
func TestAliases(t *testing.T) {
	c := &conn{version: 5}
	send := func(packet []byte, taken bool) []byte {
		t.Helper()
		var p mqtt.Publish
		if err := mqtt.ReadPublish(packet, 5, &p); err != nil {
			t.Fatal(err)
		}
		topic := c.topicOf(&p)
		if taken {
			c.aliases.resolve(&p)
			return nil
		}
		head := packet[:p.Head]
		if other := c.letPass(head, &p, topic); other != nil {
			head = other
		}
		return append(bytes.Clone(head), packet[p.Head:]...)
	}
	send(publish5("routed", 1, "x"), true)
	for n, c := range []struct{ in, out []byte }{
		{publish5("", 1, "a"), publish5("routed", 1, "a")}, // a reload, and the topic is routed no more
		{publish5("", 1, "b"), publish5("", 1, "b")},
		{publish5("other", 1, "c"), publish5("other", 1, "c")},
		{publish5("", 1, "d"), publish5("", 1, "d")},
	} {
		if got := send(c.in, false); !bytes.Equal(got, c.out) {
			t.Errorf("%d: % x, want % x", n, got, c.out)
		}
	}
}

// TestPings: a PINGRESP of the broker's is the client's, but for that which answers the server's own PINGREQ.
func TestPings(t *testing.T) {
	var p pings
	now := time.Now()
	p.client()
	if p.begin(now) {
		t.Error("one of the server's own behind the client's")
	}
	if p.answered() {
		t.Error("the client's answer is swallowed")
	}
	if !p.begin(now) || p.begin(now) {
		t.Error("not exactly one of its own")
	}
	p.client()
	if !p.since().Equal(now) || !p.answered() || p.answered() || !p.since().IsZero() {
		t.Error("answers in the wrong order")
	}
}

// TestCopies: the client's acknowledgement waits for the broker's of the copy, whichever comes first, and both steps of QoS 2 are
// answered.
func TestCopies(t *testing.T) {
	var s copies
	if s.hold(7, []byte("a")) {
		t.Error("an acknowledgement waits for no copy")
	}
	s.begin(7)
	if !s.hold(7, []byte("a")) {
		t.Error("it does not wait for the copy")
	}
	if ours, reply, answer := s.acknowledged(packets.Pubrec, 7, 0); !ours || !bytes.Equal(reply, []byte{0x62, 2, 0, 7}) || answer != nil {
		t.Errorf("PUBREC: %v % x %q", ours, reply, answer)
	}
	if ours, reply, answer := s.acknowledged(packets.Pubcomp, 7, 0); !ours || reply != nil || string(answer) != "a" {
		t.Errorf("PUBCOMP: %v % x %q", ours, reply, answer)
	}
	if ours, _, _ := s.acknowledged(packets.Puback, 7, 0); ours {
		t.Error("an acknowledgement of the client's own message is swallowed")
	}
	s.begin(8)
	if ours, _, answer := s.acknowledged(packets.Puback, 8, 0); !ours || answer != nil || s.hold(8, []byte("a")) {
		t.Error("the function answers behind the broker: nothing is to be waited for")
	}
}

// TestExact: exchanges of QoS 2 go on with a session, end with it, and are bounded.
func TestExact(t *testing.T) {
	var e exact
	x := e.begin("c", true)
	x.set(1)
	e.keep("c", x, time.Hour)
	if again := e.begin("c", true); !again.has(1) || again.has(2) || !again.end(1) || again.end(1) {
		t.Error("the exchange does not go on")
	}
	x.set(1)
	e.keep("c", x, time.Hour)
	if e.begin("c", false).has(1) {
		t.Error("an exchange goes on without the session")
	}
	for n := range 2 * exactMax {
		x := &exchanges{}
		x.set(1)
		e.keep(string(rune('a'+n)), x, time.Hour)
	}
	if len(e.clients) > exactMax {
		t.Errorf("%d clients are kept", len(e.clients))
	}
}
