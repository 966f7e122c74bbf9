package pool

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"eproxy/internal/config"
)

// serve runs a pod: f has each connection in turn, which is closed after it.
func serve(t *testing.T, f func(c *net.TCPConn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f(c.(*net.TCPConn))
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// deadline is when a test gives up, long after all is done.
func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

const request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"

// forever writes a piece again and again, until nobody reads any more.
func forever(c *net.TCPConn, first, piece string) {
	_, err := io.WriteString(c, first)
	for err == nil {
		_, err = io.WriteString(c, strings.Repeat(piece, 1000))
	}
}

// TestEndlessResponse: a pod that never ends its head, its interim responses, or
// its trailer section is given up at a bound, with an error that names it.
func TestEndlessResponse(t *testing.T) {
	for name, c := range map[string]struct {
		first, piece, want string
	}{
		"one line":           {"HTTP/1.1 200 OK\r\nX: ", "x", "head longer than 64 KiB"},
		"status line":        {"HTTP/1.1 200 ", "x", "head longer than 64 KiB"},
		"lines":              {"HTTP/1.1 200 OK\r\n", "X: y\r\n", "head longer than 64 KiB"},
		"interim responses":  {"", "HTTP/1.1 103 Early Hints\r\n\r\n", "more than 16 interim responses"},
		"long interim heads": {"", "HTTP/1.1 103 Early Hints\r\nX: " + strings.Repeat("x", 8000) + "\r\n\r\n", "head longer than 64 KiB"},
		"trailer section":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n", "long trailer"},
		"chunk extension":    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0", "line too long"},
		"body":               {"HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 1000), "longer than 16 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, func(s *net.TCPConn) { forever(s, c.first, c.piece) })
			conn, err := net.Dial("tcp", addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if resp, err := NewReader(conn.(*net.TCPConn)).Response(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v; want %q", resp, err, c.want)
			}
		})
	}
}

// TestLongResponses: what is within the bounds is read, one response after another.
func TestLongResponses(t *testing.T) {
	long := strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 16) + "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 60000) + "\r\nTransfer-Encoding: chunked\r\n\r\n" +
		strings.Repeat("fff\r\n"+strings.Repeat("y", 4095)+"\r\n", 64) + "0\r\nTrailer: z\r\n\r\n"
	addr := serve(t, func(s *net.TCPConn) { _, _ = io.WriteString(s, long+long) })
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	r := NewReader(conn.(*net.TCPConn))
	for range 2 {
		resp, err := r.Response()
		if err != nil || resp.Status != 200 || len(resp.Body) != 64*4095 || !resp.KeepAlive {
			t.Fatalf("%+.80v, %v", resp, err)
		}
	}
}

// TestSurplusResponse: a response more than there were requests is not the
// response to the next request, whether it came with the one before or while the
// connection was idle.
func TestSurplusResponse(t *testing.T) {
	for _, when := range []string{"at once", "while idle"} {
		t.Run(when, func(t *testing.T) {
			idle, sent := make(chan struct{}), make(chan struct{})
			first := true
			addr := serve(t, func(s *net.TCPConn) {
				br := bufio.NewReader(s)
				surplus := first
				first = false
				for {
					if _, err := http.ReadRequest(br); err != nil {
						return
					}
					answer := "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown"
					wrong := "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong"
					if surplus && when == "at once" {
						answer += wrong
					}
					_, _ = io.WriteString(s, answer)
					if surplus && when == "while idle" {
						<-idle
						_, _ = io.WriteString(s, wrong)
						close(sent)
					}
					if surplus { // it must not be asked again
						if _, err := br.ReadByte(); err == nil {
							t.Error("the connection is used again")
						}
						return
					}
				}
			})
			p := New([]*config.Function{{Name: "f", Pods: []netip.AddrPort{addr}, Concurrency: 1}})
			defer p.Close()
			for range 2 {
				l, err := p.Acquire(deadline(t), "f", "c", nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := l.Do(deadline(t), []byte(request))
				l.Release()
				if err != nil || string(resp.Body) != "own" {
					t.Fatalf("%+v, %v", resp, err)
				}
				if when == "while idle" && idle != nil {
					close(idle)
					<-sent
					idle = nil
				}
			}
		})
	}
}

// TestEarlyResponseIsNoResponse: a success that comes before the pod's TCP has acknowledged
// the whole request is an error, a refusal is the response.
func TestEarlyResponseIsNoResponse(t *testing.T) {
	for status, want := range map[int]error{200: ErrEarly, 413: nil} {
		stop := make(chan struct{})
		addr := serve(t, func(s *net.TCPConn) {
			_ = s.SetReadBuffer(4096) // the rest of the request cannot be received
			_, _ = s.Read(make([]byte, 1))
			_, _ = fmt.Fprintf(s, "HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", status)
			<-stop
		})
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		conn := c.(*net.TCPConn)
		written := make(chan struct{})
		go func() {
			defer close(written)
			_, _ = conn.Write(make([]byte, 64<<20)) // more than both ends buffer
		}()
		resp, err := NewReader(conn).Response()
		if !errors.Is(err, want) || want == nil && resp.Status != status {
			t.Errorf("%d: %+v, %v", status, resp, err)
		}
		conn.Close()
		close(stop)
		<-written
	}
}

// TestErrorNamesRedirection: an error names where a redirection leads, in a bounded and printable form.
func TestErrorNamesRedirection(t *testing.T) {
	for _, c := range []struct {
		status   int
		location string
		want     string
	}{
		{301, "https://temp.local/ingest", "function answered 301, Location: https://temp.local/ingest (redirections are not followed)"},
		{307, "", "function answered 307"},
		{201, "/new", "function answered 201"},
		{302, "/a\x1b[31m\tb\u2028\xff", `function answered 302, Location: /a\x1b[31m\tb\u2028\xff (redirections are not followed)`},
		{308, "/" + strings.Repeat("x", 300), "function answered 308, Location: /" + strings.Repeat("x", 255) + "... (redirections are not followed)"},
	} {
		err := NewStatusError(&Response{Status: c.status, Header: http.Header{"Location": {c.location}}})
		if got := err.Error(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
