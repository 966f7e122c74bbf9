package broker

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/mqttref"
)

// connectTimeout is how long a client may take to send CONNECT.
const connectTimeout = 30 * time.Second

// conn follows the MQTT framing of what it hands to the server, so that packet
// boundaries are known, and lets the kernel path's messages count for the
// keep-alive.
type conn struct {
	*net.TCPConn
	read    uint64
	framing mqttref.Framing
	graft   atomic.Pointer[Graft]
	span    atomic.Int64 // keep-alive in nanoseconds, 0: none
	once    sync.Once
	raw     syscall.RawConn
}

func newConn(c *net.TCPConn) *conn {
	w := &conn{TCPConn: c}
	w.raw, _ = c.SyscallConn() // nil only if closed, which Read will say
	_ = c.SetReadDeadline(time.Now().Add(connectTimeout))
	return w
}

// atBoundary says whether all bytes read so far are whole packets.
func (c *conn) atBoundary() bool { return c.framing.AtBoundary() }

// Read reads from the socket. The server asks for more only when it has used
// up what it got: a packet boundary now is the one it stands at.
func (c *conn) Read(p []byte) (int, error) {
	if g := c.graft.Load(); g != nil && c.atBoundary() {
		(*g).Boundary(c.read)
	}
	for {
		n, err := c.TCPConn.Read(p)
		c.read += uint64(n)
		_, _ = c.framing.Write(p[:n])
		if n > 0 && !c.atBoundary() {
			c.acknowledge()
		}
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.extend() {
			continue
		}
		return n, err
	}
}

// acknowledge acknowledges to the client's TCP at once what was read of a packet that goes
// on. The programs drop what arrives behind a gap, so that a client that
// recovers from a loss sends one segment at a time; each would wait for the
// delayed acknowledgement.
func (c *conn) acknowledge() {
	if c.raw != nil {
		_ = c.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	}
}

// extend moves the deadline if the kernel path has heard of the client since.
func (c *conn) extend() bool {
	g, span := c.graft.Load(), time.Duration(c.span.Load())
	if g == nil || span == 0 {
		return false
	}
	until := (*g).LastReceive().Add(span)
	if !until.After(time.Now()) {
		return false
	}
	return c.TCPConn.SetReadDeadline(until) == nil
}

// SetDeadline is how the server enforces the keep-alive [MQTT-3.1.2-24]; before
// CONNECT it does not call it.
func (c *conn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.span.Store(0)
	} else {
		c.span.Store(int64(time.Until(t)))
	}
	return c.TCPConn.SetDeadline(t)
}

// Close closes the socket and notifies the kernel path.
func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() {
		if g := c.graft.Load(); g != nil {
			(*g).Close()
		}
	})
	return err
}

// abort closes with RST.
func (c *conn) abort() {
	_ = c.SetLinger(0)
	_ = c.Close()
}
