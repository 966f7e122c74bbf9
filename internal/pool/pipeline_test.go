package pool

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/depth"
)

// troubles are those that were counted.
type troubles struct {
	mu  sync.Mutex
	why map[string]int
}

func (x *troubles) PipelineTrouble(_, _, reason string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.why == nil {
		x.why = make(map[string]int)
	}
	x.why[reason]++
}

// automatic is a pool for one pod, which has one connection, and whose depth is found out.
func automatic(t *testing.T, pod netip.AddrPort) (*Standalone, *troubles) {
	t.Helper()
	s, counted := New([]*config.Function{{Name: "f", Pods: []netip.AddrPort{pod}, Concurrency: 1, Pipeline: config.PipelineAuto, Timeout: time.Minute}}), &troubles{}
	s.CountTo(counted)
	s.stall = 10 * time.Second // a busy machine is no trouble
	t.Cleanup(func() { _ = s.Close() })
	return s, counted
}

// Which messages of a burst may be sent again.
func all(int) bool          { return true }
func none(int) bool         { return false }
func fifths(i int) bool     { return i%5 != 0 }
func oneInTen(i int) bool   { return i%10 == 0 }
func everyOther(i int) bool { return i%2 == 0 }

// burst sends n calls in one batch, of which those may be sent again, and returns them when they have ended.
// Those that failed through no fault of theirs are sent again, as delivery does it.
func burst(t *testing.T, s *Standalone, from, n int, repeatable func(i int) bool) []*Call {
	t.Helper()
	ended := make(chan *Call, n)
	var b Batch
	for i := from; i < from+n; i++ {
		body := fmt.Sprintf("%06d", i)
		c := &Call{Function: "f", Timeout: time.Minute, Repeatable: repeatable(i),
			Request: []byte("POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 6\r\n\r\n" + body)}
		c.Done = func(c *Call, b *Batch) {
			if c.Behind && c.Repeatable {
				s.Send(c, b)
				return
			}
			ended <- c
		}
		s.Send(c, &b)
	}
	b.Flush()
	var calls []*Call
	for range n {
		select {
		case c := <-ended:
			calls = append(calls, c)
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of %d calls have ended", len(calls), n)
		}
	}
	return calls
}

// pipeOf is what is known of the only pod.
func pipeOf(s *Standalone) pipe {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.functions["f"].pods[0].pipe
}

// TestDepthIsFoundOut: a pod that answers in order gets several requests on a connection, and then those that must
// not be sent again, too; without any that may be, it never does.
func TestDepthIsFoundOut(t *testing.T) {
	pod := newServer(t, answers)
	s, counted := automatic(t, pod.addr)
	burst(t, s, 0, 200, none)
	if d := pipeOf(s); d.Proven != 1 || d.Tried != 1 {
		t.Errorf("%d proven, %d tried with messages that must not be sent again", d.Proven, d.Tried)
	}
	if n := succeeded(burst(t, s, 0, 1000, all)); n != 1000 {
		t.Errorf("%d of 1000 were answered", n)
	}
	if d := pipeOf(s); d.Proven < 8 {
		t.Errorf("%d proven after 1000 requests, want at least 8", d.Proven)
	}
	if n := succeeded(burst(t, s, 0, 100, everyOther)); n != 100 {
		t.Errorf("%d of 100 were answered", n)
	}
	if len(counted.why) > 0 || pod.made != 1 {
		t.Errorf("troubles %v, %d connections", counted.why, pod.made)
	}
}

// TestDepthIsFoundOutAmongOthers: where most messages must not be sent again, the few others are enough.
func TestDepthIsFoundOutAmongOthers(t *testing.T) {
	pod := newServer(t, answers)
	s, _ := automatic(t, pod.addr)
	if n := succeeded(burst(t, s, 0, 4000, oneInTen)); n != 4000 {
		t.Errorf("%d of 4000 were answered", n)
	}
	if d := pipeOf(s); d.Proven < 4 {
		t.Errorf("%d proven", d.Proven)
	}
	if n := len(pod.bodies()); n != 4000 {
		t.Errorf("%d requests for 4000 messages", n)
	}
}

// segments serves what comes with one read together.
func segments(answer func(s *server, c net.Conn, bodies []string) (more bool)) func(s *server, n int, c net.Conn, requests func() string) {
	return func(s *server, _ int, c net.Conn, _ func() string) {
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			var bodies []string
			for _, part := range bytes.Split(buf[:n], []byte("POST "))[1:] {
				bodies = append(bodies, string(part[len(part)-6:]))
			}
			if !answer(s, c, bodies) {
				return
			}
		}
	}
}

// TestServersThatCannot: what servers do to several requests on one connection costs none of the messages: what
// must not be sent again is never among them, what may be is sent again until it is answered, and no answer counts for another message.
// Then they get one at a time.
func TestServersThatCannot(t *testing.T) {
	for name, c := range map[string]struct {
		why    depth.Why
		answer func(s *server, c net.Conn, bodies []string) bool
	}{
		"answers the first only": {depth.Stalled, func(s *server, c net.Conn, bodies []string) bool {
			s.note(bodies[0])
			_, _ = io.WriteString(c, ok)
			return true
		}},
		"closes after the first": {depth.Closed, func(s *server, c net.Conn, bodies []string) bool {
			s.note(bodies[0])
			_, _ = io.WriteString(c, ok)
			return len(bodies) == 1
		}},
		"closes without an answer": {depth.Closed, func(s *server, c net.Conn, bodies []string) bool {
			if len(bodies) > 1 {
				return false
			}
			s.note(bodies[0])
			_, _ = io.WriteString(c, ok)
			return true
		}},
		"cannot read the second": {depth.Status, func(s *server, c net.Conn, bodies []string) bool {
			s.note(bodies[0])
			_, _ = io.WriteString(c, ok)
			if len(bodies) > 1 {
				_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			}
			return true
		}},
		"answers gibberish": {depth.Broken, func(s *server, c net.Conn, bodies []string) bool {
			s.note(bodies[0])
			_, _ = io.WriteString(c, ok)
			if len(bodies) > 1 {
				_, _ = io.WriteString(c, "gibberish\r\n\r\n")
			}
			return true
		}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newServer(t, segments(c.answer))
			s, counted := automatic(t, pod.addr)
			if c.why == depth.Stalled {
				s.stall = 50 * time.Millisecond
			}
			calls := burst(t, s, 0, 60, fifths)
			if n := succeeded(calls); n != 60 {
				t.Errorf("%d of 60 were answered", n)
			}
			answered := make(map[string]int)
			for _, body := range pod.bodies() {
				answered[body]++
			}
			for _, call := range calls {
				body := string(call.Request[len(call.Request)-6:])
				if answered[body] == 0 {
					t.Errorf("%s counts as answered, and was not", body)
				}
				if !call.Repeatable && answered[body] != 1 {
					t.Errorf("%s was sent %d times", body, answered[body])
				}
			}
			if d := pipeOf(s); d.Proven != 1 {
				t.Errorf("%d proven", d.Proven)
			}
			counted.mu.Lock()
			defer counted.mu.Unlock()
			if counted.why[c.why.Name()] == 0 || len(counted.why) != 1 {
				t.Errorf("troubles %v, want %s", counted.why, c.why.Name())
			}
		})
	}
}

// TestSlowPodThatPipelines: a pod that pauses loses no message that must not be sent again, however long others would be waited for.
func TestSlowPodThatPipelines(t *testing.T) {
	pause := false
	pod := newServer(t, func(s *server, _ int, c net.Conn, requests func() string) {
		for body := requests(); body != ""; body = requests() {
			s.note(body)
			if body == "000500" && !pause {
				pause = true
				time.Sleep(200 * time.Millisecond) // of a function
			}
			_, _ = io.WriteString(c, ok)
		}
	})
	s, counted := automatic(t, pod.addr)
	burst(t, s, 0, 100, all)
	s.mu.Lock()
	s.stall = 10 * time.Millisecond
	s.mu.Unlock()
	if n := succeeded(burst(t, s, 400, 200, none)); n != 200 || len(counted.why) > 0 {
		t.Errorf("%d of 200 were answered, troubles %v", n, counted.why)
	}
}

// TestProofs: a trial proves something if it was written along with the other one of its pair, and the pod had it, acknowledged, when
// it answered that.
func TestProofs(t *testing.T) {
	for _, c := range []struct {
		acknowledged uint64
		together     bool
		proven       int
	}{{15, true, 1}, {20, false, 1}, {20, true, 2}} {
		first, second := &Call{end: 10}, &Call{end: 20, ahead: 1, trial: 2, together: c.together}
		p := &pod{}
		at := &conn{pod: p, calls: []*Call{first, second}, tested: 1}
		p.pipe.Configure(config.PipelineAuto, deepest)
		p.pipe.Try()
		p.pipe.trial, p.pipe.wanted = at, 1
		at.hold(c.acknowledged)
		if p.tried(at, second); p.pipe.Proven != c.proven {
			t.Errorf("%+v: %d proven", c, p.pipe.Proven)
		}
	}
}

// TestQuotaOfConnections: a server that ends each connection after so many requests, as it says, answers all of them, those
// that must not be sent again once, and keeps getting several at a time.
func TestQuotaOfConnections(t *testing.T) {
	pod := newServer(t, func(s *server, _ int, c net.Conn, requests func() string) {
		for i := range 100 {
			body := requests()
			if body == "" {
				return
			}
			s.note(body)
			if i < 99 {
				_, _ = io.WriteString(c, ok)
			} else {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	})
	s, counted := automatic(t, pod.addr)
	burst(t, s, 0, 60, all) // two at a time are proven
	if n := succeeded(burst(t, s, 0, 940, none)); n != 940 {
		t.Errorf("%d of 940 were answered", n)
	}
	if n := succeeded(burst(t, s, 1000, 1000, everyOther)); n != 1000 {
		t.Errorf("%d of 1000 were answered", n)
	}
	if n := len(pod.bodies()); n != 2000 {
		t.Errorf("%d requests for 2000 messages", n)
	}
	if d := pipeOf(s); d.Quota != 100 || d.Proven < 2 || len(counted.why) > 0 {
		t.Errorf("quota %d, %d proven, troubles %v", d.Quota, d.Proven, counted.why)
	}
}
