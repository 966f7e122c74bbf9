package netns

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"eproxy/test/lib/lab"
)

// orderedConfig has one function on two pods, each of which takes several requests at a time, for an ordered route and another one.
const orderedConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%[1]s", "%[2]s"]
    retry: {attempts: 4, backoff: 10ms, max_backoff: 50ms}
routes:
  - {topic: "sensors/+/temp", function: temp, ordered: true}
  - {topic: "loose/#", function: temp}
`

// inLine is a function that watches the order of each client's messages on each route: their payloads are numbers that rise.
type inLine struct {
	mu       sync.Mutex
	underWay map[string]string // by line, the payload that the function has
	last     map[string]string // by line, of the message that was answered with 2xx last
	answered map[string]int
	wrong    []string
}

func newInLine() *inLine {
	return &inLine{underWay: make(map[string]string), last: make(map[string]string), answered: make(map[string]int)}
}

// watch is a behaviour that answers as b does, and notes what comes before its time.
func (o *inLine) watch(r *recorder, b behaviour) behaviour {
	return func(n int64, w http.ResponseWriter, q *http.Request) {
		payload, _ := r.body(n)
		line := q.Header.Get("Ce-Source") + " " + strings.SplitN(q.Header.Get("Ce-Subject"), "/", 2)[0]
		o.begin(line, payload)
		s := &status{ResponseWriter: w, code: 200}
		b(n, s, q)
		o.end(line, payload, s.code)
	}
}

func (o *inLine) begin(line, payload string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if other, some := o.underWay[line]; some {
		o.wrong = append(o.wrong, fmt.Sprintf("%s: %s comes while %s is under way", line, payload, other))
	}
	if payload < o.last[line] {
		o.wrong = append(o.wrong, fmt.Sprintf("%s: %s comes after %s", line, payload, o.last[line]))
	}
	o.underWay[line] = payload
}

// end: what is written to w leaves when this has returned.
func (o *inLine) end(line, payload string, code int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.underWay, line)
	if code/100 == 2 {
		o.last[line] = payload
		o.answered[line]++
	}
}

// check fails if something was out of order.
func (o *inLine) check(t *testing.T) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, w := range o.wrong {
		if i == 10 {
			t.Errorf("and %d more", len(o.wrong)-i)
			break
		}
		t.Error(w)
	}
}

// status is a ResponseWriter that knows what it has written.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// publishMixed publishes payloads in ways of which the kernel path takes some, so many at a time; the last ones may be under way when it returns.
func publishMixed(t *testing.T, c mqtt.Client, topic string, payloads []string, window int) (tokens []mqtt.Token) {
	t.Helper()
	for k, p := range payloads {
		qos, retained := byte(1), false
		switch {
		case k%29 == 28:
			qos = 2
		case k%31 == 30:
			retained = true
		case k%23 == 22:
			p += strings.Repeat(" ", 4000)
		case k%5 == 4:
			qos = 0
		}
		tokens = append(tokens, c.Publish(topic, qos, retained, p))
		if k >= window {
			published(t, tokens[k-window:k-window+1])
		}
	}
	return tokens
}

// numbers are n payloads that rise, from this one on.
func numbers(from, n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%05d", from+i))
	}
	return out
}

// published waits until the messages are acknowledged.
func published(t *testing.T, tokens []mqtt.Token) {
	t.Helper()
	for i, tok := range tokens {
		if err := done(tok); err != nil {
			t.Fatalf("message %d of %d: %v", i, len(tokens), err)
		}
	}
}

// TestOrderedRouteStaysInTheKernel: clients have many messages in flight on an ordered route: of each the function gets one at a time, in
// order, QoS 0 and 1 mixed, and nearly all by way of the kernel.
func TestOrderedRouteStaysInTheKernel(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			const clients, n, window = 4, 400, 50
			l := newLab(t)
			r := newRecorder()
			o := newInLine()
			r.serveGo(t, l, false, o.watch(r, ok), nil)
			s := start(t, l, mode, podConfig(orderedConfig, false))
			before := s.counts()
			var all sync.WaitGroup
			for i := range clients {
				c := pahoConnect(t, l, fmt.Sprintf("ordered%d", i))
				all.Go(func() {
					free := make(chan struct{}, window)
					var acks sync.WaitGroup
					for k, p := range numbers(0, n) {
						free <- struct{}{}
						tok := c.Publish(fmt.Sprintf("sensors/ordered%d/temp", i), min(1, byte(k%4)), false, p)
						acks.Go(func() {
							if err := done(tok); err != nil {
								t.Errorf("message %s of client %d: %v", p, i, err)
							}
							<-free
						})
					}
					acks.Wait()
				})
			}
			all.Wait()
			r.wait(t, clients*n)
			o.check(t)
			after := s.counts()
			taken, _ := share(before, after)
			t.Logf("the kernel took %d of %d; reasons: %v", taken, clients*n, after)
			if taken < clients*n*9/10 {
				t.Errorf("the kernel took %d of %d messages: %v", taken, clients*n, after)
			}
			s.slotsReturn(t)
		})
	}
}

// pahoConnect connects a client.
func pahoConnect(t *testing.T, l *lab.Lab, id string) mqtt.Client {
	t.Helper()
	addr := net.JoinHostPort(lab.NodeV4.String(), "1883")
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(id).SetAutoReconnect(false)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
		return l.Dial(context.Background(), lab.Dev, addr)
	})
	c := mqtt.NewClient(o)
	if err := done(c.Connect()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// TestOrderAcrossPaths: messages that the programs take, such as only the server can (QoS 2, retained, in several segments), failed attempts, which the server
// repeats, and connections that end while messages are under way: all of a client come in order, one at a time.
func TestOrderAcrossPaths(t *testing.T) {
	for _, mode := range []string{"tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			const rounds, n, window = 6, 120, 10
			l := newLab(t)
			r := newRecorder()
			o := newInLine()
			r.serveGo(t, l, false, o.watch(r, func(k int64, w http.ResponseWriter, q *http.Request) {
				if k%7 == 0 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				ok(k, w, q)
			}), nil)
			s := start(t, l, mode, podConfig(orderedConfig, false))
			before := s.counts()
			for round := range rounds {
				c := pahoConnect(t, l, "mixed")
				tokens := publishMixed(t, c, "sensors/mixed/temp", numbers(round*n, n), window)
				if round%2 == 0 {
					published(t, tokens)
				} else {
					published(t, tokens[:n/2]) // the rest is under way when the connection ends
				}
				c.Disconnect(0)
			}
			c := pahoConnect(t, l, "mixed")
			published(t, []mqtt.Token{c.Publish("sensors/mixed/temp", 1, false, numbers(rounds*n, 1)[0])})
			o.check(t)
			after := s.counts()
			taken, _ := share(before, after)
			t.Logf("the kernel took %d of %d; reasons: %v", taken, rounds*n, after)
			if mode != "fallback" && taken < rounds*n/4 {
				t.Errorf("the kernel took %d of %d messages: %v", taken, rounds*n, after)
			}
		})
	}
}

// TestOrderedFromReloadOn: a route becomes ordered while its messages are under way: what is sent from then on comes in order, and by way of the kernel.
func TestOrderedFromReloadOn(t *testing.T) {
	const n, from = 300, 1000
	l := newLab(t)
	r := newRecorder()
	o := newInLine()
	watched := o.watch(r, ok)
	r.serveGo(t, l, false, func(k int64, w http.ResponseWriter, q *http.Request) {
		if p, _ := r.body(k); p < numbers(from, 1)[0] {
			ok(k, w, q)
			return
		}
		watched(k, w, q)
	}, nil)
	s := start(t, l, "tc", podConfig(strings.Replace(orderedConfig, ", ordered: true", "", 1), false))
	c := pahoConnect(t, l, "reload")
	publish := func(numbers []string) (tokens []mqtt.Token) {
		for _, p := range numbers {
			tokens = append(tokens, c.Publish("sensors/reload/temp", 1, false, p))
		}
		return tokens
	}
	tokens := publish(numbers(0, n))
	s.reload("function: temp}\n  - {topic: \"loose", "function: temp, ordered: true}\n  - {topic: \"loose", "reloaded")
	before := s.counts()
	published(t, append(tokens, publish(numbers(from, n))...))
	o.check(t)
	if taken, _ := share(before, s.counts()); taken < n*3/4 {
		t.Errorf("the kernel took %d of %d messages of the ordered route: %v", taken, n, s.counts())
	}
}
