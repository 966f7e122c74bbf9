package mochi

import (
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/mqtt/samples"
	"eproxy/internal/request"
	"eproxy/internal/store"
)

// TestLastIsNotSent: what waits for a client is written also where the last of it is not: because the client has as many unacknowledged as it
// allows, or takes nothing so large.
func TestLastIsNotSent(t *testing.T) {
	for name, c := range map[string]struct {
		properties string
		last       request.Message
	}{
		"receive maximum":     {"\x21\x00\x01", request.Message{Topic: "q", QoS: 1}},
		"maximum packet size": {"\x27\x00\x00\x00\x20", request.Message{Topic: "q", Payload: make([]byte, 100)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, say("ok"), nil, anonymous)
			sub := &client{t: t, Conn: s.dial()}
			write(t, sub, []byte(samples.Connect(5, 2, samples.Properties(c.properties), samples.String("sub"))+
				samples.Packet(0x82, "\x00\x01", samples.Properties(), samples.String("q"), "\x02"))...)
			sub.expect(packets.Connack)
			sub.expect(packets.Suback)
			publish := func(m request.Message) {
				t.Helper()
				if err := s.front.Publish(&m); err != nil {
					t.Fatal(err)
				}
			}
			if c.last.QoS > 0 {
				publish(c.last) // the one that may be open
				sub.expect(packets.Publish)
			}
			for range 300 {
				for range 5 {
					publish(request.Message{Topic: "q", Payload: []byte("m")})
				}
				publish(c.last)
				for range 5 {
					if p := sub.expect(packets.Publish); p[len(p)-1] != 'm' {
						t.Fatalf("got % x", p)
					}
				}
			}
			write(t, sub, 0xc0, 0)
			sub.expect(packets.Pingresp)
		})
	}
}

// TestTooLargeIsComplete: what is too large for a client takes no place in its session, in memory or on disk, nor in its Receive Maximum,
// also where it comes while another message is open: there would be no room for what it takes.
func TestTooLargeIsComplete(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous, func(o *broker.Options) {
		o.Config.Persistence = config.Persistence{Dir: filepath.Join(t.TempDir(), "d"), Bytes: 64 << 20}
	})
	sub := &client{t: t, Conn: s.dial()}
	write(t, sub, []byte(samples.Connect(5, 0, samples.Properties("\x11\x00\x00\x0e\x10", "\x21\x00\x01", "\x27\x00\x00\x00\x40"), samples.String("sub"))+
		samples.Packet(0x82, "\x00\x01", samples.Properties(), samples.String("q"), "\x02"))...)
	sub.expect(packets.Connack)
	sub.expect(packets.Suback)
	publish := func(qos, size int) {
		t.Helper()
		if err := s.front.Publish(&request.Message{Topic: "q", QoS: byte(qos), Payload: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
	}
	publish(1, 1)
	open := sub.expect(packets.Publish)
	const each = 1000
	for range heldMax/each + 1 {
		for i := range each {
			publish(1+i%2, 100)
		}
		publish(0, 1)
		sub.expect(packets.Publish) // what came before it has had its turn
	}
	publish(1, 2)
	sub.settle(open)
	sub.settle(sub.expect(packets.Publish))
	write(t, sub, 0xc0, 0)
	sub.expect(packets.Pingresp)
	cl, _ := s.front.mqtt.Clients.Get("sub")
	if n, all := cl.State.Inflight.Len(), atomic.LoadInt64(&s.front.mqtt.Info.Inflight); n != 0 || all != 0 {
		t.Errorf("%d messages wait for the client, %d for all", n, all)
	}
	s.front.keep.store.Sync()
	if err := s.front.keep.store.Each(store.Message, func(key string, _ []byte) error { t.Errorf("on disk: %q", key); return nil }); err != nil {
		t.Error(err)
	}
}
