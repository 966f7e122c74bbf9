package netns

import (
	"context"
	"crypto/sha256"
	"fmt"
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

// counted is a pod's end of a slot that knows its sequence numbers.
type counted struct {
	net.Conn
	sent, received           atomic.Uint64 // bytes
	firstSent, firstReceived uint32        // sequence numbers
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(uint64(n))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(uint64(n))
	return n, err
}

// responsesLeft are the bytes of responses that come before sequence number 2^32;
// negative when it has come since the connection began.
func (c *counted) responsesLeft() int64 { return 1<<32 - int64(c.firstSent) - int64(c.sent.Load()) }

// requestsLeft is the same of requests.
func (c *counted) requestsLeft() int64 {
	return 1<<32 - int64(c.firstReceived) - int64(c.received.Load())
}

// countedListener accepts counted connections.
type countedListener struct {
	net.Listener
	t *testing.T
}

func (l countedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &counted{Conn: nc}
	if c.firstSent, c.firstReceived, err = positions(nc); err != nil {
		l.t.Error(err)
	}
	return c, nil
}

// sizedFunction answers with as many bytes as a request's payload asks for, and
// remembers the slots and how often each payload came.
type sizedFunction struct {
	mu    sync.Mutex
	slots map[string]*counted       // by function
	got   map[[sha256.Size]byte]int // payloads
}

type connKey struct{}

func (f *sizedFunction) serve(t *testing.T, l *lab.Lab, pod lab.Role) {
	t.Helper()
	ln, err := l.Listen(pod, net.JoinHostPort(lab.PodAddr(pod, false).String(), "8080"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			body, err := io.ReadAll(q.Body)
			if err != nil {
				return
			}
			word, _, _ := strings.Cut(string(body[:min(len(body), 20)]), " ")
			size, err := strconv.Atoi(word)
			if err != nil {
				t.Errorf("a request begins with %q", word)
			}
			f.mu.Lock()
			f.slots[q.Host] = q.Context().Value(connKey{}).(*counted)
			f.got[sha256.Sum256(body)]++
			f.mu.Unlock()
			w.Header().Set("Content-Length", strconv.Itoa(size))
			chunk := make([]byte, 1<<20)
			for size > 0 {
				n, err := w.Write(chunk[:min(size, len(chunk))])
				if err != nil {
					return
				}
				size -= n
			}
		}),
	}
	go func() { _ = srv.Serve(countedListener{ln, t}) }()
	t.Cleanup(func() { _ = srv.Close() })
}

// wrapFunctions is the number of functions, each with one connection: of so many
// sequence numbers some are near 2^32.
const wrapFunctions = 200

func wrapPodConfig() string {
	var b strings.Builder
	b.WriteString("functions:\n")
	for i := range wrapFunctions {
		pod := []lab.Role{lab.Pod0, lab.Pod1}[i%2]
		fmt.Fprintf(&b, "  - {name: f%d, url: \"http://f%d.local/\", pods: [\"%s:8080\"], concurrency: 1, timeout: 60s}\n", i, i, lab.PodAddr(pod, false))
	}
	b.WriteString("routes:\n")
	for i := range wrapFunctions {
		fmt.Fprintf(&b, "  - {topic: \"t/f%d\", function: f%d}\n", i, i)
	}
	return b.String() + "limits: {pods: 200, max_packet_size: 2097152}\n"
}

// wrapper publishes to functions of TestSequenceWrapPod.
type wrapper struct {
	*rawConn
	f    *sizedFunction
	want map[[sha256.Size]byte]bool
	n    int
}

// call makes a function answer with so many bytes to a message of so many.
func (w *wrapper) call(function string, response, payload int) {
	w.t.Helper()
	w.n++
	body := fmt.Sprintf("%d %d ", response, w.n)
	body += strings.Repeat(string(rune('a'+w.n%26)), max(0, payload-len(body)))
	w.want[sha256.Sum256([]byte(body))] = true
	_ = w.SetDeadline(time.Now().Add(stallLimit))
	w.publish("t/"+function, uint16(w.n%60000+1), body)
}

// connect calls functions until each has a slot, which answers; what came before may
// have been the fallback's.
func (w *wrapper) connect(s *system, n int) {
	w.t.Helper()
	eventually(w.t, func() (bool, string) {
		before := s.counts()
		for i := range n {
			w.call(fmt.Sprintf("f%d", i), 10, 20)
		}
		taken, _ := share(before, s.counts())
		return taken == n, fmt.Sprintf("%d of %d functions answer in the kernel", taken, n)
	})
}

// slot is the connection of a function.
func (w *wrapper) slot(function string) *counted {
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	return w.f.slots[function+".local"]
}

// nearest are the functions whose connections have the least to go before the
// wrap of their responses or requests.
func (w *wrapper) nearest(n int, left func(*counted) int64) []string {
	var out []string
	used := map[int]bool{}
	for range n {
		best := -1
		for i := range wrapFunctions {
			v := left(w.slot(fmt.Sprintf("f%d", i)))
			if v > 0 && !used[i] && (best < 0 || v < left(w.slot(fmt.Sprintf("f%d", best)))) {
				best = i
			}
		}
		used[best] = true
		out = append(out, fmt.Sprintf("f%d", best))
	}
	return out
}

// wrapCases are bytes before the wrap at which small messages follow; the modes
// share them, since getting there takes time.
var wrapCases = []struct {
	mode                string
	responses, requests []int64
}{
	{"xdp", []int64{0, 30_000}, []int64{60, 1200}},
	{"tc", []int64{40, 300}, []int64{0, 400}},
}

// TestSequenceWrapPod: connections to pods pass sequence number 2^32: in their responses
// and in requests; in a head, in a body, and between two messages.
func TestSequenceWrapPod(t *testing.T) {
	for _, k := range wrapCases {
		t.Run(k.mode, func(t *testing.T) {
			l := newLab(t)
			f := &sizedFunction{slots: map[string]*counted{}, got: map[[sha256.Size]byte]int{}}
			f.serve(t, l, lab.Pod0)
			f.serve(t, l, lab.Pod1)
			s := start(t, l, k.mode, wrapPodConfig())
			w := &wrapper{rawConn: rawConnect(t, l, "wrap"), f: f, want: map[[sha256.Size]byte]bool{}}
			w.connect(s, wrapFunctions)
			for i, name := range w.nearest(len(k.responses), (*counted).responsesLeft) {
				w.responsesTo(name, k.responses[i])
				size := 10
				if k.responses[i] > 10_000 {
					size = 40_000 // in the midst of the body
				}
				for range 8 {
					w.call(name, size, 20)
				}
				if left := w.slot(name).responsesLeft(); left > 0 {
					t.Errorf("%d bytes of responses before the wrap: the test tests nothing", left)
				}
			}
			for i, name := range w.nearest(len(k.requests), (*counted).requestsLeft) {
				w.requestsTo(name, k.requests[i])
				for range 6 {
					w.call(name, 10, 600)
				}
				if left := w.slot(name).requestsLeft(); left > 0 {
					t.Errorf("%d bytes of requests before the wrap: the test tests nothing", left)
				}
			}
			w.done()
			counts := s.counts()
			taken, _ := share(nil, counts)
			t.Logf("%d messages, %d taken in the kernel; %d responses digested there; %d segments came ahead", w.n, taken, counts["tc_pod_in/response"], counts["tc_device_in/ahead"])
			if counts["tc_pod_in/slot_retired"] > 0 || counts["control/taken_over"] > 0 || taken < wrapFunctions+20 {
				t.Errorf("connections broke, or the kernel took too little: %v", counts)
			}
			s.slotsReturn(t)
		})
	}
}

// responsesTo has a function answer at length until exactly so many bytes are
// left to go before the wrap.
func (w *wrapper) responsesTo(name string, left int64) {
	w.t.Helper()
	w.call(name, 10, 20)
	c := w.slot(name)
	before := c.sent.Load()
	w.call(name, 10, 20)
	head := int64(c.sent.Load()-before) - 10 - 2 // less the body and the digits of its length
	w.t.Logf("%s: %d bytes of responses before the wrap", name, c.responsesLeft())
	for {
		togo := c.responsesLeft() - left
		if togo <= 0 {
			break
		}
		size := min(togo, 64<<20) - head
		if rest := togo - head - size; rest > 0 && rest < 1000 {
			size -= 1000
		}
		size -= int64(len(strconv.FormatInt(size, 10)))
		if size <= 0 {
			break
		}
		w.call(name, int(size), 20)
	}
}

// requestsTo sends messages to a function, as long as the kernel path takes them, until
// about so many bytes are left to go before the wrap.
func (w *wrapper) requestsTo(name string, left int64) {
	w.t.Helper()
	c := w.slot(name)
	w.t.Logf("%s: %d bytes of requests before the wrap", name, c.requestsLeft())
	const most = 1000 // bytes of payload
	before := c.requestsLeft()
	w.call(name, 10, most)
	overhead := before - c.requestsLeft() - most
	for {
		size := min(c.requestsLeft()-left-overhead, most)
		if size < 20 {
			break
		}
		w.call(name, 10, int(size))
	}
}

// done checks that every payload came exactly once.
func (w *wrapper) done() {
	w.t.Helper()
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	for h := range w.want {
		if w.f.got[h] != 1 {
			w.t.Errorf("a message was delivered %d times", w.f.got[h])
		}
	}
	if len(w.f.got) != len(w.want) {
		w.t.Errorf("%d different messages delivered, %d sent", len(w.f.got), len(w.want))
	}
}

// TestConnectionPast4GiB: one connection to a pod brings more than 4 GiB of responses, so
// that every sequence number occurs.
func TestConnectionPast4GiB(t *testing.T) {
	l := newLab(t)
	f := &sizedFunction{slots: map[string]*counted{}, got: map[[sha256.Size]byte]int{}}
	f.serve(t, l, lab.Pod0)
	f.serve(t, l, lab.Pod1)
	s := start(t, l, "xdp", wrapPodConfig())
	w := &wrapper{rawConn: rawConnect(t, l, "wrap"), f: f, want: map[[sha256.Size]byte]bool{}}
	w.connect(s, 1)
	c := w.slot("f0")
	for c.sent.Load() < 5<<30 {
		w.call("f0", 64<<20, 20)
	}
	w.done()
	if w.slot("f0") != c || s.counts()["control/taken_over"] > 0 {
		t.Error("the connection broke")
	}
}
