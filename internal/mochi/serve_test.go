package mochi

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt/samples"
)

// faulty is a hook with a fault: it panics over SUBACK to the client "victim".
type faulty struct{ mochi.HookBase }

func (*faulty) ID() string           { return "faulty" }
func (*faulty) Provides(b byte) bool { return b == mochi.OnPacketEncode }
func (*faulty) OnPacketEncode(cl *mochi.Client, pk packets.Packet) packets.Packet {
	var none []int
	if cl.ID == "victim" && pk.FixedHeader.Type == packets.Suback {
		none[0]++
	}
	return pk
}

// TestPanicEndsItsConnectionOnly: a fault ends the connection that met it, with its will and its
// session; others go on.
func TestPanicEndsItsConnectionOnly(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	if err := s.front.mqtt.AddHook(&faulty{}, nil); err != nil {
		t.Fatal(err)
	}
	other, in := s.v5("other")
	ctx := context.Background()
	if _, err := other.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "wills"}}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn := s.dial()
		write(t, conn, []byte(samples.Connect(4, 6, samples.String("victim"), samples.String("wills"), samples.String("gone")))...)
		want(t, conn, 0x20, 2, 0, 0)
		write(t, conn, []byte(samples.Packet(0x82, "\x00\x01", samples.String("t"), "\x00"))...)
		readAll(t, conn)
		if p := <-in; string(p.Payload) != "gone" {
			t.Errorf("will %q", p.Payload)
		}
	}
	if n := s.counts.of("panic"); n != 3 {
		t.Errorf("counted %d times, want 3", n)
	}
	if got := s.log.String(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "client=victim") || !strings.Contains(got, "OnPacketEncode") {
		t.Errorf("logged:\n%s", got)
	}
	if _, err := other.Publish(ctx, &paho.Publish{Topic: "in/x", QoS: 1, Payload: []byte("still here")}); err != nil {
		t.Error(err)
	}
	s.waitFor(func() bool {
		_, kept := s.front.mqtt.Clients.Get("victim")
		return !kept
	}, "the session of a connection that ended is kept")
}

// TestPanicOverWill: the same where a will is published, at once or when its delay
// has passed and no connection is left.
func TestPanicOverWill(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	cl := s.front.mqtt.NewClient(nil, "", "broken", false)
	cl.State.Inflight = nil // whoever has a message of QoS 1 for it meets that
	s.front.mqtt.Clients.Add(cl)
	s.front.mqtt.Topics.Subscribe(cl.ID, packets.Subscription{Filter: "boom", Qos: 1})
	for i, delay := range []string{"\x00", "\x01"} {
		conn := s.dial()
		write(t, conn, []byte(samples.Connect(5, 0x0e, samples.Properties("\x11\x00\x00\x00\x09"), samples.String("victim"),
			samples.Properties("\x18\x00\x00\x00"+delay), samples.String("boom"), samples.String("x"))+"\xc1\x00")...)
		readAll(t, conn)
		s.waitFor(func() bool { return s.counts.of("panic") == i+1 }, "no fault was counted")
	}
}

// TestPanicInDelivery: the same where a message is delivered in the background.
func TestPanicInDelivery(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	s.counts.fault.Store(true)
	conn := s.dial()
	write(t, conn, []byte(samples.Hello(4)+samples.Packet(0x32, samples.String("in/x"), "\x00\x01"))...)
	if got := answers(readAll(t, conn)); len(got) != 1 || got[0][0] != 0x20 {
		t.Errorf("answered % x", got)
	}
	if n := s.counts.of("panic"); n != 1 {
		t.Errorf("counted %d times, want 1", n)
	}
	s.server.Drain(t.Context()) // does not wait for what never ends
}

// TestEmptyWill: a will without payload is valid and is published as it is.
func TestEmptyWill(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	other, in := s.v5("other")
	if _, err := other.Subscribe(context.Background(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "wills"}}}); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{"\xc1\x00", "\xe0\x01\x04"} { // a violation; DISCONNECT that asks for the will
		conn := s.dial()
		write(t, conn, []byte(samples.Connect(5, 6, samples.Properties(), samples.String("c"), samples.Properties(), samples.String("wills"), samples.String(""))+end)...)
		readAll(t, conn)
		if p := <-in; len(p.Payload) != 0 {
			t.Errorf("will %q", p.Payload)
		}
	}
}

// TestBridgeGetsNoEcho: who says that he is a bridge gets none of his own messages back, and
// RETAIN as it was published.
func TestBridgeGetsNoEcho(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	bridge, other := s.dial(), s.dial()
	write(t, bridge, []byte(samples.Connect(0x84, 2, samples.String("bridge"))+samples.Packet(0x82, "\x00\x01", samples.String("b/#"), "\x00"))...)
	want(t, bridge, 0x20, 2, 0, 0, 0x90, 3, 0, 1, 0)
	write(t, bridge, []byte(samples.Packet(0x30, samples.String("b/own")))...)
	write(t, bridge, 0xc0, 0)
	want(t, bridge, 0xd0, 0)
	write(t, other, []byte(samples.Hello(4)+samples.Packet(0x31, samples.String("b/x"), "p"))...)
	want(t, bridge, []byte(samples.Packet(0x31, samples.String("b/x"), "p"))...)
}

// TestTopicAlias: a PUBLISH with an alias only is judged and routed by its topic.
func TestTopicAlias(t *testing.T) {
	s := newStage(t, say("ok"), nil, own)
	alias := samples.Properties("\x23\x00\x01")
	for _, c := range []struct {
		topic string
		code  byte
	}{{"in/c/x", 0}, {"in/d/x", 0x87}} {
		conn := s.dial()
		publish := func(id byte, topic string) string {
			return samples.Packet(0x32, samples.String(topic), string([]byte{0, id}), alias, "A")
		}
		write(t, conn, []byte(login(5)+publish(1, c.topic)+publish(2, ""))...)
		for acks := 0; acks < 2; {
			p := packet(t, conn)
			if p[0] != packets.Puback<<4 {
				continue
			}
			acks++
			if code := append(p, 0)[4]; code != c.code {
				t.Errorf("%s: reason code %#x, want %#x", c.topic, code, c.code)
			}
		}
	}
	if got := s.payloads(); got != "A,A" {
		t.Errorf("function got %s", got)
	}
}

// TestKernelPathHearsOfAliases: CONNACK allows aliases, and the kernel path is told what each stands for, before the boundary behind it is
// named; of topics that no route has it is told that they are none.
func TestKernelPathHearsOfAliases(t *testing.T) {
	f := &fakeGraft{closed: make(chan struct{})}
	s := newStage(t, say("ok"), f, anonymous)
	c := s.dial()
	write(t, c, []byte(samples.Hello(5))...)
	if p := packet(t, c); !bytes.Contains(p, []byte{0x22, 0, topicAliases}) {
		t.Errorf("CONNACK % x allows no aliases", p)
	}
	for i, topic := range []string{"in/x", "", "elsewhere", "in/y", ""} {
		properties := samples.Properties("\x23\x00\x01")
		size := 1
		if i == 3 { // too long to be kept: the library reads it
			size = holdSize + 1
		}
		write(t, c, []byte(samples.Packet(0x32, samples.String(topic), string([]byte{0, byte(i + 1)}), properties, strings.Repeat("A", size)))...)
		for p := packet(t, c); p[0] != packets.Puback<<4; {
			p = packet(t, c)
		}
		write(t, c, 0xc0, 0, 0xc0, 0) // what is read before it, is
		for range 2 {
			if p := packet(t, c); p[0] != packets.Pingresp<<4 {
				t.Fatalf("got % x", p)
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var said []string
	last := -1
	for _, a := range f.aliases {
		what, behind, _ := strings.Cut(a, " behind ")
		said = append(said, what)
		n, err := strconv.Atoi(behind)
		if err != nil || n <= last {
			t.Errorf("%s: no boundary was named since the one before", a)
		}
		last = n
	}
	if got, want := strings.Join(said, " "), "1=in/x 1=in/x 1= 1=in/y 1=in/y"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
}
