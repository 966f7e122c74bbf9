package netns

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
)

// serveHeld serves a function on both pods that answers bodies which begin with
// "hold" only once their gate is closed, whoever asked may be gone by then.
func serveHeld(t *testing.T, l *lab.Lab, r, hold *recorder, gate func(string) chan struct{}) {
	r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
		if body, _ := r.body(n); strings.HasPrefix(body, "hold") {
			hold.add(request{body: body})
			select {
			case <-gate(body):
			case <-time.After(20 * time.Second):
			}
		}
		ok(n, w, q)
	}, nil)
}

// TestKeepaliveOfGraftedConn: a connection whose every byte is grafted stays up: the kernels
// on both ends probe it, and each probe is answered although one of the sockets
// has never seen the other's bytes.
func TestKeepaliveOfGraftedConn(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			start(t, l, mode, podConfig(routeConfig, false))
			c := rawConnect(t, l, "old")
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			rc, err := c.Conn.(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if err := rc.Control(func(fd uintptr) {
				for opt, v := range map[int]int{unix.TCP_KEEPIDLE: 1, unix.TCP_KEEPINTVL: 1, unix.TCP_KEEPCNT: 3} {
					_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, opt, v)
				}
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
			}); err != nil {
				t.Fatal(err)
			}
			for i := range 20 {
				c.publish("sensors/old/temp", uint16(i+1), fmt.Sprint(i))
			}
			// The device probes every second and gives up after three; the server's
			// first probe comes after 15 s.
			select {
			case <-time.After(18 * time.Second):
			case <-closed(c):
				t.Fatal("the connection was closed while idle")
			}
			if n := unanswered(t, l, c.LocalAddr().String()); n != "0" {
				t.Errorf("%s keepalive probes of the server are unanswered", n)
			}
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
			c.publish("sensors/old/temp", 100, "still here")
		})
	}
}

// closed is closed when the peer ends the connection, which sends nothing meanwhile.
func closed(c *rawConn) <-chan struct{} {
	ch := make(chan struct{})
	go func() {
		_ = c.SetReadDeadline(time.Now().Add(17 * time.Second))
		var b [1]byte
		if _, err := io.ReadFull(c, b[:]); !os.IsTimeout(err) {
			close(ch)
		}
	}()
	return ch
}

// unanswered is the number of probes that the server's socket has sent without
// a response, from the node's /proc/net/tcp6.
func unanswered(t *testing.T, l *lab.Lab, client string) string {
	t.Helper()
	var data []byte
	if err := l.Do(lab.Node, func() error {
		var err error
		data, err = os.ReadFile("/proc/thread-self/net/tcp6")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(client, ":")
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) > 8 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", n)) && f[3] == "01" {
			return f[8]
		}
	}
	t.Fatalf("no connection from port %d in\n%s", n, data)
	return ""
}

// TestDeviceZeroWindow: a device that does not read closes its window; its
// PUBACKs wait, none is lost or repeated.
func TestDeviceZeroWindow(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(faultsConfig, false))
			c := rawConnect(t, l, "deaf")
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_ = c.Conn.(*net.TCPConn).SetReadBuffer(4096)
			const n = 1500
			written := make(chan error, 1)
			go func() {
				for i := range n {
					if _, err := c.Write(publishPacket("sensors/deaf/temp", 1, uint16(i+1), fmt.Sprint(i))); err != nil {
						written <- err
						return
					}
				}
				written <- nil
			}()
			r.wait(t, n/4)
			seen := make([]bool, n+1)
			for range n {
				var b [4]byte
				if _, err := io.ReadFull(c, b[:]); err != nil {
					t.Fatal(err)
				}
				id := int(b[2])<<8 | int(b[3])
				if b[0] != 0x40 || id < 1 || id > n || seen[id] {
					t.Fatalf("unexpected % x", b)
				}
				seen[id] = true
			}
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			if got := r.wait(t, n); len(got) != n {
				t.Errorf("%d messages arrived", len(got))
			}
			s.slotsReturn(t)
		})
	}
}
