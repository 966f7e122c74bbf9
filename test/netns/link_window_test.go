package netns

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// narrow makes a plan that announces to the other end a window of so many bytes,
// from the SYN on.
func narrow(size func(s wire.Segment) uint16) wire.Plan {
	return func(s wire.Segment) []wire.Segment {
		if s.Flags()&syn != 0 {
			s = s.Unscaled()
		}
		if s.Flags()&rst == 0 {
			s.Set(s.Seq(), s.Ack(), s.Flags(), size(s))
		}
		return []wire.Segment{s}
	}
}

// TestTinyDeviceWindow: devices that never take more than 1 to 7 bytes at a
// time. PUBACKs of four bytes fit, or come in pieces; none is lost or repeated.
func TestTinyDeviceWindow(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, mode, podConfig(routeConfig, false))
			var ports perPort
			l.cables[lab.Dev].SetPlan(wire.A, ports.plan)
			var mu sync.Mutex
			var want []string
			var wg sync.WaitGroup
			errs := make([]error, 8)
			for size := 1; size <= 7; size++ {
				wg.Go(func() {
					const firstPort = 30000
					port := firstPort + size
					ports.set(uint16(port), narrow(func(wire.Segment) uint16 { return uint16(size) }))
					nc, err := dialAs(l.Lab, port, nil)
					if err != nil {
						errs[size] = err
						return
					}
					defer nc.Close()
					c := &rawConn{nc, t}
					id := fmt.Sprintf("tiny%d", size)
					if err := c.tryConnect(id); err != nil {
						errs[size] = fmt.Errorf("window of %d: %w", size, err)
						return
					}
					next := uint16(0)
					rounds := [][]byte{{1}, {0, 1}} // what does not fit waits for timers that double
					if size >= 4 {
						rounds = append(rounds, []byte{1}, []byte{1}, []byte{1, 1}, []byte{0, 1}, []byte{1})
					}
					for _, qos := range rounds {
						_, p, err := c.burst(id, &next, 5, qos...)
						if err != nil {
							errs[size] = fmt.Errorf("window of %d: %w", size, err)
							return
						}
						mu.Lock()
						want = append(want, p...)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
			r.once(t, want)
			counts := s.counts()
			if counts["tc_pod_in/response"] == 0 || counts["tc_pod_in/puback_handed"] == 0 {
				t.Errorf("no PUBACK was inserted, or none was too long for a window: %v", counts)
			}
			s.slotsReturn(t)
		})
	}
}

// TestTinyPodWindow: one pod never takes more than 1 to 7 bytes at a time, and is
// too slow for its messages: they go to the other one. Then both take just one
// request at a time: all is well.
func TestTinyPodWindow(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			seed := seedOf(t)
			l := newWired(t, seed)
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			rng := rand.New(rand.NewPCG(seed, 10))
			l.cables[lab.Pod0].SetPlan(wire.A, narrow(func(s wire.Segment) uint16 {
				_, slot := s.Ports()
				return 1 + slot%7
			}))
			cfg := strings.Replace(podConfig(failureConfig, false), "DEAD", "concurrency: 8", 1)
			s := start(t, l.Lab, mode, strings.Replace(cfg, "attempts: 4", "attempts: 50", 1))
			c := rawConnect(t, l.Lab, "narrow")
			next := uint16(0)
			for range 2 {
				if _, _, err := c.burst("narrow", &next, 1+rng.IntN(50), 1, 1, 1, 1, 1, 1); err != nil {
					t.Fatal(err)
				}
			}
			got, _ := r.all()
			seen := map[string]bool{}
			for _, q := range got {
				if _, _, _, err := unseal(q.body); err != nil {
					t.Error(err)
				}
				seen[q.body] = true
			}
			if len(seen) != int(next) {
				t.Errorf("%d different messages delivered, %d acknowledged", len(seen), next)
			}
			// a segment must not be longer than such a window, either
			if tooSmall(s.counts()) == 0 {
				t.Errorf("no window was too small: the test tests nothing: %v", s.counts())
			}
		})
		t.Run(mode+"/one request", func(t *testing.T) {
			seed := seedOf(t)
			l := newWired(t, seed)
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
				l.cables[pod].SetPlan(wire.A, narrow(func(wire.Segment) uint16 { return 1000 }))
			}
			s := start(t, l.Lab, mode, podConfig(faultsConfig, false))
			before := s.counts()
			devices := newFleet(l.Lab, seed, 5, 60)
			fleet(t, devices, 2*time.Minute)
			s.checkFleet(t, r, devices, before, true)
			after := s.counts()
			if taken, _ := share(before, after); taken == 0 || tooSmall(after) == tooSmall(before) {
				t.Errorf("nothing was taken, or no window was too small: %v", after)
			}
		})
	}
}

// tooSmall is how often a pod's window did not admit a request.
func tooSmall(counts map[string]int) int {
	return counts["tc_device_in/pod_window"] + counts["tc_device_in/too_large"]
}
