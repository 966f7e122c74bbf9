package netns

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// request is what a function got.
type request struct {
	headers map[string]string // lower-case names
	body    string
	number  int64  // of a Go function's: the one that its behaviour gets
	status  int    // what another program answered, or is about to
	head    string // of serveWire's: as it came
}

// recorder collects what all functions of a test got.
type recorder struct {
	readers sync.WaitGroup // of the output of functions in processes of their own
	mu      sync.Mutex
	got     []request
	more    chan struct{} // closed and replaced at every request

	bodies map[int64]string
}

func newRecorder() *recorder {
	return &recorder{more: make(chan struct{}), bodies: make(map[int64]string)}
}

func (r *recorder) add(q request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, q)
	close(r.more)
	r.more = make(chan struct{})
}

// all are the requests so far, and what is closed at the next one.
func (r *recorder) all() ([]request, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]request(nil), r.got...), r.more
}

// body is what the n-th request of a function carried; the number is the one that
// a behaviour gets.
func (r *recorder) body(n int64) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.bodies[n]
	return b, ok
}

// forget makes room: rounds that are checked.
func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = nil
	clear(r.bodies)
}

// wait waits until there are n requests.
func (r *recorder) wait(t *testing.T, n int) []request {
	t.Helper()
	return r.waitFor(t, n, "all together")
}

// waitFor waits until there are n requests with those of a client, which it names otherwise.
func (r *recorder) waitFor(t *testing.T, n int, what string) []request {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		got, more := r.all()
		if len(got) >= n {
			return got
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("%s: %d of %d messages reached the function", what, len(got), n)
		}
	}
}

// serveGo serves a Go function on both pods.
func (r *recorder) serveGo(t *testing.T, l *lab.Lab, ipv6 bool, b behaviour, change func(*http.Server)) {
	t.Helper()
	r.serveGoAt(t, l, ipv6, 8080, b, change)
}

func (r *recorder) serveGoAt(t *testing.T, l *lab.Lab, ipv6 bool, port int, b behaviour, change func(*http.Server)) {
	t.Helper()
	h := r.handler(b)
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		serveOn(t, l, pod, net.JoinHostPort(lab.PodAddr(pod, ipv6).String(), strconv.Itoa(port)), h, change)
	}
}

// handler records requests and answers them as b does.
func (r *recorder) handler(b behaviour) http.Handler {
	var n atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			return
		}
		headers := map[string]string{"host": q.Host}
		for k, v := range q.Header {
			headers[strings.ToLower(k)] = v[0]
		}
		number := n.Add(1)
		r.add(request{headers: headers, body: string(body), number: number})
		r.mu.Lock()
		r.bodies[number] = string(body)
		r.mu.Unlock()
		b(number, w, q)
	})
}

// serveOn serves a Go function at an address of some host until the test ends.
func serveOn(t *testing.T, l *lab.Lab, host lab.Role, address string, h http.Handler, change func(*http.Server)) {
	t.Helper()
	ln, err := l.Listen(host, address)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	if change != nil {
		change(srv)
	}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
}

// serveCommand serves a function by another program, on both pods. Its
// standard output is what it got, a JSON object per line.
func serveCommand(t *testing.T, l *lab.Lab, got func(request), name string, args ...string) {
	t.Helper()
	for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
		cmd := lab.Command(context.Background(), name, args...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		p, err := l.StartServing(pod, cmd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		go readJSON(out, got)
	}
}

func readJSON(out io.Reader, got func(request)) {
	sc := bufio.NewScanner(out)
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		var line struct {
			Headers map[string]string `json:"headers"`
			Body    string            `json:"body"`
			Status  int               `json:"status"`
		}
		if json.Unmarshal(sc.Bytes(), &line) != nil {
			continue
		}
		body, _ := base64.StdEncoding.DecodeString(line.Body)
		got(request{headers: line.Headers, body: string(body), status: line.Status})
	}
}

// waitListening waits until a host accepts connections on a port.
func waitListening(t *testing.T, l *lab.Lab, pod lab.Role, port int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := l.Dial(ctx, lab.Node, net.JoinHostPort(lab.PodAddr(pod, false).String(), strconv.Itoa(port)))
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s does not listen: %v", pod, err)
		case <-tick.C:
		}
	}
}
