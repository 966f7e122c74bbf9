package netns

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// pieces makes a plan that cuts what is longer than n bytes into segments of n,
// as the MSS does, wherever the messages in it end.
func pieces(n int) wire.Plan {
	return func(s wire.Segment) []wire.Segment {
		if len(s.Payload()) <= n {
			return []wire.Segment{s}
		}
		var spans []span
		for at := 0; at < len(s.Payload()); at += n {
			spans = append(spans, span{at, at + n})
		}
		return inSpans(s, spans...)
	}
}

// TestBursts: a client writes many messages at once, more than fit one segment,
// so that each segment begins and ends within a message. Hardly any leaves
// the kernel path, and every message arrives once.
func TestBursts(t *testing.T) {
	const bursts, burst = 40, 48
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			cfg := podConfig(faultsConfig, false) + "limits: {inflight_per_client: 64}\n"
			s := start(t, l.Lab, mode, cfg)
			l.cables[lab.Dev].SetPlan(wire.A, pieces(1400))
			c := rawConnect(t, l.Lab, "bursty")
			qos := slices.Repeat([]byte{1, 1, 1, 0}, burst/4)
			before := s.counts()
			var want []string
			var next uint16
			for i := range bursts {
				_, p, err := c.burst("bursty", &next, i%5, qos...)
				if err != nil {
					t.Fatalf("burst %d: %v", i, err)
				}
				want = append(want, p...)
			}
			r.once(t, want)
			after := s.counts()
			taken, _ := share(before, after)
			t.Logf("the kernel took %d of %d messages", taken, bursts*burst)
			if taken < bursts*burst*95/100 {
				t.Errorf("the kernel took %d of %d messages: %v", taken, bursts*burst, after)
			}
			// nothing that was kept had to come by retransmission; a slow machine makes a few
			kept, failed := after["tc_device_in/kept"], after["tc_device_in/redirect_error"]
			if n := int(c.retransmissions()); failed > 0 || kept == 0 || n > kept/4 {
				t.Errorf("%d packets that could not be made; %d cut, %d retransmissions", failed, kept, n)
			}
			s.slotsReturn(t)
		})
	}
}

// TestHalfAMessage: a client writes half a message behind a whole one, and the rest when nobody waits for it any more. The server puts the
// two together. That half is never kept; but where its segment says that more follows it is, and the device
// sends it once more.
func TestHalfAMessage(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		for _, more := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/more=%v", mode, more), func(t *testing.T) {
				l := newWired(t, seedOf(t))
				r := newRecorder()
				r.serveGo(t, l.Lab, false, ok, nil)
				s := start(t, l.Lab, mode, podConfig(faultsConfig, false))
				c := rawConnect(t, l.Lab, "halting")
				_ = c.SetDeadline(time.Now().Add(stallLimit))
				if more {
					l.cables[lab.Dev].SetPlan(wire.A, func(s wire.Segment) []wire.Segment {
						s.Set(s.Seq(), s.Ack(), s.Flags()&^wire.FlagPSH, s.Window())
						return []wire.Segment{s}
					})
				}
				want := []string{sealed("halting", "temp", 0, 20), sealed("halting", "temp", 1, 20)}
				whole, cut := publishPacket("sensors/halting/temp", 1, 1, want[0]), publishPacket("sensors/halting/temp", 1, 2, want[1])
				half := len(cut) / 2
				c.write(append(whole, cut[:half]...))
				kept := 0
				if more {
					kept = 1
				}
				s.await(t, "half a message is the server's", func(n map[string]int) bool {
					return n["tc_device_in/kept"] == kept && n["tc_device_in/kept_vain"] == kept && n["tc_device_in/partial"] > 0
				})
				c.write(cut[half:])
				c.pubacks(2)
				r.once(t, want)
				if n := c.retransmissions(); n > uint32(kept) {
					t.Errorf("%d retransmissions: %v", n, s.counts())
				}
			})
		}
	}
}

// TestPipelining: a client with many messages in flight, each written as soon
// as a PUBACK came, stays on the kernel path.
func TestPipelining(t *testing.T) {
	const n = 4000
	for _, mode := range []string{"xdp", "tc"} {
		for _, window := range []int{16, 50, 64} {
			t.Run(fmt.Sprintf("%s/%d", mode, window), func(t *testing.T) {
				l := newLab(t)
				r := newRecorder()
				r.serveGo(t, l, false, ok, nil)
				cfg := podConfig(faultsConfig, false) + "limits: {inflight_per_client: 64}\n"
				s := start(t, l, mode, cfg)
				c := rawConnect(t, l, "pipe")
				_ = c.SetDeadline(time.Now().Add(2 * stallLimit))
				before := s.counts()
				var want []string
				for i, answered := 0, 0; answered < n; answered++ {
					for ; i < n && i-answered < window; i++ {
						want = append(want, sealed("pipe", "temp", i, 20))
						c.write(publishPacket("sensors/pipe/temp", 1, uint16(i+1), want[i]))
					}
					var a [4]byte
					if _, err := io.ReadFull(c, a[:]); err != nil || a[0] != 0x40 {
						t.Fatalf("PUBACK %d: % x: %v", answered, a, err)
					}
				}
				r.once(t, want)
				after := s.counts()
				taken, _ := share(before, after)
				t.Logf("the kernel took %d of %d messages", taken, n)
				if taken < n*95/100 {
					t.Errorf("the kernel took %d of %d messages: %v", taken, n, after)
				}
			})
		}
	}
}

// retransmissions is how many segments this end has sent again.
func (c *rawConn) retransmissions() uint32 {
	c.t.Helper()
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		c.t.Fatal(err)
	}
	var info *unix.TCPInfo
	if cerr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); cerr != nil || err != nil {
		c.t.Fatal(cerr, err)
	}
	return info.Total_retrans
}

// TestGoodbyeBehindABurst: a client that sends many messages of QoS 0, says goodbye and closes at once, as those of
// scripts and batteries do, loses none of them, whichever of them wait in the kernel by then.
func TestGoodbyeBehindABurst(t *testing.T) {
	const rounds, burst = 20, 60
	for _, mode := range []string{"fallback", "tc", "xdp"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			start(t, l, mode, fmt.Sprintf(burstsConfig, lab.PodAddr(lab.Pod0, false)))
			for round := range rounds {
				r.forget()
				c := rawConnect(t, l, fmt.Sprintf("brief%d", round))
				var want []string
				for i := range burst {
					want = append(want, fmt.Sprintf("%03d%060d", i, round))
					c.write(publishPacket("sensors/brief/temp", 0, 0, want[i]))
				}
				c.write([]byte{0xe0, 0})
				_ = c.Close()
				r.once(t, want)
			}
		})
	}
}
