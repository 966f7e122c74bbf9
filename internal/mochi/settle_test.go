package mochi

import (
	"fmt"
	"testing"

	"eproxy/internal/mqtt/samples"
)

// TestLastWordBeforeTakeover: a client that publishes with QoS 0, says goodbye and
// comes back at once, under the same identifier, has published.
func TestLastWordBeforeTakeover(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	const rounds = 300
	for i := range rounds {
		c := s.dial()
		write(t, c, []byte(samples.Hello(4)+samples.Packet(0x30, samples.String("in/x"), fmt.Sprint(i))+"\xe0\x00")...)
		_ = c.Close()
	}
	conn := s.dial()
	write(t, conn, []byte(samples.Hello(4))...)
	packet(t, conn)
	s.waitFor(func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.got) == rounds
	}, "messages that were sent before a takeover are missing")
}
