package netns

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/wire"
)

// span is a range [from, to) of a segment's payload.
type span struct{ from, to int }

// inSpans is the segment in pieces. Each piece has another window, so that GRO
// on the way leaves them apart.
func inSpans(s wire.Segment, spans ...span) []wire.Segment {
	var out []wire.Segment
	for i, sp := range spans {
		from, to := max(sp.from, 0), min(sp.to, len(s.Payload()))
		if from >= to {
			continue
		}
		p := s.Piece(from, to)
		p.Set(p.Seq(), p.Ack(), p.Flags(), p.Window()-uint16(i))
		out = append(out, p)
	}
	return out
}

// perPort is a plan for each connection of the devices, by its port.
type perPort struct {
	mu    sync.Mutex
	plans map[uint16]wire.Plan
}

func (p *perPort) set(port uint16, plan wire.Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.plans == nil {
		p.plans = make(map[uint16]wire.Plan)
	}
	p.plans[port] = plan
}

// plan is for the cable's side of the devices.
func (p *perPort) plan(s wire.Segment) []wire.Segment {
	src, _ := s.Ports()
	p.mu.Lock()
	plan := p.plans[src]
	p.mu.Unlock()
	if plan == nil {
		return []wire.Segment{s}
	}
	return plan(s)
}

// port is the local port of a connection.
func (c *rawConn) port() uint16 { return uint16(c.LocalAddr().(*net.TCPAddr).Port) }

// burst writes messages, of these QoS, in one piece, and reads PUBACKs until
// each one asked for has come once. It returns the payloads.
func (c *rawConn) burst(id string, next *uint16, size int, qos ...byte) (length int, payloads []string, err error) {
	var b []byte
	ids := map[uint16]bool{}
	for _, q := range qos {
		*next++
		p := sealed(id, "temp", int(*next), size)
		b = append(b, publishPacket("sensors/"+id+"/temp", q, *next, p)...)
		payloads = append(payloads, p)
		if q == 1 {
			ids[*next] = true
		}
	}
	_ = c.SetDeadline(time.Now().Add(stallLimit))
	if _, err := c.Write(b); err != nil {
		return 0, nil, err
	}
	for len(ids) > 0 {
		var a [4]byte
		if _, err := io.ReadFull(c, a[:]); err != nil {
			return 0, nil, fmt.Errorf("waiting for %v: %w", ids, err)
		}
		n := uint16(a[2])<<8 | uint16(a[3])
		if a[0] != 0x40 || a[1] != 2 || !ids[n] {
			return 0, nil, fmt.Errorf("got % x, waiting for %v", a, ids)
		}
		delete(ids, n)
	}
	return len(b), payloads, nil
}

// once checks that each of these payloads came exactly once, and no other.
func (r *recorder) once(t *testing.T, want []string) {
	t.Helper()
	count := map[string]int{}
	for _, q := range r.wait(t, len(want)) {
		count[q.body]++
	}
	for _, p := range want {
		if count[p] != 1 {
			t.Errorf("%q was delivered %d times", p, count[p])
		}
		delete(count, p)
	}
	for p := range count {
		t.Errorf("delivered %q, which nobody sent", p)
	}
}

// cutKinds are ways to send a stretch of end bytes that is cut at some offset.
var cutKinds = []struct {
	name  string
	spans func(rng *rand.Rand, at, end int) []span
}{
	{"in two", func(_ *rand.Rand, at, end int) []span { return []span{{0, at}, {at, end}} }},
	{"in three", func(rng *rand.Rand, at, end int) []span {
		other := rng.IntN(end)
		return []span{{0, min(at, other)}, {min(at, other), max(at, other)}, {max(at, other), end}}
	}},
	{"overlapping", func(rng *rand.Rand, at, end int) []span {
		to := at + 1 + rng.IntN(end-at)
		return []span{{0, at}, {at, to}, {at - 3, to + 5}, {to - 2, end}}
	}},
	{"whole behind its front", func(_ *rand.Rand, at, end int) []span { return []span{{0, at}, {0, end}, {at / 2, end}} }},
	{"backwards", func(_ *rand.Rand, at, end int) []span { return []span{{at, end}, {at / 2, end}, {0, at}} }},
}

// TestCutAtEveryOffset: two messages in one stretch of the stream, cut at every offset, and
// sent in pieces that overlap each other as retransmissions may that a sender
// has put together anew. Each message arrives exactly once and is acknowledged
// once.
func TestCutAtEveryOffset(t *testing.T) {
	// devices that share the offsets: where the programs drop a piece they wait
	// for a retransmission
	const devices, size = 16, 3
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			seed := seedOf(t)
			l := newWired(t, seed)
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, mode, podConfig(routeConfig, false))
			var ports perPort
			l.cables[lab.Dev].SetPlan(wire.A, ports.plan)
			var conns [devices]*rawConn
			var next [devices]uint16
			for i := range conns {
				conns[i] = rawConnect(t, l.Lab, fmt.Sprintf("cut%02d", i))
			}
			var want [devices][]string
			for _, kind := range cutKinds {
				for _, first := range []byte{1, 0} {
					before := s.counts()
					var wg sync.WaitGroup
					var errs [devices]error
					for i, c := range conns {
						wg.Go(func() {
							rng := rand.New(rand.NewPCG(seed, uint64(i)))
							id := fmt.Sprintf("cut%02d", i)
							for at, end := 1+i, 2+i; at < end && errs[i] == nil; at += devices {
								var cuts atomic.Int32
								ports.set(c.port(), func(s wire.Segment) []wire.Segment {
									// what is sent again for want of a response goes through whole
									if len(s.Payload()) <= at || cuts.Add(1) > 1 {
										return []wire.Segment{s}
									}
									return inSpans(s, kind.spans(rng, at, len(s.Payload()))...)
								})
								var p, q []string
								end, p, errs[i] = c.burst(id, &next[i], size, first, 1)
								ports.set(c.port(), nil)
								if errs[i] == nil && cuts.Load() == 0 {
									errs[i] = fmt.Errorf("nothing was cut at %d of %d", at, end)
								}
								if errs[i] == nil { // uncut: it brings the retransmission timer down again
									_, q, errs[i] = c.burst(id, &next[i], size, 1)
								}
								want[i] = append(append(want[i], p...), q...)
							}
						})
					}
					wg.Wait()
					if err := errors.Join(errs[:]...); err != nil {
						t.Fatalf("%s: %v", kind.name, err)
					}
					taken, _ := share(before, s.counts())
					t.Logf("%s, first of QoS %d: the kernel took %d messages", kind.name, first, taken)
					if taken == 0 {
						t.Error("the kernel took no message: the test tests nothing")
					}
				}
			}
			r.once(t, slices.Concat(want[:]...))
			s.slotsReturn(t)
		})
	}
}

// recut makes a plan that sends what a device sends again in pieces that overlap
// each other, other ones each time: no retransmission covers its original's range.
func recut(rng *rand.Rand) wire.Plan {
	at, sent := 0, map[uint16]uint32{} // end of what was sent, by port
	return func(s wire.Segment) []wire.Segment {
		n := len(s.Payload())
		src, _ := s.Ports()
		end := s.Seq() + uint32(n)
		if last, known := sent[src]; n == 0 || s.Flags()&syn != 0 || !known || int32(end-last) > 0 {
			sent[src] = end
			return []wire.Segment{s}
		}
		at++
		from := at % n
		to := from + 1 + rng.IntN(n-from)
		return inSpans(s, span{0, from}, span{from, to}, span{from - 3, to + 5}, span{to - 2, n})
	}
}

// loseFirst makes a plan that loses the first copy of some of the segments with
// data.
func loseFirst(rng *rand.Rand, share float64) (plan wire.Plan, lost func() int) {
	seen := map[string]bool{}
	n := make(chan int, 1)
	n <- 0
	plan = func(s wire.Segment) []wire.Segment {
		src, dst := s.Ports()
		key := fmt.Sprint(src, dst, s.Seq())
		if len(s.Payload()) == 0 || seen[key] {
			return []wire.Segment{s}
		}
		seen[key] = true
		if rng.Float64() >= share {
			return []wire.Segment{s}
		}
		n <- 1 + <-n
		return nil
	}
	return plan, func() int {
		v := <-n
		n <- v
		return v
	}
}

// TestRetransmissionCutAnew: requests are lost between the node and the pods, so that devices
// must send again what was taken; each retransmission comes in other pieces.
func TestRetransmissionCutAnew(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			seed := seedOf(t)
			l := newWired(t, seed)
			r := newRecorder()
			r.serveGo(t, l.Lab, false, ok, nil)
			s := start(t, l.Lab, mode, podConfig(faultsConfig, false))
			l.cables[lab.Dev].SetPlan(wire.A, recut(rand.New(rand.NewPCG(seed, 5))))
			for i, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
				plan, n := loseFirst(rand.New(rand.NewPCG(seed, uint64(6+i))), 0.2)
				l.cables[pod].SetPlan(wire.B, plan)
				defer func() {
					if n() == 0 {
						t.Errorf("nothing was lost on the way to %s: the test tests nothing", pod)
					}
				}()
			}
			before := s.counts()
			devices := newFleet(l.Lab, seed, 5, 60)
			fleet(t, devices, 2*time.Minute)
			s.checkFleet(t, r, devices, before, true)
			after := s.counts()
			met := func(counts map[string]int) int {
				return counts["tc_device_in/reinjected"] + counts["tc_device_in/dup_request"]
			}
			if met(after) == met(before) { // the request comes again for that, or did so by its own timer
				t.Errorf("no device sent again what was taken: the test tests nothing")
			}
		})
	}
}
