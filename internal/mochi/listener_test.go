package mochi

import (
	"strings"
	"testing"
	"time"
)

// TestAcceptFails: while connections cannot be accepted, the listener tries again at
// growing intervals and says so once; then it goes on.
func TestAcceptFails(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	l := s.front.listeners[0]
	failures := func() int { return strings.Count(s.log.String(), "msg=accept") }
	_ = l.net.SetDeadline(time.Unix(1, 0)) // accept fails at once
	s.waitFor(func() bool { return failures() > 0 }, "accept does not fail")
	c := s.dial()
	_ = l.net.SetDeadline(time.Time{})
	connect(t, c, 0)
	if n := failures(); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if d := l.pause(minPause); d != 2*minPause {
		t.Errorf("%s after the first pause", d)
	}
	if d := l.pause(maxPause); d != maxPause {
		t.Errorf("%s after the longest pause", d)
	}
}
