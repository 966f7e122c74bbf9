package mochi

import (
	"net"
	"strings"
	"testing"
	"time"

	"eproxy/internal/config"
	"eproxy/test/lib/address"
)

// TestRelisten: listeners come, change and go with a reload; connections of the others, and of one that has changed, go on.
func TestRelisten(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	stays := s.dial()
	connect(t, stays, 0)
	second := address.Free(t)
	reload := func(ls ...config.Listener) error {
		next := *s.cfg
		next.Listeners = append([]config.Listener{s.cfg.Listeners[0]}, ls...)
		return s.server.Reload(&next)
	}
	dial := func() (net.Conn, error) {
		c, err := net.Dial("tcp", second)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		}
		return c, err
	}
	ping := func(c net.Conn) {
		t.Helper()
		write(t, c, 0xc0, 0)
		want(t, c, 0xd0, 0)
	}
	hello := []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 1, 'x'}
	if err := reload(config.Listener{Address: second}); err != nil {
		t.Fatal(err)
	}
	plain, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	write(t, plain, hello...)
	want(t, plain, 0x20, 2, 0, 0)
	if err := reload(config.Listener{Address: second, Websocket: true}); err != nil {
		t.Fatal(err)
	}
	ping(plain)
	late, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	write(t, late, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")...) // no upgrade
	want(t, late, []byte("HTTP/1.1 4")...)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	third := address.Free(t)
	if err := reload(config.Listener{Address: third}, config.Listener{Address: taken.Addr().String()}); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("an address in use: %v", err)
	}
	if c, err := net.Dial("tcp", third); err == nil {
		_ = c.Close()
		t.Error("a reload that was refused has left a listener")
	}
	ping(plain) // and nothing was taken away
	if err := reload(); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlives its listener")
	}
	if _, err := dial(); err == nil {
		t.Error("the listener is still there")
	}
	ping(stays)
	if n := len(s.server.Addresses()); n != 1 {
		t.Errorf("%d addresses", n)
	}
}

// TestClosedWithoutTheLibrary: the library is not asked to end the clients of a listener, which takes the read lock of its clients twice: when
// one is just leaving that is a deadlock.
func TestClosedWithoutTheLibrary(t *testing.T) {
	s := newStage(t, say("ok"), nil, anonymous)
	connect(t, s.dial(), 0)
	for _, l := range s.front.listeners {
		l.Close(func(string) { t.Error("the library is asked") })
	}
}
