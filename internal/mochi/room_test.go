package mochi

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"eproxy/internal/mqtt/samples"
)

// TestNoRoomForMore: connections beyond those that the process may have open are refused at once, counted, and logged once; who leaves
// makes room.
func TestNoRoomForMore(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	const refused = 5
	for s.front.places.Enter() { //nolint:revive // all are taken
	}
	s.front.places.Leave()
	first := s.dial()
	write(t, first, []byte(samples.Hello(4))...)
	want(t, first, 0x20, 2, 0, 0)
	for range refused {
		c, err := net.Dial("tcp", s.addr)
		if err == nil { // else it came even sooner
			_, err = next(c)
			_ = c.Close()
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("%v, want RST", err)
		}
	}
	if n, lines := s.counts.of("open_files"), strings.Count(s.log.String(), "RLIMIT_NOFILE"); n != refused || lines != 1 {
		t.Errorf("counted %d times, want %d; logged %d times, want 1", n, refused, lines)
	}
	_ = first.Close()
	s.waitFor(func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			return false
		}
		defer c.Close()
		_, _ = c.Write([]byte(samples.Hello(4)))
		p, err := next(c)
		return err == nil && p[0] == 0x20
	}, "there is no room when the first has left")
}
