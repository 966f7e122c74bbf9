package mochi

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"eproxy/internal/mqtt/samples"
)

// TestIdleMemory: what waits for a device has no memory while nothing does, nor does what is read of it.
func TestIdleMemory(t *testing.T) {
	const n = 1000
	s := newStage(t, say("ok"), nil, anonymous)
	before := inUse()
	for i := range n {
		c := s.socket()
		hello := samples.Connect(4, 2, samples.String(fmt.Sprintf("idle-%06d", i)))
		if _, err := unix.Write(c, []byte(hello)); err != nil {
			t.Fatal(err)
		}
		var connack [4]byte
		if m, err := unix.Read(c, connack[:]); m != len(connack) || err != nil || connack != [4]byte{0x20, 2} {
			t.Fatalf("CONNACK %x, %v", connack[:max(m, 0)], err)
		}
	}
	var used int
	s.waitFor(func() bool { // stacks shrink by half each time
		used = (inUse() - before) / n
		return used <= IdleBytes
	}, fmt.Sprintf("they cost more than %d bytes each", IdleBytes))
	t.Logf("%d bytes each", used)
}

// socket is a client's that costs this process nothing.
func (s *stage) socket() int {
	s.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = unix.Close(fd) })
	to := netip.MustParseAddrPort(s.addr)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		s.t.Fatal(err)
	}
	return fd
}
