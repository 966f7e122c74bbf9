package netns

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// requestsOn checks every request on its way to a pod: right checksum, whole
// payload. The function that it returns says what was wrong.
func requestsOn(w *wire.Wire) (requests func() int, faults func() []string) {
	var mu sync.Mutex
	var wrong []string
	n := 0
	w.Watch(func(at wire.Side, s wire.Segment) {
		if at != wire.B || len(s.Payload()) == 0 {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		if !s.Intact() {
			wrong = append(wrong, "wrong checksum")
		}
		head, body, _ := strings.Cut(string(s.Payload()), "\r\n\r\n")
		if _, _, _, err := unseal(body); err != nil || !strings.HasPrefix(head, "POST /ingest HTTP/1.1\r\n") {
			wrong = append(wrong, fmt.Sprintf("%.80q: %v", s.Payload(), err))
		}
	})
	return func() int { mu.Lock(); defer mu.Unlock(); return n }, func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(wrong) }
}

// flips makes a plan that sends each segment with data first with each of its
// bits changed, one at a time, and with the checksum of the original. The
// original follows at once, or it is lost: then the sender's retransmission,
// which passes, must bring it.
func flips(lose bool) wire.Plan {
	seen := map[string]bool{}
	return func(s wire.Segment) []wire.Segment {
		src, dst := s.Ports()
		key := fmt.Sprint(src, dst, s.Seq())
		if len(s.Payload()) == 0 || s.Flags()&(syn|fin|rst) != 0 || seen[key] {
			return []wire.Segment{s}
		}
		seen[key] = true
		var out []wire.Segment
		for i := range s.Payload() {
			for bit := range 8 {
				out = append(out, s.Flip(i, bit))
			}
		}
		if !lose {
			out = append(out, s)
		}
		return out
	}
}

// TestCorruptedSegment: a segment with a wrong checksum never becomes one with a right
// one: a PUBLISH with any one bit changed does not reach a function, and an
// answer with any one bit changed acknowledges nothing. The right segment that
// follows does its work.
func TestCorruptedSegment(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			seed := seedOf(t)
			rng := rand.New(rand.NewPCG(seed, 8))
			l := newWired(t, seed)
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, mode, podConfig(routeConfig, false))
			var requests [2]func() int
			var faults [2]func() []string
			pods := []lab.Role{lab.Pod0, lab.Pod1}
			for i, pod := range pods {
				requests[i], faults[i] = requestsOn(l.cables[pod])
			}
			c := rawConnect(t, l.Lab, "flip")
			var want []string
			next := uint16(0)
			for _, k := range []struct {
				name     string
				qos      []byte
				lose     bool
				messages int
			}{
				{"single", []byte{1}, false, 3},
				{"single, QoS 0 before", []byte{0, 1}, false, 3},
				{"burst", []byte{1, 1, 1, 1}, false, 3},
				// one each: the sender's timer doubles with every loss
				{"single, sent again", []byte{1}, true, 1},
				{"burst, sent again", []byte{1, 0, 1}, true, 1},
			} {
				t.Run("device/"+k.name, func(t *testing.T) {
					before := s.counts()
					l.cables[lab.Dev].SetPlan(wire.A, flips(k.lose))
					defer l.cables[lab.Dev].SetPlan(wire.A, nil)
					for range k.messages {
						_, p, err := c.burst("flip", &next, rng.IntN(20), k.qos...)
						if err != nil {
							t.Fatal(err)
						}
						want = append(want, p...)
					}
					// comes through at once, and brings the sender's timer down again
					l.cables[lab.Dev].SetPlan(wire.A, nil)
					_, p, err := c.burst("flip", &next, 1, 1)
					if err != nil {
						t.Fatal(err)
					}
					want = append(want, p...)
					after := s.counts()
					taken, _ := share(before, after)
					if bad := after["tc_device_in/bad_checksum"] - before["tc_device_in/bad_checksum"]; bad < 50*8*k.messages || taken < k.messages {
						t.Errorf("%d corrupted segments were seen, %d messages taken: the test tests nothing", bad, taken)
					}
				})
			}
			for _, lose := range []bool{false, true} {
				t.Run(fmt.Sprintf("pod/sent again %v", lose), func(t *testing.T) {
					before := s.counts()
					for _, pod := range pods {
						l.cables[pod].SetPlan(wire.A, flips(lose))
						defer l.cables[pod].SetPlan(wire.A, nil)
					}
					qos := []byte{1, 0, 1}
					if lose { // a response that stays away for a second makes the pod count as gone
						qos = qos[2:]
					}
					for range 2 {
						_, p, err := c.burst("flip", &next, rng.IntN(20), qos...)
						if err != nil {
							t.Fatal(err)
						}
						want = append(want, p...)
					}
					after := s.counts()
					if bad := after["tc_pod_in/bad_checksum"] - before["tc_pod_in/bad_checksum"]; bad < 100*8*2 {
						t.Errorf("%d corrupted responses were seen: the test tests nothing", bad)
					}
					if n := after["control/taken_over"] - before["control/taken_over"]; n > 0 {
						t.Errorf("%d messages were taken over", n)
					}
				})
			}
			r.once(t, want)
			for i, pod := range pods {
				for _, f := range faults[i]() {
					t.Errorf("on the way to %s: %s", pod, f)
				}
				if requests[i]() == 0 {
					t.Errorf("no request went to %s: the test tests nothing", pod)
				}
			}
			s.slotsReturn(t)
		})
	}
}
