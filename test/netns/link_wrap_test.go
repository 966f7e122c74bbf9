package netns

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// TestSequenceWrapUplink: what a device sends passes sequence number 2^32 at each byte of
// its CONNECT and of its first messages in turn: single ones, and several in
// one segment.
func TestSequenceWrapUplink(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(routeConfig, false))
			var want []string
			next := uint16(0)
			for left := uint32(1); ; left++ { // bytes before the wrap
				nc, err := dialAs(l, 20000+int(left), startAt(-left-1)) // ports that nobody had before
				if err != nil {
					t.Fatal(err)
				}
				c := &rawConn{nc, t}
				first, _, err := positions(c.Conn)
				if err != nil || first != -left {
					t.Fatalf("the first byte has sequence number %d (%v), want %d", first, err, -left)
				}
				c.connect("wrap")
				for _, qos := range [][]byte{{1}, {1, 0, 1}, {1}} {
					_, p, err := c.burst("wrap", &next, 5, qos...)
					if err != nil {
						t.Fatalf("%d bytes before the wrap: %v", left, err)
					}
					want = append(want, p...)
				}
				last, _, err := positions(c.Conn)
				if err != nil {
					t.Fatal(err)
				}
				c.write([]byte{0xe0, 0})
				if _, err := io.Copy(io.Discard, c); err != nil {
					t.Fatalf("%d bytes before the wrap, at the end: %v", left, err)
				}
				_ = c.Close()
				if int32(last) < 0 {
					break // it ended before the wrap
				}
			}
			r.once(t, want)
			taken, eligible := share(nil, s.counts())
			t.Logf("%d messages, %d of %d eligible ones taken", len(want), taken, eligible)
			if taken < len(want)*9/10 {
				t.Errorf("the kernel took %d of %d messages", taken, len(want))
			}
			s.slotsReturn(t)
		})
	}
}

// isnClock knows for many ports when a connection from there would get an
// initial sequence number just below 2^32: Linux adds the time, in units of 64
// ns, to a number that depends on addresses and ports (RFC 6528).
type isnClock struct {
	lab  *lab.Lab
	base map[int]uint32
}

func newISNClock(t *testing.T, l *lab.Lab, ports int) *isnClock {
	t.Helper()
	k := &isnClock{lab: l, base: make(map[int]uint32)}
	for port := 20000; port < 20000+ports; port++ {
		c, err := dialAs(l, port, nil)
		now := time.Now()
		if err != nil {
			t.Fatal(err)
		}
		_, p, err := positions(c)
		if err != nil {
			t.Fatal(err)
		}
		_ = (&rawConn{c, t}).reset()
		k.base[port] = p - 1 - uint32(now.UnixNano()>>6)
	}
	return k
}

// reset closes with RST.
func (c *rawConn) reset() error {
	return errors.Join(c.Conn.(interface{ SetLinger(int) error }).SetLinger(0), c.Close())
}

// near is a connection on which the server has at most this many bytes to send
// before the wrap, and how many they are.
func (k *isnClock) near(t *testing.T, limit uint32) (c *rawConn, left uint32) {
	t.Helper()
	for range 50 {
		best, wait := 0, uint32(0)
		now := uint32(time.Now().UnixNano() >> 6)
		for port, base := range k.base {
			if w := -(limit - limit/8) - (base + now); best == 0 || w < wait {
				best, wait = port, w
			}
		}
		base := k.base[best]
		delete(k.base, best)
		select { // the kernel's clock of initial sequence numbers comes to stand there
		case <-time.After(time.Duration(wait) * 64):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
		nc, err := dialAs(k.lab, best, nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &rawConn{nc, t}
		_, p, err := positions(nc)
		if err != nil {
			t.Fatal(err)
		}
		if left := -p; left > 0 && left <= limit {
			t.Logf("port %d: the server's first byte has sequence number %d (base %d)", best, p, base)
			return c, left
		}
		_ = c.reset()
	}
	t.Fatal("no connection with an initial sequence number near 2^32")
	return nil, 0
}

// packet is an MQTT packet that came.
type packet struct {
	first byte
	body  []byte
}

func readPacket(r *bufio.Reader) (p packet, err error) {
	if p.first, err = r.ReadByte(); err != nil {
		return p, err
	}
	n, err := binary.ReadUvarint(r) // the same coding as MQTT's
	if err != nil {
		return p, err
	}
	p.body = make([]byte, n)
	_, err = io.ReadFull(r, p.body)
	return p, err
}

// news is the size of a message to topic news with this much payload, and back.
func newsSize(payload int) int { return len(publishPacket("news", 0, 0, strings.Repeat("n", payload))) }

// TestSequenceWrapDownlink: what the node sends to a device passes sequence number 2^32:
// at each byte of a PUBACK that the programs insert, and while PUBACKs and
// messages to the device alternate at full speed.
func TestSequenceWrapDownlink(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(faultsConfig, false))
			clock := newISNClock(t, l, 600)
			source := rawConnect(t, l, "source")
			_ = source.SetDeadline(time.Now().Add(2 * time.Minute))
			var want []string
			for try := range 6 {
				const limit = 150_000 // some 10 ms of the kernel's clock
				c, left := clock.near(t, limit)
				id := fmt.Sprintf("wrap%d", try)
				c.connect(id)
				c.write([]byte{0x82, 9, 0, 1, 0, 4, 'n', 'e', 'w', 's', 0})
				c.read([]byte{0x90, 3, 0, 1, 0})
				left -= 4 + 5
				in := bufio.NewReader(c)
				if try < 4 { // PUBACKs over the wrap: the sixth one begins 0 to 3 bytes before
					bring(t, source, in, left, 20+try)
					for i := range 12 {
						p := sealed(id, "temp", i, 10)
						want = append(want, p)
						c.write(publishPacket("sensors/"+id+"/temp", 1, 9, p))
						if got, err := readPacket(in); err != nil || got.first != 0x40 || string(got.body) != "\x00\x09" {
							t.Fatalf("got %x % x (%v)", got.first, got.body, err)
						}
						c.ping2(in)
					}
				} else {
					const size = 500
					n := int(left) * 3 / 2 / (size + 8 + 4) // half as much again as it takes
					want = append(want, c.talk(source, in, id, size, n, n)...)
				}
				_, p, err := positions(c.Conn)
				if err != nil || int32(p) < 0 {
					t.Errorf("sequence number %d at the end (%v): no wrap, the test tests nothing", p, err)
				}
				_ = c.reset()
			}
			r.once(t, want)
			taken, _ := share(nil, s.counts())
			t.Logf("the kernel took %d of %d messages; %d PUBACKs inserted", taken, len(want), s.counts()["tc_pod_in/response"])
			if s.counts()["tc_pod_in/response"] < 40 {
				t.Errorf("too few PUBACKs were inserted: %v", s.counts())
			}
			s.slotsReturn(t)
		})
	}
}

// ping2 is ping for who reads through a buffer.
func (c *rawConn) ping2(in *bufio.Reader) {
	c.t.Helper()
	c.write([]byte{0xc0, 0})
	if got, err := readPacket(in); err != nil || got.first != 0xd0 {
		c.t.Fatalf("got %x % x (%v), want PINGRESP", got.first, got.body, err)
	}
}

// bring sends messages to the device until only so many bytes are left.
func bring(t *testing.T, source *rawConn, in *bufio.Reader, left uint32, to int) {
	t.Helper()
	for int(left) > to {
		size := min(int(left)-to, 8000)
		if rest := int(left) - to - size; rest > 0 && rest < 300 {
			size -= 300 // the last one is not too short for its head
		}
		payload := size - newsSize(0)
		for newsSize(payload) > size {
			payload--
		}
		source.write(publishPacket("news", 0, 0, strings.Repeat("n", payload)))
		got, err := readPacket(in)
		if err != nil || got.first != 0x30 || len(got.body) != 6+payload {
			t.Fatalf("got %x and %d bytes (%v), want %d", got.first, len(got.body), err, payload)
		}
		left -= uint32(newsSize(payload))
	}
}
