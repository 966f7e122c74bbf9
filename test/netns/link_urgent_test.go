package netns

import (
	"fmt"
	"sync/atomic"
	"testing"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// TestUrgentData: segments of a device at exactly the next byte have the urgent flag,
// with a pointer to their first byte, into them, to their end, and far beyond.
// No byte of the stream gets lost by it (RFC 6093 section 5), neither on the
// kernel path, which leaves such segments alone, nor in the fallback.
func TestUrgentData(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, mode, podConfig(routeConfig, false))
			c := rawConnect(t, l.Lab, "urgent")
			var want []string
			next := uint16(0)
			for _, pointer := range []int{0, 1, 2, 30, -1, 0x7fff, 0xffff} {
				for _, qos := range [][]byte{{1}, {0, 1}, {1, 1, 1}} {
					var marked atomic.Int32
					l.cables[lab.Dev].SetPlan(wire.A, func(s wire.Segment) []wire.Segment {
						if len(s.Payload()) == 0 {
							return []wire.Segment{s}
						}
						marked.Add(1)
						p := pointer
						if p < 0 {
							p = len(s.Payload())
						}
						return []wire.Segment{s.Urgent(uint16(p))}
					})
					_, p, err := c.burst("urgent", &next, 9, qos...)
					l.cables[lab.Dev].SetPlan(wire.A, nil)
					if err != nil {
						t.Fatalf("pointer %d: %v", pointer, err)
					}
					want = append(want, p...)
					if marked.Load() == 0 {
						t.Error("no segment was marked: the test tests nothing")
					}
					_, p, err = c.burst("urgent", &next, 9, 1) // an ordinary one
					if err != nil {
						t.Fatalf("after pointer %d: %v", pointer, err)
					}
					want = append(want, p...)
				}
			}
			r.once(t, want)
			if n := s.counts()["tc_device_in/tcp_flags"]; mode != "fallback" && n == 0 {
				t.Error(fmt.Sprint("no urgent segment was left alone: ", s.counts()))
			}
		})
	}
}
