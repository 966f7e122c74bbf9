package netns

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/await"
	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// ping sends PINGREQ and waits for PINGRESP: nothing else may come before it.
func (c *rawConn) ping() {
	c.t.Helper()
	c.write([]byte{0xc0, 0})
	c.read([]byte{0xd0, 0})
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	await.True(t, 20*time.Second, what, ok)
}

// seenAtPods is how many segments of pods the counters know of.
func seenAtPods(counts map[string]int) (n int) {
	for name, v := range counts {
		if strings.HasPrefix(name, "tc_pod_in/") {
			n += v
		}
	}
	return n
}

const oneSlotConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%s"]
    concurrency: 1
    timeout: 20s
    retry: {attempts: 5, backoff: 20ms}
routes:
  - topic: sensors/+/temp
    function: temp
`

// TestDuplicateResponse: copies of the last responses arrive while the slot carries the
// next request, whole, cut, and in the wrong order: they acknowledge
// nothing, and the slot stays what it is.
func TestDuplicateResponse(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newWired(t, seedOf(t))
			r := newRecorder()
			gates := make(chan chan struct{}, 64)
			r.serveGo(t, l.Lab, false, func(n int64, w http.ResponseWriter, q *http.Request) {
				gate := make(chan struct{})
				gates <- gate
				select {
				case <-gate:
				case <-q.Context().Done():
				}
				_, _ = fmt.Fprintf(w, "response %d", n)
			}, nil)
			s := start(t, l.Lab, mode, fmt.Sprintf(oneSlotConfig, lab.PodAddr(lab.Pod0, false).String()+":8080"))
			cable := l.cables[lab.Pod0]
			var mu sync.Mutex
			var responses []wire.Segment
			cable.Watch(func(at wire.Side, s wire.Segment) {
				if at == wire.A && len(s.Payload()) > 0 {
					mu.Lock()
					responses = append(responses, s.Piece(0, len(s.Payload())))
					mu.Unlock()
				}
			})
			c := rawConnect(t, l.Lab, "again")
			first := "0"
			c.write(publishPacket("sensors/again/temp", 1, 1, first))
			close(<-gates)
			c.read([]byte{0x40, 2, 0, 1})
			want := []string{first}
			const rounds = 12
			for i := range rounds {
				mu.Lock()
				old := append([]wire.Segment(nil), responses...)
				mu.Unlock()
				if len(old) == 0 {
					t.Fatal("no response seen")
				}
				last := old[len(old)-1]
				payload := fmt.Sprint(i + 1)
				want = append(want, payload)
				c.write(publishPacket("sensors/again/temp", 1, 1, payload)) // the same identifier each time
				gate := <-gates                                             // the function has it: the slot is busy
				before := s.counts()
				n := len(last.Payload())
				var copies []wire.Segment
				switch i % 4 {
				case 0: // the last one again
					copies = []wire.Segment{last}
				case 1: // in two pieces, the second one first
					copies = []wire.Segment{last.Piece(n/2, n), last.Piece(0, n/2)}
				case 2: // all there were
					copies = old
				case 3: // without its end, then whole
					copies = []wire.Segment{last.Piece(0, n-1), last}
				}
				for _, p := range copies {
					cable.Inject(wire.A, p.Frame)
				}
				until(t, "the copies to arrive", func() bool {
					return seenAtPods(s.counts())-seenAtPods(before) >= len(copies)
				})
				c.ping() // no PUBACK before
				close(gate)
				c.read([]byte{0x40, 2, 0, 1})
			}
			if counts := s.counts(); counts["tc_pod_in/response"]+counts["tc_pod_in/puback_handed"] != rounds+1 || counts["tc_pod_in/slot_retired"] > 0 || counts["tc_pod_in/old_duplicate"] < rounds {
				t.Errorf("the slot was not used and left alone as expected: %v", counts)
			}
			r.once(t, want)
			s.slotsReturn(t)
		})
	}
}

// TestLateResponse: a pod's response is held up on its way until the message was
// taken over and answered elsewhere, and comes then: while the old slot still
// ends, or when a new connection has taken its place. It acknowledges nothing,
// in particular not the device's next message, which has the same identifier.
func TestLateResponse(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		for _, fresh := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/new connection %v", mode, fresh), func(t *testing.T) {
				l := newWired(t, seedOf(t))
				r := newRecorder()
				gate := make(chan struct{})
				open := sync.OnceFunc(func() { close(gate) })
				defer open()
				holding := newRecorder()
				r.serveGo(t, l.Lab, false, func(n int64, w http.ResponseWriter, q *http.Request) {
					body, _ := r.body(n)
					if strings.HasPrefix(body, "hold") {
						holding.add(request{body: body})
						select {
						case <-gate:
						case <-q.Context().Done():
						}
					}
					ok(n, w, q)
				}, nil)
				cfg := strings.Replace(podConfig(failureConfig, false), "DEAD", "concurrency: 1", 1)
				s := start(t, l.Lab, mode, strings.Replace(cfg, "attempts: 4", "attempts: 50", 1))
				c := rawConnect(t, l.Lab, "late")
				// whatever the pod sends on the connection that gets the first request
				var mu sync.Mutex
				var late []func()
				var on [2]any
				for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
					cable := l.cables[pod]
					cable.SetPlan(wire.A, func(s wire.Segment) []wire.Segment {
						mu.Lock()
						defer mu.Unlock()
						_, slot := s.Ports()
						this := [2]any{pod, slot}
						if len(s.Payload()) == 0 || late != nil && on != this {
							return []wire.Segment{s}
						}
						on = this
						late = append(late, func() { cable.Inject(wire.A, s.Frame) })
						return nil
					})
				}
				c.write(publishPacket("sensors/late/temp", 1, 7, "first"))
				c.read([]byte{0x40, 2, 0, 7}) // after the takeover, by another attempt
				if n := s.counts()["control/taken_over"]; n == 0 {
					t.Error("the message was not taken over: the test tests nothing")
				}
				if fresh {
					s.slotsReturn(t)
				}
				c.write(publishPacket("sensors/late/temp", 1, 7, "hold second"))
				holding.wait(t, 1)
				mu.Lock()
				n := len(late)
				for _, f := range late {
					f()
				}
				mu.Unlock()
				if n == 0 {
					t.Fatal("no response was held up: the test tests nothing")
				}
				c.publish("sensors/late/temp", 8, "behind the late responses")
				c.ping()
				open()
				c.read([]byte{0x40, 2, 0, 7})
				c.publish("sensors/late/temp", 7, "third")
				s.slotsReturn(t)
			})
		}
	}
}
