package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// TCP control bits.
const (
	fin = 0x01
	syn = 0x02
	rst = 0x04
	psh = 0x08
	ack = 0x10
	urg = 0x20
)

// tap remembers the latest segment of a device's connection.
type tap struct {
	mu   sync.Mutex
	port uint16
	last wire.Segment
}

func (p *tap) see(at wire.Side, s wire.Segment) {
	if src, _ := s.Ports(); at != wire.A || src != p.port {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = s.Piece(0, len(s.Payload()))
}

// next is a segment like the device's next one: what follows what it sent.
func (p *tap) next(payload []byte) (s wire.Segment, seq, ackNo uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s = p.last.WithPayload(payload)
	seq, ackNo = p.last.Seq()+uint32(len(p.last.Payload())), p.last.Ack()
	s.Set(seq, ackNo, psh|ack, 500)
	return s, seq, ackNo
}

// TestForgedSegments: segments that somebody else sends on the 4-tuple of a grafted
// connection do nothing, unless they hit the exact next byte with a plausible
// acknowledgement: stricter than RFC 5961 asks.
func TestForgedSegments(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			seed := seedOf(t)
			rng := rand.New(rand.NewPCG(seed, 3))
			l := newWired(t, seed)
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, mode, podConfig(routeConfig, false))
			c := rawConnect(t, l.Lab, "victim")
			_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
			p := &tap{port: uint16(c.LocalAddr().(*net.TCPAddr).Port)}
			cable := l.cables[lab.Dev]
			cable.Watch(p.see)
			id := uint16(0)
			alive := func() {
				t.Helper()
				id++
				c.publish("sensors/victim/temp", id, fmt.Sprintf("good %d", id))
			}
			evil := publishPacket("sensors/victim/temp", 1, 999, "evil")
			far := func() uint32 { return 1<<17 + rng.Uint32N(1<<30) } // beyond every window
			// in the window, where this test's stream does not come: the socket would have it then, as any TCP's
			ahead := func() uint32 { return 30000 + rng.Uint32N(25000) }
			attacks := []struct {
				name string
				make func(s wire.Segment, seq, ackNo uint32)
				data []byte
			}{
				{"RST anywhere", func(s wire.Segment, _, ackNo uint32) { s.Set(rng.Uint32(), ackNo, rst|ack, 0) }, nil},
				{"RST in the window", func(s wire.Segment, seq, ackNo uint32) { s.Set(seq+1+rng.Uint32N(60000), ackNo, rst|ack, 0) }, nil},
				{"RST below", func(s wire.Segment, seq, ackNo uint32) { s.Set(seq-1-rng.Uint32N(50), ackNo, rst|ack, 0) }, nil},
				{"data anywhere", func(s wire.Segment, seq, _ uint32) { s.Set(seq+far(), rng.Uint32(), psh|ack, 500) }, evil},
				{"data in the window, not next", func(s wire.Segment, seq, ackNo uint32) { s.Set(seq+ahead(), ackNo, psh|ack, 500) }, evil},
				{"data acknowledging the future", func(s wire.Segment, seq, ackNo uint32) { s.Set(seq, ackNo+1+rng.Uint32N(1<<30), psh|ack, 500) }, evil},
				{"data acknowledging the distant past", func(s wire.Segment, seq, ackNo uint32) { s.Set(seq, ackNo-1<<24-far(), psh|ack, 500) }, evil},
				{"data without ACK", func(s wire.Segment, seq, ackNo uint32) { s.Set(seq, ackNo, psh, 500) }, evil},
				{"no flags", func(s wire.Segment, seq, ackNo uint32) { s.Set(seq, ackNo, 0, 500) }, evil},
				{"FIN in the window, not next", func(s wire.Segment, seq, ackNo uint32) { s.Set(seq+ahead(), ackNo, fin|ack, 500) }, nil},
				{"other bytes in place of old ones", func(s wire.Segment, seq, ackNo uint32) {
					s.Set(seq-uint32(len(s.Payload())), ackNo, psh|ack, 500)
				}, evil},
				{"SYN", func(s wire.Segment, seq, _ uint32) { s.Set(seq, 0, syn, 500) }, nil},
				{"SYN with data", func(s wire.Segment, seq, _ uint32) { s.Set(seq, 0, syn, 500) }, evil},
				{"SYN-ACK", func(s wire.Segment, seq, ackNo uint32) { s.Set(seq, ackNo, syn|ack, 500) }, nil},
				{"urgent data, not next", func(s wire.Segment, seq, ackNo uint32) { s.Set(seq+ahead(), ackNo, urg|psh|ack, 500) }, evil},
				{"everything set", func(s wire.Segment, seq, ackNo uint32) { s.Set(seq+9, ackNo, 0xff, 500) }, evil},
			}
			alive()
			for _, a := range attacks {
				for range 25 {
					s, seq, ackNo := p.next(a.data)
					a.make(s, seq, ackNo)
					cable.Inject(wire.A, s.Frame)
				}
				t.Log(a.name)
				alive()
			}
			got, _ := r.all()
			for i, q := range got {
				if q.body != fmt.Sprintf("good %d", i+1) {
					t.Errorf("a function got %q", q.body)
				}
			}
			if len(got) != int(id) {
				t.Errorf("%d messages arrived, %d were sent", len(got), id)
			}
			counts := s.counts()
			if counts["tc_device_in/challenge"] == 0 || counts["tc_device_in/ahead"] == 0 {
				t.Errorf("the attacks did not reach the programs: %v", counts)
			}
			// The exact byte is what a device's own RST has.
			seg, seq, ackNo := p.next(nil)
			seg.Set(seq, ackNo, rst|ack, 0)
			cable.Inject(wire.A, seg.Frame)
			for deadline := time.Now().Add(10 * time.Second); ; {
				if rows := s.mapsctl("flows"); len(rows) == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the connection outlived its RST")
				}
			}
		})
	}
}

// TestChangedRetransmission: a retransmission of a message that a function has
// not answered brings other bytes. What goes to the function again are the
// first ones.
func TestChangedRetransmission(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r := newRecorder()
			var g gates
			r.serveGo(t, l.Lab, false, func(n int64, w http.ResponseWriter, q *http.Request) {
				select {
				case <-g.gate("all"):
				case <-q.Context().Done():
				}
				ok(n, w, q)
			}, nil)
			s := start(t, l.Lab, mode, podConfig(faultsConfig, false))
			// The pods' acknowledgements are lost: they would end the repetition.
			for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
				l.cables[pod].SetPlan(wire.A, func(s wire.Segment) []wire.Segment {
					select {
					case <-g.gate("all"):
						return []wire.Segment{s}
					default:
						return nil
					}
				})
			}
			var faults [2]func() []string
			for i, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
				_, faults[i] = requestsOn(l.cables[pod])
			}
			c := rawConnect(t, l.Lab, "changed")
			p := &tap{port: c.port()}
			l.cables[lab.Dev].Watch(p.see)
			good := sealed("changed", "temp", 1, 20)
			c.write(publishPacket("sensors/changed/temp", 1, 1, good))
			r.wait(t, 1)
			evil := publishPacket("sensors/changed/temp", 1, 1, strings.ToUpper(good))
			until(t, "the request to be sent again", func() bool {
				seg, seq, ackNo := p.next(evil)
				seg.Set(seq-uint32(len(evil)), ackNo, psh|ack, seg.Window())
				l.cables[lab.Dev].Inject(wire.A, seg.Frame)
				return s.counts()["tc_device_in/reinjected"] >= 2
			})
			close(g.gate("all"))
			c.read([]byte{0x40, 2, 0, 1})
			for _, f := range faults {
				for _, what := range f() {
					t.Error(what)
				}
			}
			for _, q := range r.settled() {
				if q.body != good {
					t.Errorf("the function got %q", q.body)
				}
			}
		})
	}
}

// dialFrom connects from a fixed port, whatever connection had it before.
func dialFrom(t *testing.T, l *lab.Lab, port int) *rawConn {
	t.Helper()
	c, err := dialAs(l, port, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &rawConn{c, t}
}

// dialAs is dialFrom with something done to the socket before; port 0 is any.
func dialAs(l *lab.Lab, port int, before func(fd int) error) (net.Conn, error) {
	var c net.Conn
	dial := func() error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: 10 * time.Second, Control: func(_, _ string, rc syscall.RawConn) error {
			var inner error
			err := rc.Control(func(fd uintptr) {
				if before != nil {
					inner = before(int(fd))
				}
				// behind TCP_REPAIR, which takes it back
				inner = errors.Join(inner, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
			})
			return errors.Join(err, inner)
		}}
		d.SetMultipathTCP(false)
		var err error
		c, err = d.DialContext(context.Background(), "tcp4", net.JoinHostPort(lab.NodeV4.String(), "1883"))
		return err
	}
	// the old connection's last ACK may be on its way
	err := l.Do(lab.Dev, dial)
	for late := time.Now().Add(10 * time.Second); errors.Is(err, syscall.EADDRNOTAVAIL) && time.Now().Before(late); {
		err = l.Do(lab.Dev, dial)
	}
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c, nil
}

// TestReconnectOnSameTuple: a device that comes back on the same 4-tuple with the same packet
// identifiers, while its old messages are with functions, never gets a response
// to an old one for a new one.
func TestReconnectOnSameTuple(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			var g gates
			hold := newRecorder()
			serveHeld(t, l, r, hold, g.gate)
			cfg := strings.Replace(podConfig(failureConfig, false), "DEAD", "", 1)
			start(t, l, mode, strings.Replace(cfg, "timeout: 1s", "timeout: 30s", 1))
			for round := range 10 {
				old, fresh := fmt.Sprintf("hold old %d", round), fmt.Sprintf("hold new %d", round)
				c := dialFrom(t, l, 40000)
				c.connect("again")
				c.write(publishPacket("sensors/again/temp", 1, 7, old))
				hold.wait(t, 2*round+1)
				if round%2 == 0 {
					_ = c.Conn.(*net.TCPConn).SetLinger(0) // RST
					_ = c.Close()
				} else {
					c.write([]byte{0xf0, 0}) // the server closes first: TIME_WAIT is on its side
					_, _ = io.ReadAll(c)
					_ = c.Close()
				}
				c = dialFrom(t, l, 40000)
				c.connect("again")
				c.write(publishPacket("sensors/again/temp", 1, 7, fresh))
				hold.wait(t, 2*round+2)
				close(g.gate(old)) // its response finds another connection in the old one's place
				c.publish("sensors/again/temp", 8, fmt.Sprintf("sync %d", round))
				close(g.gate(fresh))
				c.read([]byte{0x40, 2, 0, 7})
				_ = c.Conn.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
		})
	}
}
