package netns

import (
	"fmt"
	"slices"
	"testing"

	"eproxy/test/lab"
	"eproxy/test/wire"
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
// so that each segment begins and ends within a message. Only those that are cut
// leave the kernel path, and every message arrives once.
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
			// about one in fifteen is cut
			if taken < bursts*burst*85/100 {
				t.Errorf("the kernel took %d of %d messages: %v", taken, bursts*burst, fmt.Sprint(after))
			}
			s.slotsReturn(t)
		})
	}
}
