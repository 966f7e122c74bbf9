package mochi

import (
	"bytes"
	"testing"

	"eproxy/internal/mqtt/samples"
)

// TestNoProblemInformation: who wants no reason strings gets none with an acknowledgement [MQTT-3.1.2-29], and what would be larger with one than a client takes
// comes without, or not at all [MQTT-3.14.2-3].
func TestNoProblemInformation(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	c := s.dial()
	write(t, c, []byte(samples.Connect(5, 2, samples.Properties("\x17\x00"), str("quiet")))...)
	packet(t, c)
	for _, sent := range []string{pkt(0x62, "\x00\x09"), pkt(0xa2, "\x00\x01\x00", str("none"))} {
		write(t, c, []byte(sent)...)
		if got := packet(t, c); bytes.IndexByte(got[4:], 0x1f) >= 0 || bytes.IndexByte(got[4:], 0x26) >= 0 {
			t.Errorf("got % x", got)
		}
	}
	small := s.dial()
	write(t, small, []byte(samples.Connect(5, 2, samples.Properties("\x27\x00\x00\x00\x14"), str("small")))...)
	packet(t, small)
	write(t, small, []byte(pkt(0x30, str("t"), samples.Properties("\x23\x00\x00"), "x"))...)
	for _, p := range answers(readAll(t, small)) {
		if len(p) > 20 {
			t.Errorf("% x has %d bytes, the client takes 20", p, len(p))
		}
	}
}
