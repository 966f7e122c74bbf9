package netns

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eproxy/test/lib/await"
	"eproxy/test/lib/lab"
)

// pipelinerManner is what a pipeliner does with a request that it has read; more: another one stands behind it. False ends
// the connection.
type pipelinerManner func(p *pipeliner, c net.Conn, br *bufio.Reader, body string, more bool) bool

// pipeliner is a function that reads as HTTP/1.1 has it, one request after another, and does with
// those that it finds behind another one what its manner says.
type pipeliner struct {
	*recorder
	manner   pipelinerManner
	together atomic.Int64 // requests that it found behind another one
	ended    atomic.Int64 // connections that it has closed for that
}

const pipelinerOK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// next reads a request. It says whether another one has come with it, after a moment in which
// that may come: a request at a time would have no company.
func (p *pipeliner) next(c net.Conn, br *bufio.Reader) (body string, more bool, ok bool) {
	_ = c.SetReadDeadline(time.Time{})
	q, err := http.ReadRequest(br)
	if err != nil {
		return "", false, false
	}
	b, err := io.ReadAll(q.Body)
	if err != nil {
		return "", false, false
	}
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
	if _, err = br.Peek(1); err == nil {
		p.together.Add(1)
		more = true
	}
	return string(b), more, true
}

// answer is what becomes of a request that is served.
func (p *pipeliner) answer(c net.Conn, body string) {
	p.add(request{body: body})
	_, _ = io.WriteString(c, pipelinerOK)
}

// inOrder answers it.
func inOrder(p *pipeliner, c net.Conn, _ *bufio.Reader, body string, _ bool) bool {
	p.answer(c, body)
	return true
}

// onlyFirst answers the first request of what it has read, and forgets the rest of it.
func onlyFirst(p *pipeliner, c net.Conn, br *bufio.Reader, body string, more bool) bool {
	if more {
		_, _ = br.Discard(br.Buffered())
	}
	p.answer(c, body)
	return true
}

// closes ends the connection where a request has company: with FIN, behind the first response.
func closes(p *pipeliner, c net.Conn, br *bufio.Reader, body string, more bool) bool {
	if more {
		_ = c.SetReadDeadline(time.Time{})
		_, _ = br.Discard(br.Buffered())
		p.ended.Add(1)
	}
	p.answer(c, body)
	return !more
}

// resets ends it without any response.
func resets(p *pipeliner, c net.Conn, _ *bufio.Reader, body string, more bool) bool {
	if more {
		p.ended.Add(1)
		_ = c.(*net.TCPConn).SetLinger(0)
		return false
	}
	p.answer(c, body)
	return true
}

// says ends it as HTTP has it: the first response says that it is the last.
func says(p *pipeliner, c net.Conn, br *bufio.Reader, body string, more bool) bool {
	if !more {
		p.answer(c, body)
		return true
	}
	p.ended.Add(1)
	p.add(request{body: body})
	_, _ = io.WriteString(c, strings.Replace(pipelinerOK, "\r\n", "\r\nConnection: close\r\n", 1))
	_, _ = br.Discard(br.Buffered())
	return false
}

// refuses takes what stands behind another request for no request.
func refuses(p *pipeliner, c net.Conn, br *bufio.Reader, body string, more bool) bool {
	p.answer(c, body)
	if more {
		_, _ = br.Discard(br.Buffered())
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	}
	return true
}

// mixes begins the second response inside the first.
func mixes(p *pipeliner, c net.Conn, br *bufio.Reader, body string, more bool) bool {
	if !more {
		p.answer(c, body)
		return true
	}
	p.ended.Add(1)
	second, _, _ := p.next(c, br)
	p.add(request{body: body})
	p.add(request{body: second})
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokok")
	return true
}

func (p *pipeliner) serve(t *testing.T, l *lab.Lab) {
	t.Helper()
	ln, err := l.Listen(lab.Pod0, fmt.Sprintf("%s:8080", lab.PodAddr(lab.Pod0, false)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				br := bufio.NewReader(c)
				for {
					body, more, ok := p.next(c, br)
					if !ok || !p.manner(p, c, br, body, more) {
						return
					}
				}
			}()
		}
	}()
}

// One attempt: what is tried with a message must not cost it its own.
const pipelineConfig = `functions:
  - {name: temp, url: "http://temp.local/ingest", pods: ["%s:8080"], concurrency: 2, timeout: 8s, retry: {attempts: 1, backoff: 20ms}}
routes:
  - {topic: sensors/+/temp, function: temp}
` + metricsConfig

// load has clients publish as long as it is to go on; each message has its own payload. It returns them all
// when each is acknowledged.
func load(t *testing.T, l *lab.Lab, clients, window int, qos func(n int) byte, enough <-chan struct{}) (sent []message) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range clients {
		c := rawConnect(t, l, fmt.Sprintf("load%d", i))
		wg.Go(func() {
			err := c.tryPublishAll(func(yield func(message) bool) {
				for n := range math.MaxUint16 {
					select {
					case <-enough:
						return
					default:
					}
					m := message{topic: "sensors/load/temp", payload: fmt.Sprintf("%d-%d", i, n), qos: qos(n)}
					mu.Lock()
					sent = append(sent, m)
					mu.Unlock()
					if !yield(m) {
						return
					}
				}
			}, window, hung)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return sent
}

// TestPipelineThatPodsCannot: with the defaults, under a load that has more messages than
// connections. A server that does something else than answer requests in order gets one at a time
// once that was seen, and the reason is counted and shown. Each QoS 1 message is acknowledged, and
// was answered, whatever became of it behind another one; QoS 0 messages never stand behind one. A server that answers in
// order gets several.
func TestPipelineThatPodsCannot(t *testing.T) {
	for _, c := range []struct {
		name    string
		manner  pipelinerManner
		reasons []string // of which one is counted; none: it does as it should
	}{
		{"only the first", onlyFirst, []string{"stalled"}},
		{"closes", closes, []string{"closed"}},
		{"resets", resets, []string{"closed"}},
		{"refuses", refuses, []string{"status"}},
		{"mixes", mixes, []string{"broken", "stalled", "closed"}},
		{"says so and closes", says, nil},
		{"in order", inOrder, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			p := &pipeliner{recorder: newRecorder(), manner: c.manner}
			p.serve(t, l)
			s := start(t, l, "tc", fmt.Sprintf(pipelineConfig, lab.PodAddr(lab.Pod0, false)))
			enough := make(chan struct{})
			var sent []message
			var loaded sync.WaitGroup
			loaded.Go(func() {
				sent = load(t, l, 3, 12, func(n int) byte { return byte(1 - n%4/3) }, enough) // each fourth is QoS 0
			})
			seen := waitPipeline(t, s, p, c.reasons)
			close(enough)
			loaded.Wait()
			if t.Failed() {
				return
			}
			answered := map[string]int{}
			for _, q := range p.settled(t, sent) {
				answered[q.body]++
			}
			for _, m := range sent {
				if answered[m.payload] == 0 {
					t.Errorf("%q (QoS %d) was not answered", m.payload, m.qos)
				}
			}
			t.Logf("%d messages, %d requests behind another, %v", len(sent), p.together.Load(), seen)
		})
	}
}

// waitPipeline waits until the server has shown what it does, and that is known of it. It returns what
// mapsctl says then.
func waitPipeline(t *testing.T, s *system, p *pipeliner, reasons []string) (seen map[string]any) {
	t.Helper()
	if !await.Within(hung, func() bool { seen = s.mapsctl("pods")[0]; return p.known(t, s, seen, reasons) }) {
		t.Errorf("mapsctl pods says %v, with %d requests behind another", seen, p.together.Load())
	}
	return seen
}

func (p *pipeliner) known(t *testing.T, s *system, seen map[string]any, reasons []string) bool {
	depth := int(seen["pipeline"].(float64))
	if len(reasons) == 0 && p.ended.Load() == 0 {
		return depth >= 8
	}
	if len(reasons) == 0 {
		return p.ended.Load() >= 3
	}
	series := scrapeSeries(t, s.lab)
	return depth == 1 && slices.ContainsFunc(reasons, func(r string) bool {
		return series.sum("eproxy_pipeline_troubles_total", `reason="`+r+`"`) > 0
	})
}

// settled are the requests once each of the messages was answered, or will not be.
func (p *pipeliner) settled(t *testing.T, sent []message) []request {
	t.Helper()
	late := time.After(hung)
	for {
		got, more := p.all()
		seen := map[string]bool{}
		for _, q := range got {
			seen[q.body] = true
		}
		if !slices.ContainsFunc(sent, func(m message) bool { return !seen[m.payload] }) {
			return got
		}
		select {
		case <-more:
		case <-late:
			return got
		}
	}
}
