package netns

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// newsOf tells each segment of a device's that brings payload for the first time
// to decide, which says what goes on in its place. Repetitions go on.
func newsOf(decide func(s wire.Segment) []wire.Segment) wire.Plan {
	var mu sync.Mutex
	seen := map[string]uint32{} // by connection: where news begin
	return func(s wire.Segment) []wire.Segment {
		src, dst := s.Ports()
		key, end := fmt.Sprint(src, dst), s.Seq()+uint32(len(s.Payload()))
		mu.Lock()
		defer mu.Unlock()
		if from, known := seen[key]; len(s.Payload()) == 0 || known && int32(end-from) <= 0 {
			return []wire.Segment{s}
		}
		seen[key] = end
		return decide(s)
	}
}

// acknowledgedAll reads PUBACKs until each of these identifiers has had one.
func (c *rawConn) acknowledgedAll(ids ...uint16) {
	c.t.Helper()
	open := map[uint16]bool{}
	for _, id := range ids {
		open[id] = true
	}
	for len(open) > 0 {
		first, body := c.packet()
		if first != 0x40 || len(body) != 2 {
			c.t.Fatalf("got %#x % x, waiting for PUBACKs of %v", first, body, open)
		}
		id := uint16(body[0])<<8 | uint16(body[1])
		if !open[id] {
			c.t.Fatalf("PUBACK for %d, waiting for %v", id, open)
		}
		delete(open, id)
	}
}

// intact publishes messages that the kernel path takes, one that it does not, and pings: what a
// shifted stream would not survive.
func (c *rawConn) intact(id string, first uint16) (payloads []string) {
	c.t.Helper()
	for i := range uint16(4) {
		p := sealed(id, "temp", int(first+i), []int{10, 5000, 20, 30}[i])
		c.write(publishPacket("sensors/"+id+"/temp", 1, first+i, p))
		c.acknowledgedAll(first + i)
		c.ping()
		payloads = append(payloads, p)
	}
	return payloads
}

// TestArmedWithAHole: when a connection is armed, a message waits in its socket's
// out-of-order queue, and the one before it is lost. That one comes again when the
// programs take messages: it must not be taken, since what lies behind it has its
// place in the socket's stream.
func TestArmedWithAHole(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, mode, podConfig(faultsConfig, false))
			var want []string
			for n := range 5 {
				id := fmt.Sprintf("hole%d", n)
				var connect wire.Segment
				l.cables[lab.Dev].SetPlan(wire.A, newsOf(func(s wire.Segment) []wire.Segment {
					switch p := string(s.Payload()); {
					case p[0] == 0x10:
						connect = s
						return nil
					case strings.Contains(p, " 1 "):
						return nil
					default:
						return []wire.Segment{s, connect}
					}
				}))
				c := rawDial(t, l.Lab)
				c.write(append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(id))}, id...))
				for i := range uint16(2) {
					p := sealed(id, "temp", int(i)+1, 50)
					c.write(publishPacket("sensors/"+id+"/temp", 1, i+1, p))
					want = append(want, p)
				}
				c.read([]byte{0x20, 2, 0, 0})
				l.cables[lab.Dev].SetPlan(wire.A, nil)
				c.acknowledgedAll(1, 2)
				for range 150 { // in the place of a message that was taken they end where the next one begins
					c.ping()
				}
				want = append(want, c.intact(id, 3)...)
				_ = c.Close()
			}
			r.once(t, want)
			if taken, _ := share(map[string]int{}, s.counts()); taken == 0 {
				t.Error("nothing was taken: the test tests nothing")
			}
		})
	}
}

// TestLostSegmentComesAgainAlone: of a burst one segment is lost. What is behind reaches the
// socket: a device without SACK sends the lost one again and hardly anything else, nothing is
// lost or doubled, and the next burst is taken in the kernel. One with SACK may also repeat
// messages in front that are still with their function: no block claims them.
func TestLostSegmentComesAgainAlone(t *testing.T) {
	for _, kind := range []struct {
		name, mode string
		sack       bool
	}{{"xdp", "xdp", false}, {"tc", "tc", false}, {"tc, SACK", "tc", true}} {
		t.Run(kind.name, func(t *testing.T) {
			const bursts, size = 20, 8
			l := newWired(t, seedOf(t))
			if !kind.sack {
				if err := l.SetSysctl(lab.Dev, "ipv4/tcp_sack", "0"); err != nil {
					t.Fatal(err)
				}
			}
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, kind.mode, podConfig(faultsConfig, false))
			c := rawConnect(t, l.Lab, "alone")
			var want []string
			id := uint16(0)
			burst := func() {
				var ids []uint16
				for range size {
					id++
					p := sealed("alone", "temp", int(id), 1000) // a segment has no room for two
					c.write(publishPacket("sensors/alone/temp", 1, id, p))
					want, ids = append(want, p), append(ids, id)
				}
				c.acknowledgedAll(ids...)
			}
			burst()
			again := c.retransmissions()
			lost := uint32(0)
			for n := range bursts {
				at := 0
				l.cables[lab.Dev].SetPlan(wire.A, newsOf(func(s wire.Segment) []wire.Segment {
					if at++; at == 2+n%3 {
						lost++
						return nil
					}
					return []wire.Segment{s}
				}))
				burst()
				l.cables[lab.Dev].SetPlan(wire.A, nil)
				before := s.counts()
				burst()
				after := s.counts()
				for _, reason := range []string{"not_next", "lost_track"} {
					if k := "tc_device_in/" + reason; after[k] > before[k] {
						t.Errorf("burst without a loss after one with: %s %d times", reason, after[k]-before[k])
					}
				}
			}
			again = c.retransmissions() - again
			t.Logf("%d segments lost, %d sent again, %d passed beyond a hole", lost, again, s.counts()["tc_device_in/ahead"])
			if lost < bursts || again < lost || !kind.sack && again > 2*lost {
				t.Errorf("%d segments lost, %d sent again", lost, again)
			}
			r.once(t, want)
			s.checkWhole(t)
		})
	}
}

// checkWhole checks that no connection's books broke.
func (s *system) checkWhole(t *testing.T) {
	t.Helper()
	s.slotsReturn(t)
	if n := s.counts()["tc_device_out/broken"]; n > 0 {
		t.Errorf("%d times a connection's ledger broke", n)
	}
}

// TestLargeMessagesOverLossyLink: messages of 100 kB, which are the server's, on an armed
// connection whose link loses segments: each arrives, whole and once.
func TestLargeMessagesOverLossyLink(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, mode, podConfig(faultsConfig, false))
			c := rawConnect(t, l.Lab, "large")
			want := c.intact("large", 1)
			l.set(wire.Faults{Drop: 0.02}, lab.Dev)
			defer l.set(wire.Faults{}, lab.Dev)
			_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
			for id := uint16(10); id < 30; id += 2 {
				for i := range uint16(2) {
					p := sealed("large", "temp", int(id+i), 100<<10)
					c.write(publishPacket("sensors/large/temp", 1, id+i, p))
					want = append(want, p)
				}
				c.acknowledgedAll(id, id+1)
			}
			if n := l.faults(lab.Dev); n == 0 || s.counts()["tc_device_in/ahead"] == 0 {
				t.Errorf("%d segments were lost, none passed beyond a hole: the test tests nothing", n)
			}
			want = append(want, c.intact("large", 40)...)
			r.once(t, want)
			s.checkWhole(t)
		})
	}
}

// TestEndBeyondLostMessage: the first message of a burst is lost, behind it come others and the
// device's FIN. All are delivered, and the connection ends in order.
func TestEndBeyondLostMessage(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, mode, podConfig(faultsConfig, false))
			var want []string
			for n := range 5 {
				id := fmt.Sprintf("end%d", n)
				c := rawConnect(t, l.Lab, id)
				want = append(want, c.intact(id, 1)...)
				lost := false
				l.cables[lab.Dev].SetPlan(wire.A, newsOf(func(s wire.Segment) []wire.Segment {
					if !lost {
						lost = true
						return nil
					}
					return []wire.Segment{s}
				}))
				for i := range uint16(4) {
					p := sealed(id, "temp", int(i)+10, 1000) // a segment has no room for two
					c.write(publishPacket("sensors/"+id+"/temp", 1, i+10, p))
					want = append(want, p)
				}
				c.write([]byte{0xe0, 0})
				if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, c); err != nil {
					t.Errorf("does not end in order: %v", err)
				}
				l.cables[lab.Dev].SetPlan(wire.A, nil)
			}
			if s.counts()["tc_device_in/ahead"] == 0 {
				t.Error("nothing was passed beyond a hole: the test tests nothing")
			}
			r.once(t, want)
			s.checkWhole(t)
		})
	}
}
