package netns

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// gates are closed one by one: a response waits for the gate of its payload.
type gates struct {
	mu sync.Mutex
	m  map[string]chan struct{}
}

func (g *gates) gate(name string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.m == nil {
		g.m = make(map[string]chan struct{})
	}
	if g.m[name] == nil {
		g.m[name] = make(chan struct{})
	}
	return g.m[name]
}

// ended waits until no connection of a device is left on either end but in
// TIME_WAIT.
func ended(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, host := range []lab.Role{lab.Dev, lab.Node} {
		until(t, "the connection to end on "+string(host), func() bool {
			out, err := l.Run(context.Background(), host, "ss", "-Htan", "( sport = :1883 or dport = :1883 )")
			if err != nil {
				t.Fatalf("ss: %v: %s", err, out)
			}
			for line := range strings.Lines(string(out)) {
				if !strings.HasPrefix(line, "TIME-WAIT") && !strings.HasPrefix(line, "LISTEN") {
					return false
				}
			}
			return true
		})
	}
}

// TestSimultaneousClose: a device and the server say FIN at once, each before it
// has the other's, with messages in flight. Both ends go through CLOSING to the
// end without a reset.
func TestSimultaneousClose(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r, hold := newRecorder(), newRecorder()
			var g gates
			serveHeld(t, l.Lab, r, hold, g.gate)
			s := start(t, l.Lab, mode, strings.Replace(strings.Replace(podConfig(failureConfig, false), "DEAD", "", 1), "timeout: 1s", "timeout: 30s", 1))
			cable := l.cables[lab.Dev]
			for round := range 6 {
				inFlight := round % 3
				var c *rawConn
				// the FINs wait on the cable for each other
				var mu sync.Mutex
				fins := map[wire.Side]wire.Segment{}
				crossed, resets := make(chan struct{}), 0
				cross := func(at wire.Side) wire.Plan {
					return func(s wire.Segment) []wire.Segment {
						mu.Lock()
						defer mu.Unlock()
						if s.Flags()&rst != 0 {
							resets++
						}
						if _, have := fins[at]; s.Flags()&fin == 0 || len(fins) == 2 {
							return []wire.Segment{s}
						} else if have {
							return nil // sent again meanwhile
						}
						fins[at] = s
						if len(fins) < 2 {
							return nil
						}
						cable.Inject(1-at, fins[1-at].Frame)
						close(crossed)
						return []wire.Segment{s}
					}
				}
				cable.SetPlan(wire.A, cross(wire.A))
				cable.SetPlan(wire.B, cross(wire.B))
				c = rawConnect(t, l.Lab, "closing")
				c.publish("sensors/closing/temp", 1, "answered")
				held := fmt.Sprintf("hold %d", round)
				for i := range inFlight {
					have, _ := hold.all()
					c.write(publishPacket("sensors/closing/temp", 1, uint16(10+i), fmt.Sprintf("%s %d", held, i)))
					hold.wait(t, len(have)+1)
				}
				c.write([]byte{0xe0, 0}) // the server closes
				if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				<-crossed
				if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
					t.Errorf("round %d: before the end came % x (%v)", round, b, err)
				}
				for i := range inFlight {
					close(g.gate(fmt.Sprintf("%s %d", held, i)))
				}
				_ = c.Close()
				ended(t, l.Lab)
				mu.Lock()
				if resets > 0 {
					t.Errorf("round %d: %d resets", round, resets)
				}
				mu.Unlock()
			}
			cable.SetPlan(wire.A, nil)
			cable.SetPlan(wire.B, nil)
			s.slotsReturn(t)
		})
	}
}

// TestReconnectWithAnySequence: a device comes back on the 4-tuple of a connection that the
// server still knows, in TIME_WAIT or as alive, with an initial sequence number
// above or below all that was: between what the device sent and what the
// server's socket saw, near, and half the space away. It gets its connection,
// and no response to an old message counts for a new one with the same identifier.
func TestReconnectWithAnySequence(t *testing.T) {
	const half = 1<<31 - 1000
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r, hold := newRecorder(), newRecorder()
			var g gates
			serveHeld(t, l.Lab, r, hold, g.gate)
			cfg := strings.Replace(podConfig(failureConfig, false), "DEAD", "", 1)
			s := start(t, l.Lab, mode, strings.Replace(cfg, "timeout: 1s", "timeout: 30s", 1))
			var ports perPort
			l.cables[lab.Dev].SetPlan(wire.A, ports.plan)
			const firstPort = 41000
			port := firstPort
			for _, end := range []struct {
				name    string
				end     func(c *rawConn)
				offsets []int32
			}{
				{"TIME_WAIT", func(c *rawConn) {
					c.write([]byte{0xf0, 0}) // the server closes first
					_, _ = io.ReadAll(c)
					_ = c.Close()
				}, []int32{1, 100, 100_000, half, -1, -100, -100_000, -half}},
				{"alive", func(c *rawConn) {
					ports.set(c.port(), func(wire.Segment) []wire.Segment { return nil }) // nobody hears the reset
					_ = c.reset()
				}, []int32{100, -100, half}},
			} {
				for _, offset := range end.offsets {
					port++
					name := fmt.Sprintf("%s, ISN %+d", end.name, offset)
					old, fresh := "hold old "+name, "hold new "+name
					have, _ := hold.all()
					c := dialFrom(t, l.Lab, port)
					c.connect(fmt.Sprint("tuple", port))
					topic := fmt.Sprintf("sensors/tuple%d/temp", port)
					for i := range 5 {
						c.publish(topic, uint16(i+1), fmt.Sprint(name, i))
					}
					c.write(publishPacket(topic, 1, 7, old))
					hold.wait(t, len(have)+1)
					sent, _, err := positions(c.Conn)
					if err != nil {
						t.Fatal(err)
					}
					end.end(c)
					ports.set(uint16(port), nil)
					nc, err := dialAs(l.Lab, port, startAt(sent+uint32(offset)))
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					began, _, err := positions(nc)
					if err != nil || began != sent+uint32(offset)+1 {
						t.Fatalf("%s: the connection began at %d (%v), want %d", name, began, err, sent+uint32(offset)+1)
					}
					c = &rawConn{nc, t}
					_ = c.SetDeadline(time.Now().Add(stallLimit))
					c.connect(fmt.Sprint("tuple", port))
					c.write(publishPacket(topic, 1, 7, fresh))
					hold.wait(t, len(have)+2)
					close(g.gate(old)) // its response finds another connection in the old one's place
					c.publish(topic, 8, "sync "+name)
					c.ping()
					close(g.gate(fresh))
					c.read([]byte{0x40, 2, 0, 7})
					c.write([]byte{0xe0, 0})
					_, _ = io.ReadAll(c)
					_ = c.Close()
				}
			}
			s.slotsReturn(t)
		})
	}
}
