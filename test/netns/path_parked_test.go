package netns

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eproxy/test/lib/await"
	"eproxy/test/lib/lab"
)

// parkedConfig is one function whose pods get one request at a time on a connection.
const parkedConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%[1]s", "%[2]s"]
    timeout: 10s
    concurrency: 4
    pipeline: 1
    retry: {attempts: 4, backoff: 10ms, max_backoff: 50ms}
routes:
  - topic: sensors/+/temp
    function: temp
`

// flood writes n messages at once, each in a write of its own, and returns their payloads.
func (c *rawConn) flood(id string, n int, qos byte) (payloads []string) {
	c.t.Helper()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	for i := range n {
		p := sealed(id, "temp", i, 20)
		payloads = append(payloads, p)
		c.write(publishPacket("sensors/"+id+"/temp", qos, uint16(i+1), p))
	}
	return payloads
}

// pubacks reads the PUBACKs of messages 1 to n, in any order.
func (c *rawConn) pubacks(n int) {
	c.t.Helper()
	seen := make(map[uint16]bool)
	for len(seen) < n {
		var a [4]byte
		if _, err := io.ReadFull(c, a[:]); err != nil {
			c.t.Fatalf("after %d of %d PUBACKs: %v", len(seen), n, err)
		}
		id := uint16(a[2])<<8 | uint16(a[3])
		if a[0] != 0x40 || a[1] != 2 || seen[id] {
			c.t.Fatalf("got % x", a)
		}
		seen[id] = true
	}
}

// TestBurstIsParked: a client sends many messages at once, more than the pods have
// connections. They wait in the kernel, all of them, and none comes twice.
func TestBurstIsParked(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		for _, n := range []int{60, 300, 1000} {
			for _, qos := range []byte{0, 1} {
				t.Run(fmt.Sprintf("%s/%d/qos%d", mode, n, qos), func(t *testing.T) {
					l := newLab(t)
					r := newRecorder()
					r.serveGo(t, l, false, ok, nil)
					s := start(t, l, mode, podConfig(parkedConfig, false))
					c := rawConnect(t, l, "burst")
					before := s.counts()
					want := c.flood("burst", n, qos)
					if qos == 1 {
						c.pubacks(n)
					}
					r.once(t, want)
					after := s.counts()
					taken, _ := share(before, after)
					t.Logf("the kernel took %d of %d messages, %d waited; %d were cut", taken, n, after["tc_device_in/parked"], after["tc_device_in/kept"])
					if taken < n*95/100 {
						t.Errorf("the kernel took %d of %d messages: %v", taken, n, after)
					}
					s.slotsReturn(t)
				})
			}
		}
	}
}

// TestParkedGetConnections: while messages wait the pods get as many connections as their function may have, though nobody
// but what waits asks for them.
func TestParkedGetConnections(t *testing.T) {
	const most = 2 * 4 // pods, concurrency
	l := newLab(t)
	r := newRecorder()
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	var working atomic.Int32
	r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
		if working.Add(1) == most {
			open()
		}
		select {
		case <-gate:
		case <-time.After(200 * time.Millisecond): // what a request takes, until there are enough
		}
		working.Add(-1)
		ok(n, w, q)
	}, nil)
	s := start(t, l, "tc", podConfig(parkedConfig, false))
	c := rawConnect(t, l, "burst")
	want := c.flood("burst", 150, 1)
	c.pubacks(len(want))
	select {
	case <-gate:
	default:
		t.Errorf("the function never had %d requests at a time", most)
	}
	r.once(t, want)
	s.slotsReturn(t)
}

// TestParkedInTurn: of clients whose messages wait each has its turn: while one floods, those that
// come later are served after at most as many of its messages as they have themselves.
func TestParkedInTurn(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
		<-gate
		ok(n, w, q)
	}, nil)
	const others, each, flood = 19, 10, 800 // all fit the memory that is there beforehand
	s := start(t, l, "tc", podConfig(parkedConfig, false))
	big := rawConnect(t, l, "big")
	want := big.flood("big", flood, 0)
	s.await(t, "the flood waits", func(c map[string]int) bool { n, _ := share(nil, c); return n >= flood*95/100 })
	small := make([]*rawConn, others)
	for i := range small {
		id := fmt.Sprintf("small%d", i)
		small[i] = rawConnect(t, l, id)
		want = append(want, small[i].flood(id, each, 1)...)
	}
	s.await(t, "all wait", func(c map[string]int) bool {
		n, eligible := share(nil, c)
		return max(n, eligible)+c["tc_device_in/partial"] >= flood+others*each
	})
	open()
	for _, c := range small {
		c.pubacks(each)
	}
	r.once(t, want)
	got, _ := r.all()
	last, ofBig, seen := 0, 0, 0
	for _, q := range got {
		if strings.HasSuffix(q.headers["ce-source"], "/big") {
			ofBig++
			continue
		}
		// a pod may be late with what it has got on any of the 8 connections
		if seen++; seen == others*each-8 {
			last = ofBig
		}
	}
	t.Logf("%d messages of the flooding client were served before the others'", last)
	// its own turns, and what was in flight before; half of an equal share would let it have twice as many
	if limit := 2*each + 16; last > limit {
		t.Errorf("%d messages of the flooding client were served before the others', at most %d", last, limit)
	}
}

// await waits until the programs' counters are as ok says.
func (s *system) await(t *testing.T, what string, ok func(counts map[string]int) bool) {
	t.Helper()
	await.None(t, stallLimit, func() string {
		counts := s.counts()
		if ok(counts) {
			return ""
		}
		return fmt.Sprintf("%s: not so after %v: %v", what, stallLimit, counts)
	})
}

// gatedPods serves functions that answer nothing before open is called.
func gatedPods(t *testing.T) (s *system, r *recorder, open func()) {
	l, r, open, cfg := gatedLab(t)
	return start(t, l, "tc", cfg), r, open
}

// gatedLab is gatedPods before eproxy is started, with its configuration.
func gatedLab(t *testing.T) (l *lab.Lab, r *recorder, open func(), cfg string) {
	l = newLab(t)
	r = newRecorder()
	gate := make(chan struct{})
	open = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
		select {
		case <-gate:
		case <-q.Context().Done():
		}
		ok(n, w, q)
	}, nil)
	dead := "dead_letter: {file: " + t.TempDir() + "/dead.jsonl}"
	cfg = strings.Replace(parkedConfig, "timeout: 10s", "timeout: 2s\n    deadline: 3s\n    "+dead, 1)
	return l, r, open, podConfig(cfg, false)
}

// TestParkedDeadline: what waits in the kernel when its deadline comes is a dead letter, and acknowledged.
func TestParkedDeadline(t *testing.T) {
	s, _, _ := gatedPods(t)
	const n = 100
	c := rawConnect(t, s.lab, "late")
	c.flood("late", n, 1)
	c.pubacks(n)
	if handed := s.counts()["control/park_handed"]; handed == 0 {
		t.Errorf("no message waited in the kernel until userspace took it over: %v", s.counts())
	}
}

// TestParkedOverReload: messages that wait in the kernel survive a reload, and leave in their order.
func TestParkedOverReload(t *testing.T) {
	s, r, open := gatedPods(t)
	const n = 60
	c := rawConnect(t, s.lab, "reload")
	want := c.flood("reload", n, 1)
	s.await(t, "all wait", func(counts map[string]int) bool {
		taken, _ := share(nil, counts)
		return taken+counts["tc_device_in/partial"] >= n
	})
	s.reload("max_backoff: 50ms", "max_backoff: 60ms", "msg=reloaded")
	open()
	c.pubacks(n)
	r.once(t, want)
	if counts := s.counts(); counts["control/park_handed"] > 0 {
		t.Errorf("userspace took messages over: %v", counts)
	}
}
