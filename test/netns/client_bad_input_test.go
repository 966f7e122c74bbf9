package netns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
)

// rawConn is an MQTT 3.1.1 connection that sends whatever bytes a test wants.
type rawConn struct {
	net.Conn
	t *testing.T
}

func rawDial(t *testing.T, l *lab.Lab) *rawConn {
	t.Helper()
	return rawDialFrom(t, l, lab.Dev)
}

// rawDialFrom is rawDial for a client that is elsewhere.
func rawDialFrom(t *testing.T, l *lab.Lab, from lab.Role) *rawConn {
	t.Helper()
	c, err := l.Dial(context.Background(), from, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return &rawConn{c, t}
}

func rawConnect(t *testing.T, l *lab.Lab, id string) *rawConn {
	t.Helper()
	return rawConnectFrom(t, l, lab.Dev, id)
}

func rawConnectFrom(t *testing.T, l *lab.Lab, from lab.Role, id string) *rawConn {
	t.Helper()
	c := rawDialFrom(t, l, from)
	c.connect(id)
	return c
}

// rawConnectIn is rawConnect in one address family, for a test that may take two minutes.
func rawConnectIn(t *testing.T, l *lab.Lab, ipv6 bool, id string) *rawConn {
	t.Helper()
	nc, err := l.Dial(context.Background(), lab.Dev, net.JoinHostPort(lab.NodeAddr(ipv6).String(), "1883"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(2 * time.Minute))
	c := &rawConn{nc, t}
	c.connect(id)
	return c
}

// connect sends CONNECT and waits for CONNACK.
func (c *rawConn) connect(id string) {
	c.t.Helper()
	if err := c.tryConnect(id); err != nil {
		c.t.Fatal(err)
	}
}

// tryConnect is connect for other goroutines than the test's.
func (c *rawConn) tryConnect(id string) error {
	if _, err := c.Write(append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(id))}, id...)); err != nil {
		return err
	}
	var got [4]byte
	if _, err := io.ReadFull(c, got[:]); err != nil {
		return fmt.Errorf("read CONNACK: %w", err)
	}
	if got != [4]byte{0x20, 2, 0, 0} {
		return fmt.Errorf("got % x, want CONNACK", got)
	}
	return nil
}

// delayACKs makes acknowledgements wait for data to ride on, as they do on a
// connection that has talked for a while.
func (c *rawConn) delayACKs() {
	c.t.Helper()
	rc, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err == nil {
		var inner error
		err = rc.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0) })
		if err == nil {
			err = inner
		}
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *rawConn) write(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// read reads exactly these bytes.
func (c *rawConn) read(want []byte) {
	c.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != string(want) {
		c.t.Fatalf("got % x (%v), want % x", got, err, want)
	}
}

// closed waits until the server closes, without having sent anything.
func (c *rawConn) closed() {
	c.t.Helper()
	if b, err := io.ReadAll(c); len(b) > 0 {
		c.t.Errorf("before closing the server sent % x (%v)", b, err)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Error("the server does not close the connection")
	}
}

func publishPacket(topic string, qos byte, id uint16, payload string) []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(len(topic)))
	body = append(body, topic...)
	if qos > 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	body = append(body, payload...)
	return append(append([]byte{0x30 | qos<<1}, remaining(len(body))...), body...)
}

func remaining(n int) []byte {
	var b []byte
	for n > 127 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// publish publishes with QoS 1 and waits for the PUBACK.
func (c *rawConn) publish(topic string, id uint16, payload string) {
	c.t.Helper()
	c.write(publishPacket(topic, 1, id, payload))
	c.read([]byte{0x40, 2, byte(id >> 8), byte(id)})
}

// publishAll publishes, with at most window QoS 1 messages in flight: each gets
// exactly one PUBACK, and nothing else comes.
func (c *rawConn) publishAll(ms []message, window int) {
	c.t.Helper()
	if err := c.tryPublishAll(slices.Values(ms), window, 0); err != nil {
		c.t.Fatal(err)
	}
	c.write([]byte{0xc0, 0})
	c.read([]byte{0xd0, 0})
}

// tryPublishAll is publishAll for other goroutines than the test's. No message may wait
// for longer than patience, unless that is 0: then the connection's deadline is everybody's.
func (c *rawConn) tryPublishAll(ms iter.Seq[message], window int, patience time.Duration) error {
	open := map[uint16]time.Time{}
	puback := func() error {
		if patience > 0 {
			_ = c.SetDeadline(slices.MinFunc(slices.Collect(maps.Values(open)), time.Time.Compare).Add(patience))
		}
		var b [4]byte
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return fmt.Errorf("with %v in flight: %w", slices.Sorted(maps.Keys(open)), err)
		}
		id := binary.BigEndian.Uint16(b[2:])
		if _, asked := open[id]; b[0] != 0x40 || b[1] != 2 || !asked {
			return fmt.Errorf("got % x with %v in flight", b, slices.Sorted(maps.Keys(open)))
		}
		delete(open, id)
		return nil
	}
	id := uint16(0)
	for m := range ms {
		for len(open) >= window {
			if err := puback(); err != nil {
				return err
			}
		}
		if id++; m.qos == 1 {
			open[id] = time.Now()
		}
		if _, err := c.Write(publishPacket(m.topic, m.qos, id, m.payload)); err != nil {
			return err
		}
	}
	for len(open) > 0 {
		if err := puback(); err != nil {
			return err
		}
	}
	return nil
}

// TestBadInput: each kind of nonsense ends its own connection and nothing else,
// and never reaches a function.
func TestBadInput(t *testing.T) {
	good := publishPacket("sensors/a/temp", 1, 7, "x")
	bad := map[string][]byte{
		"malformed remaining length": {0x30, 0xff, 0xff, 0xff, 0xff, 0x01},
		"100 MB remaining length":    {0x30, 0x80, 0xc2, 0xd7, 0x2f},
		"topic with NUL":             publishPacket("sensors/\x00/temp", 1, 7, "x"),
		"topic with wildcard":        publishPacket("sensors/+/temp", 1, 7, "x"),
		"packet id 0":                publishPacket("sensors/a/temp", 1, 0, "x"),
		"invalid UTF-8":              publishPacket("sensors/\xff/temp", 1, 7, "x"),
		"surrogate":                  publishPacket("sensors/\xed\xa0\x80/temp", 1, 7, "x"),
		"empty topic":                publishPacket("", 1, 7, "x"),
		"topic beyond the packet":    {0x32, 4, 0, 200, 'a', 'b'},
		"QoS 3":                      append([]byte{0x36}, good[1:]...),
		"reserved packet type":       {0xf0, 0},
		"second CONNECT":             {0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 1, 'x'},
	}
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			start(t, l, mode, podConfig(routeConfig, false))
			other := rawConnect(t, l, "other")
			for name, b := range bad {
				t.Run(name, func(t *testing.T) {
					c := rawConnect(t, l, "bad")
					c.write(b)
					c.closed()
				})
			}
			t.Run("garbage instead of CONNECT", func(t *testing.T) {
				c := rawDial(t, l)
				c.write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
				c.closed()
			})
			t.Run("truncated, then closed", func(t *testing.T) {
				c := rawConnect(t, l, "cut")
				c.write(good[:len(good)-1])
				_ = c.Conn.(*net.TCPConn).CloseWrite()
				c.closed()
			})
			other.publish("sensors/other/temp", 9, "fine")
			got := r.wait(t, 1)
			if len(got) != 1 || got[0].body != "fine" {
				t.Errorf("functions got %v", got)
			}
		})
	}
}
