package mochi

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt/samples"
)

// TestManyRetained: a client gets all that is retained, also where that is more than may be queued for it, and what comes meanwhile behind.
func TestManyRetained(t *testing.T) {
	s := tight(t, false)
	const topics = 200
	for n := range topics {
		s.give(fmt.Sprint(n), 0, true, 100)
	}
	c := s.dial()
	write(t, c, []byte(samples.Connect(4, 2, samples.String("a"))+samples.Packet(0x82, "\x00\x01", samples.String("t/#"), "\x00"))...)
	want(t, c, 0x20, 2, 0, 0, 0x90, 3, 0, 1, 0)
	seen := make(map[string]bool)
	for len(seen) < topics {
		p := packet(t, c)
		name := string(p[4 : len(p)-100])
		if p[0] != 0x31 || seen[name] {
			t.Fatalf("got % x", p)
		}
		seen[name] = true
	}
	if n := s.droppedUntilNow(); n != 0 {
		t.Errorf("%d were dropped", n)
	}
}

// TestRetainedAskedForAgain: for a client that subscribes again and again and reads nothing no more is kept of what is retained than there is.
func TestRetainedAskedForAgain(t *testing.T) {
	s := tight(t, false)
	const topics, times = 100, 50
	for n := range topics {
		s.give(fmt.Sprint(n), 0, true, 100_000)
	}
	c := s.dial()
	_ = c.(*net.TCPConn).SetReadBuffer(32 << 10)
	write(t, c, []byte(samples.Connect(4, 2, samples.String("a")))...)
	want(t, c, 0x20, 2, 0, 0)
	cl, _ := s.front.mqtt.Clients.Get("a")
	_ = cl.Net.Conn.(*conn).SetWriteBuffer(32 << 10)
	write(t, c, []byte(samples.Packet(0x82, "\x00\x01", strings.Repeat(samples.String("t/#")+"\x00", times)))...)
	if p := packet(t, c); p[0] != 0x90 {
		t.Fatalf("got % x", p)
	}
	q := &cl.Net.Conn.(*conn).out
	q.mu.Lock()
	defer q.mu.Unlock()
	if n, most := len(q.retained), s.front.mqtt.Topics.Retained.Len(); n < topics/2 || n > most {
		t.Errorf("%d messages wait, %d are retained", n, most)
	}
}

// TestRetainedIsNotNewer: a retained message comes behind what had been queued before its SUBSCRIBE, and before all that has come since.
func TestRetainedIsNotNewer(t *testing.T) {
	var q outgoing
	put := func(n int64) {
		if _, ok := q.put(&packets.Packet{Created: n}, 10); !ok {
			t.Fatal("no room")
		}
	}
	for _, again := range []bool{false, true} {
		put(1)
		put(2)
		q.hold()
		put(5)
		for n := range int64(2) {
			if !q.putRetained(&packets.Packet{Created: 3 + n}, 2) {
				t.Fatal("no room")
			}
		}
		if q.putRetained(&packets.Packet{}, 2) {
			t.Error("there is room for a third")
		}
		put(6)
		q.begin()
		for want := range int64(6) {
			if got := q.next(); got == nil || got.Created != want+1 {
				t.Fatalf("again %v: got %v, want %d", again, got, want+1)
			}
		}
		if q.next() != nil || q.more() || q.waiting != nil || q.retained != nil {
			t.Error("something is left")
		}
	}
}

// TestRetainedHasIdentifier: a retained message has the identifier of the subscription that it is sent for [MQTT-3.3.4-3], and later ones do.
func TestRetainedHasIdentifier(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	s.give("r", 0, true, 1)
	c := s.dial()
	write(t, c, []byte(hello5("a", clean, "")+sub5("t/#", 0, "\x0b\x07"))...)
	packet(t, c)
	packet(t, c)
	for _, first := range []byte{0x31, 0x30} {
		if p, want := packet(t, c), pub5(first, "t/r", 0, "\x0b\x07", "\x00"); string(p) != want {
			t.Errorf("got % x, want % x", p, want)
		}
		s.give("r", 0, false, 1)
	}
}

// TestPayloadIsShared: what waits for several subscribers has one payload.
func TestPayloadIsShared(t *testing.T) {
	pk := packets.Packet{TopicName: "t", Payload: []byte("x"), Properties: packets.Properties{SubscriptionIdentifier: []int{1}}}
	a, b := shared(&pk), shared(&pk)
	if &a.Payload[0] != &b.Payload[0] || &pk.Payload[0] != &a.Payload[0] {
		t.Error("the payload was copied")
	}
	if a.Properties.SubscriptionIdentifier = append(a.Properties.SubscriptionIdentifier[:0], 2); pk.Properties.SubscriptionIdentifier[0] != 1 {
		t.Error("the identifiers are shared")
	}
}
