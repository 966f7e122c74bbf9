package mochi

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt/samples"
	"eproxy/internal/request"
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
