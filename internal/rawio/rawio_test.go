package rawio

import (
	"bytes"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// pair are the two ends of a TCP connection, and the first one's raw form.
func pair(t *testing.T) (a, b *net.TCPConn, raw syscall.RawConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, b = c.(*net.TCPConn), d.(*net.TCPConn)
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	if raw, err = a.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	return a, b, raw
}

// await reads from a socket when there is something to be had.
func await(t *testing.T, raw syscall.RawConn, p []byte) (n int, err error) {
	t.Helper()
	if rerr := raw.Read(func(fd uintptr) bool {
		n, err = Read(fd, p)
		return !Waits(err)
	}); rerr != nil {
		t.Fatal(rerr)
	}
	return n, err
}

// TestReadIsTheSocketsBytes: what was sent, the stream's end, and nothing are told apart.
func TestReadIsTheSocketsBytes(t *testing.T) {
	a, b, raw := pair(t)
	p := make([]byte, 8)
	_ = raw.Control(func(fd uintptr) {
		if n, err := Read(fd, p); n != 0 || !Waits(err) {
			t.Errorf("nothing was sent: read %d, %v", n, err)
		}
	})
	if !Silent(raw) {
		t.Error("a connection without anything to read is not silent")
	}
	if _, err := b.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if n, err := await(t, raw, p); err != nil || string(p[:n]) != "hello" {
		t.Errorf("read %q, %v", p[:n], err)
	}
	_ = b.CloseWrite()
	if n, err := await(t, raw, p); n != 0 || err != nil {
		t.Errorf("at the end read %d, %v", n, err)
	}
	if Silent(raw) {
		t.Error("a connection that has ended is silent")
	}
	_ = a.Close()
	if Silent(raw) || Silent(nil) {
		t.Error("one that is closed is silent")
	}
	if _, ok := Int(raw, unix.TIOCOUTQ); ok {
		t.Error("one that is closed knows what waits in it")
	}
}

// TestWriteTakesWhatThereIsRoomFor: no byte more is said to be written than the peer gets, and who has no room is not waited for.
func TestWriteTakesWhatThereIsRoomFor(t *testing.T) {
	a, b, raw := pair(t)
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	total := 0
	_ = raw.Control(func(fd uintptr) {
		for {
			n, err := Write(fd, chunk[total%len(chunk):])
			if total += n; Waits(err) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	if n, ok := Int(raw, unix.TIOCOUTQ); !ok || n == 0 || n > total {
		t.Errorf("%d of %d bytes wait for the peer, %v", n, total, ok)
	}
	_ = a.CloseWrite()
	got := 0
	for p := make([]byte, 64<<10); ; {
		n, err := b.Read(p)
		for _, c := range p[:n] {
			if c != chunk[got%len(chunk)] {
				t.Fatalf("byte %d is %q", got, c)
			}
			got++
		}
		if err != nil {
			break
		}
	}
	if got != total {
		t.Errorf("%d bytes came of %d", got, total)
	}
}
