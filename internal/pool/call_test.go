package pool

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"eproxy/internal/config"
)

// server is a pod whose connections serve has; it counts them.
type server struct {
	addr netip.AddrPort
	mu   sync.Mutex
	got  []string // bodies, in order
	made int      // connections
}

func (s *server) note(body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, body)
}

func (s *server) bodies() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// newServer serves each connection with f, which closes it when it returns.
func newServer(t *testing.T, f func(s *server, n int, c net.Conn, requests func() string)) *server {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	s := &server{addr: netip.MustParseAddrPort(ln.Addr().String())}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.made++
			n := s.made
			s.mu.Unlock()
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				f(s, n, c, func() string {
					req, err := http.ReadRequest(r)
					if err != nil {
						return ""
					}
					b, _ := io.ReadAll(req.Body)
					return string(b)
				})
			}()
		}
	}()
	return s
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// calls sends n calls in one batch and returns those that have ended, in order.
func calls(t *testing.T, s *Standalone, n int) []*Call {
	t.Helper()
	ended := make(chan *Call, n)
	var b Batch
	for i := range n {
		body := fmt.Sprint(i)
		s.Send(&Call{Function: "f", Timeout: 20 * time.Second,
			Request: fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: f\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
			Done:    func(c *Call, _ *Batch) { ended <- c }}, &b)
	}
	b.Flush()
	var all []*Call
	for range n {
		select {
		case c := <-ended:
			all = append(all, c)
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of %d calls have ended", len(all), n)
		}
	}
	return all
}

// succeeded is how many calls were answered.
func succeeded(all []*Call) (n int) {
	for _, c := range all {
		if c.Err == nil && c.Response.Status == 200 {
			n++
		}
	}
	return n
}

// answers is a server that answers everything in order.
func answers(s *server, _ int, c net.Conn, requests func() string) {
	for body := requests(); body != ""; body = requests() {
		s.note(body)
		_, _ = io.WriteString(c, ok)
	}
}

// TestCallsBehindOthers: where the configuration lets a pod have several requests on one connection,
// no more connections are made than it has places, and requests come in their order.
func TestCallsBehindOthers(t *testing.T) {
	for _, c := range []struct{ pipeline, connections int }{{64, 1}, {1, 3}} {
		pod := newServer(t, answers)
		fn := functions(3, pod.addr)
		fn[0].Pipeline = c.pipeline
		s := New(fn)
		calls(t, s, 1) // there is a connection
		if n := succeeded(calls(t, s, 50)); n != 50 {
			t.Errorf("pipeline %d: %d of 50 were answered", c.pipeline, n)
		}
		got := pod.bodies()[1:]
		want := make([]string, 50)
		for i := range want {
			want[i] = fmt.Sprint(i)
		}
		if c.pipeline > 1 && !slices.Equal(got, want) {
			t.Errorf("requests came as %v", got)
		}
		if pod.made > c.connections {
			t.Errorf("pipeline %d: %d connections, want at most %d", c.pipeline, pod.made, c.connections)
		}
		s.mu.Lock()
		if p := s.functions["f"].pods[0]; p.used != 0 || len(p.busy) != 0 || len(p.idle) != pod.made {
			t.Errorf("%d places used, %d connections busy, %d idle of %d in the end", p.used, len(p.busy), len(p.idle), pod.made)
		}
		s.mu.Unlock()
		_ = s.Close()
	}
}

// TestServersThatEnd: without a configured number a pod has one request on a connection, and servers that end
// connections, or answer what nobody asked, lose none of the requests and keep no place for it.
func TestServersThatEnd(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(s *server, n int, c net.Conn, requests func() string)
		exact bool // what is behind is known not to have been read
	}{
		"answers in order": {answers, true},
		"closes after the first": {func(s *server, _ int, c net.Conn, requests func() string) {
			s.note(requests())
			_, _ = io.WriteString(c, ok)
		}, false},
		"says that it closes": {func(s *server, _ int, c net.Conn, requests func() string) {
			s.note(requests())
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
		}, true},
		"answers what nobody asked": {func(s *server, _ int, c net.Conn, requests func() string) {
			s.note(requests())
			_, _ = io.WriteString(c, ok+ok)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newServer(t, c.serve)
			s := New([]*config.Function{{Name: "f", Pods: []netip.AddrPort{pod.addr}, Concurrency: 2, Pipeline: config.PipelineAuto, Timeout: time.Minute}})
			defer s.Close()
			for range 20 {
				if n := succeeded(calls(t, s, 20)); c.exact && n != 20 {
					t.Errorf("%d of 20 were answered", n)
				}
			}
			if n := len(pod.bodies()); c.exact && n != 400 {
				t.Errorf("the pod got %d requests, want 400", n)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if p := s.functions["f"].pods[0]; p.used != 0 || len(p.busy) != 0 {
				t.Errorf("%d places used, %d connections busy", p.used, len(p.busy))
			}
		})
	}
}

// TestWithdrawnCall: a call that waits for a place can be withdrawn, and then neither is sent nor ends; one that
// has its place cannot.
func TestWithdrawnCall(t *testing.T) {
	release := make(chan struct{})
	pod := newServer(t, func(s *server, _ int, c net.Conn, requests func() string) {
		for body := requests(); body != ""; body = requests() {
			s.note(body)
			<-release
			_, _ = io.WriteString(c, ok)
		}
	})
	fn := functions(1, pod.addr)
	fn[0].Pipeline = 1
	s := New(fn)
	defer s.Close()
	ended := make(chan string, 3)
	call := func(body string) *Call {
		return &Call{Function: "f", Timeout: time.Minute, Request: []byte("POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 1\r\n\r\n" + body),
			Done: func(*Call, *Batch) { ended <- body }}
	}
	var b Batch
	first, second, third := call("1"), call("2"), call("3")
	if s.Send(first, &b) || !s.Send(second, &b) || !s.Send(third, &b) {
		t.Error("which of them wait is wrong")
	}
	b.Flush()
	if s.Withdraw(first) || !s.Withdraw(second) || s.Withdraw(second) {
		t.Error("which of them can be withdrawn is wrong")
	}
	close(release)
	if a, b := <-ended, <-ended; a != "1" || b != "3" {
		t.Errorf("%s and %s have ended", a, b)
	}
	if got := pod.bodies(); !slices.Equal(got, []string{"1", "3"}) {
		t.Errorf("the pod got %v", got)
	}
}

// TestSilentPod: a call whose time is up ends, and so do those behind it, which say that it is not their fault.
func TestSilentPod(t *testing.T) {
	pod := newServer(t, func(s *server, _ int, _ net.Conn, requests func() string) {
		for requests() != "" {
			s.note("")
		}
	})
	fn := functions(1, pod.addr)
	fn[0].Pipeline = 8
	s := New(fn)
	defer s.Close()
	ended := make(chan *Call, 2)
	var b Batch
	for range 2 {
		s.Send(&Call{Function: "f", Timeout: 50 * time.Millisecond, Request: []byte("POST / HTTP/1.1\r\nHost: f\r\nContent-Length: 1\r\n\r\n1"),
			Done: func(c *Call, _ *Batch) { ended <- c }}, &b)
		b.Flush()
	}
	for range 2 {
		select {
		case c := <-ended:
			if c.Err == nil {
				t.Error("it was answered")
			}
		case <-time.After(30 * time.Second):
			t.Fatal("a call does not end")
		}
	}
}

// TestAcknowledgedWhileOthersWrite: bytes that are written between the two looks do not make those before them
// unacknowledged, so that their response would seem to have come early.
func TestAcknowledgedWhileOthersWrite(t *testing.T) {
	given, waiting := uint64(1000), 0
	write := func() { given, waiting = given+300, waiting+300 }
	n := atMost(
		func() int { defer write(); return waiting },
		func() uint64 { defer write(); return given })
	if n < 1000 {
		t.Errorf("%d bytes are acknowledged of 1000", n)
	}
}

// TestUnknownIsNotAcknowledged: where it cannot be found out what a pod's TCP has acknowledged, no response counts as one that came
// after its request was received, and no request as one that was not read.
func TestUnknownIsNotAcknowledged(t *testing.T) {
	s := newServer(t, answers)
	tcp, err := connect(context.Background(), s.addr)
	if err != nil {
		t.Fatal(err)
	}
	c := newConn(New(nil), &function{}, &pod{}, tcp)
	c.out.Put([]byte("request"))
	c.Flush()
	_ = c.Close()
	if _, known := c.acknowledged(); known || c.surely() != 0 {
		t.Error("a closed connection says what was acknowledged")
	}
}
