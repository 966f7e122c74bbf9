package transport

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenerOptions: an accepted connection keeps urgent data in its stream,
// and never waits longer than rtoMax before it sends again.
func TestListenerOptions(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.AcceptTCP()
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
