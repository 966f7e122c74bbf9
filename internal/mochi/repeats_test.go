package mochi

import (
	"net/http"
	"slices"
	"testing"

	"eproxy/internal/broker"
	"eproxy/internal/delivery"
)

// publishOf is a QoS 1 PUBLISH to in/x.
func publishOf(dup bool, id byte, payload byte) []byte {
	first := byte(0x32)
	if dup {
		first |= 8
	}
	return []byte{first, 9, 0, 4, 'i', 'n', '/', 'x', 0, id, payload}
}

// TestIdentifierUsedAgain: a message without DUP is a new one, although another one
// with its packet identifier is under way: it is delivered, and the PUBACK is its
// own. With DUP it repeats the one under way.
func TestIdentifierUsedAgain(t *testing.T) {
	gates := make(chan chan struct{}, 4)
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		gate := make(chan struct{})
		gates <- gate
		<-gate
		say("ok")(w, r)
	}, nil, anonymous)
	c := s.dial()
	connect(t, c, 0)
	ping := func() {
		t.Helper()
		write(t, c, 0xc0, 0)
		want(t, c, 0xd0, 0)
	}
	write(t, c, publishOf(false, 7, 'A')...)
	a := <-gates
	write(t, c, publishOf(true, 7, 'A')...)
	write(t, c, publishOf(false, 7, 'B')...)
	b := <-gates
	close(a)
	ping()
	close(b)
	want(t, c, 0x40, 2, 0, 7)
	ping()
	if got := s.payloads(); got != "A,B" {
		t.Errorf("the function got %q", got)
	}
	if n := s.counts.of("repeated"); n != 1 {
		t.Errorf("%d repetitions counted", n)
	}
}

// TestIdentifiersOfBothPaths: a message that repeats one of the kernel path is not
// delivered; one whose identifier is another's when it ends is not acknowledged,
// whichever path it took.
func TestIdentifiersOfBothPaths(t *testing.T) {
	f := &fakeGraft{closed: make(chan struct{}), taken: 7, reused: 9}
	s := newStage(t, say("ok"), f, anonymous)
	c := s.dial()
	connect(t, c, 0)
	write(t, c, publishOf(true, 7, 'A')...)
	write(t, c, publishOf(true, 8, 'B')...)
	want(t, c, 0x40, 2, 0, 8)
	write(t, c, publishOf(false, 9, 'C')...)
	s.waitFor(func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.Contains(f.released, 9)
	}, "the message has not ended")
	f.info.Complete(3, 9, delivery.Outcome{Acked: true})
	f.info.Complete(4, broker.NoHold, delivery.Outcome{Acked: true})
	want(t, c, 0x40, 2, 0, 4)
	write(t, c, 0xc0, 0)
	want(t, c, 0xd0, 0)
	if got := s.payloads(); got != "B,C" {
		t.Errorf("the function got %q", got)
	}
}
