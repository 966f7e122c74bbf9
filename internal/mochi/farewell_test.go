package mochi

import (
	"fmt"
	"testing"

	"eproxy/internal/mqtt/samples"
)

// TestMessageBeforeDisconnect: a message of QoS 0 is delivered, although DISCONNECT came along with it, also where the library has it in
// its hands: it is retained, or has properties.
func TestMessageBeforeDisconnect(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	sent := 0
	for version, messages := range map[byte][]string{
		4: {samples.Packet(0x30, samples.String("in/x"), "p"), samples.Packet(0x31, samples.String("in/x"), "p")},
		5: {samples.Packet(0x30, samples.String("in/x"), samples.Properties(), "p"), samples.Packet(0x30, samples.String("in/x"), samples.Properties("\x01\x01"), "p"),
			samples.Packet(0x31, samples.String("in/x"), samples.Properties(), "p")},
	} {
		for i, m := range messages {
			c := s.dial()
			write(t, c, []byte(samples.Hello(version)+m+"\xe0\x00")...)
			sent++
			s.waitFor(func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return len(s.got) >= sent
			}, fmt.Sprintf("message %d of version %d is not delivered", i, version))
		}
	}
}
