package mochi

import (
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/config"
)

// TestListenerOptions: an accepted connection keeps urgent data in its stream,
// and never waits longer than rtoMax before it sends again.
func TestListenerOptions(t *testing.T) {
	l, err := listen(t.Context(), &config.Listener{Address: "127.0.0.1:0"}, &Server{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.net.Close()
	client, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.net.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = rc.Control(func(fd uintptr) {
		if v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE); err != nil || v != 1 {
			t.Errorf("SO_OOBINLINE %d (%v)", v, err)
		}
		if v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS); err == unix.ENOPROTOOPT {
			t.Log("this kernel has no TCP_RTO_MAX_MS")
		} else if err != nil || v != int(rtoMax.Milliseconds()) {
			t.Errorf("TCP_RTO_MAX_MS %d (%v)", v, err)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

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
