package mochi

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/mqtt/samples"
	"eproxy/internal/request"
)

// fullSpeed publishes so many messages of QoS 1 to q, one after the other is acknowledged: the publisher, and their number in two bytes.
func fullSpeed(t *testing.T, s *stage, publisher byte, n int) {
	t.Helper()
	pub := s.dial()
	write(t, pub, []byte(samples.Connect(4, 2, samples.String("")))...)
	want(t, pub, 0x20, 2, 0, 0)
	go func() {
		for i := range n {
			payload := string(binary.BigEndian.AppendUint16([]byte{publisher}, uint16(i)))
			if _, err := pub.Write([]byte(samples.Packet(0x32, samples.String("q"), "\x00\x01", payload))); err != nil {
				return
			}
			if _, err := next(pub); err != nil {
				return
			}
		}
	}()
}

// taker takes its session over again and again, and notes what it gets.
type taker struct {
	client
	s     *stage
	seen  map[string]bool
	last  map[byte]int // by publisher
	first map[string]bool
}

// again is another connection of the client's; the one before goes on.
func (k *taker) again() {
	k.Conn, k.first = k.s.dial(), make(map[string]bool)
	write(k.t, k, []byte(hello5("sub", kept, lasting))...)
	k.expect(packets.Connack)
}

// take takes one message, and acknowledges it.
func (k *taker) take() {
	k.t.Helper()
	p := k.expect(packets.Publish)
	payload := p[len(p)-3:]
	publisher, i := payload[0], int(binary.BigEndian.Uint16(payload[1:]))
	if k.first[string(payload)] {
		k.t.Fatalf("message %d of %d came twice on one connection", i, publisher)
	}
	k.first[string(payload)] = true
	if !k.seen[string(payload)] {
		if last, ok := k.last[publisher]; ok && i != last+1 {
			k.t.Fatalf("message %d of %d came behind %d", i, publisher, last)
		}
		k.last[publisher], k.seen[string(payload)] = i, true
	}
	k.settle(p)
}

// TestTakeoverLosesNothing: what publishers have had acknowledged comes to a client that takes its session over again and again meanwhile: all of it, in
// the order of each publisher, and on one connection once.
func TestTakeoverLosesNothing(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	const publishers, each = 3, 400
	k := &taker{client: client{t: t}, s: s, seen: make(map[string]bool), last: make(map[byte]int)}
	k.again()
	write(t, k, []byte(samples.Packet(0x82, "\x00\x01", samples.Properties(), samples.String("q"), "\x01"))...)
	k.expect(packets.Suback)
	for p := range publishers {
		fullSpeed(t, s, byte(p), each)
	}
	for n := 0; len(k.seen) < publishers*each; n++ {
		if n == 10 {
			k.again()
			n = 0
		}
		k.take()
	}
	s.waitFor(func() bool { return atomic.LoadInt64(&s.front.mqtt.Info.Inflight) == 0 }, "something is in flight for ever")
	if cl, _ := s.front.mqtt.Clients.Get("sub"); cl.State.Inflight.Len() != 0 {
		t.Error("something waits for ever")
	}
}

// TestReceiveMaximumOfWhatWaits: also of what waited for it a client gets no more than its Receive Maximum at once, and all of it, in order.
func TestReceiveMaximumOfWhatWaits(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	c := &client{t: t, Conn: s.dial()}
	write(t, c, []byte(hello5("c", kept, lasting)+sub5("t", 2)+bye)...)
	c.expect(packets.Connack)
	c.expect(packets.Suback)
	readAll(t, c)
	const n, most = 500, 10
	publish := func(i int) {
		if err := s.front.Publish(&request.Message{Topic: "t", QoS: byte(1 + i%2), Payload: binary.BigEndian.AppendUint16(nil, uint16(i))}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		publish(i)
	}
	c.Conn = s.dial()
	write(t, c, []byte(hello5("c", kept, lasting+"\x21\x00\x0a"))...)
	c.expect(packets.Connack)
	var open [][]byte
	for range most {
		open = append(open, c.expect(packets.Publish))
	}
	write(t, c, 0xc0, 0)
	c.expect(packets.Pingresp) // and not one more
	publish(n)                 // is behind
	for i := 0; i <= n; i++ {
		p := open[0]
		if got := int(binary.BigEndian.Uint16(p[len(p)-2:])); got != i {
			t.Fatalf("message %d in place of %d", got, i)
		}
		if open = open[1:]; !c.settle(p) {
			c.settle(c.expect(packets.Pubrel))
		}
		if i+most <= n {
			open = append(open, c.expect(packets.Publish))
		}
	}
	write(t, c, 0xc0, 0)
	c.expect(packets.Pingresp)
}

// TestNoLongerWanted: what has expired before it could be written, or no longer waits for its client, is not sent.
func TestNoLongerWanted(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	for qos := range byte(3) {
		s.front.mqtt.Topics.RetainMessage(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos, Retain: true}, ProtocolVersion: 5, TopicName: "r/" + string('0'+qos), Payload: []byte("x"),
			Created: 1, Expiry: time.Now().Add(-time.Minute).Unix(),
		})
	}
	sub := subscriber(t, s, 9)
	write(t, sub, []byte(samples.Packet(0x82, "\x00\x01", samples.Properties(), samples.String("r/#"), "\x02"))...)
	sub.expect(packets.Suback)
	cl, _ := s.front.mqtt.Clients.Get("sub")
	c := cl.Net.Conn.(*conn)
	c.out.hold()
	publish := func(qos byte, payload string) {
		if err := s.front.Publish(&request.Message{Topic: "q", QoS: qos, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, "1")
	cl.ClearInflights()
	publish(0, "0")
	c.begin()
	if p := sub.expect(packets.Publish); p[len(p)-1] != '0' {
		t.Errorf("got % x", p)
	}
	write(t, sub, 0xc0, 0)
	sub.expect(packets.Pingresp)
	if n := atomic.LoadInt64(&s.front.mqtt.Info.Inflight); n != 0 {
		t.Errorf("%d messages in flight", n)
	}
}

// TestResentOnce: what is published after a connection has got the session, and before that has written what waited, comes with that, and not once more.
func TestResentOnce(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	sub := subscriber(t, s, 9)
	cl, _ := s.front.mqtt.Clients.Get("sub")
	c, mu := cl.Net.Conn.(*conn), s.front.numbering.of("sub")
	mu.Lock()
	c.resumed = false
	mu.Unlock()
	for _, payload := range []string{"1", "2"} {
		if err := s.front.Publish(&request.Message{Topic: "q", QoS: 1, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
		if payload == "1" {
			if err := s.front.resend(c); err != nil {
				t.Fatal(err)
			}
		}
		if p := sub.expect(packets.Publish); string(p[len(p)-1:]) != payload || p[0] != 0x32 {
			t.Errorf("got % x", p)
		}
	}
	write(t, sub, 0xc0, 0)
	sub.expect(packets.Pingresp)
}

// TestExpiryChangesMeanwhile: DISCONNECT may change how long a session lives on while something is published to it.
func TestExpiryChangesMeanwhile(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous, func(o *broker.Options) {
		o.Config.Persistence = config.Persistence{Dir: filepath.Join(t.TempDir(), "d"), Bytes: 64 << 20}
	})
	const rounds, each = 20, 50
	var ids []string
	for i := range rounds {
		id := string([]byte{'a' + byte(i)})
		ids = append(ids, id)
		c := &client{t: t, Conn: s.dial()}
		write(t, c, []byte(hello5(id, kept, lasting)+sub5(id, 1))...)
		c.expect(packets.Connack)
		c.expect(packets.Suback)
		over := make(chan error)
		go func() {
			var err error
			for range each {
				err = errors.Join(err, s.front.Publish(&request.Message{Topic: id, QoS: 1}))
			}
			over <- err
		}()
		c.expect(packets.Publish)
		write(t, c, []byte(samples.Packet(0xe0, "\x00", samples.Properties("\x11\x00\x00\x0e\x10")))...)
		readAll(t, c)
		if err := <-over; err != nil {
			t.Fatal(err)
		}
	}
	s.waitFor(func() bool { n, difference := s.same(ids...); return n == rounds*each && difference == "" }, "not all messages wait")
}
