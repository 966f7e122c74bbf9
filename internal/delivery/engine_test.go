package delivery

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/pool"
	"eproxy/internal/request"
	"eproxy/test/lib/bubble"
)

// exchange is what one attempt comes to.
type exchange func(ctx context.Context, request []byte) (*pool.Response, error)

// script is a pool whose attempts come to this, one after the other; a nil one
// waits for a connection until its context ends.
type script struct {
	steps []exchange
	made  atomic.Int32
}

func (s *script) Acquire(ctx context.Context, _, _ string, _ []netip.AddrPort) (pool.Lease, error) {
	step := s.steps[min(int(s.made.Load()), len(s.steps)-1)]
	if step == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.made.Add(1)
	return lease{step}, nil
}

type lease struct{ step exchange }

func (l lease) Pod() netip.AddrPort { return netip.MustParseAddrPort("10.0.0.1:80") }
func (l lease) Release()            {}
func (l lease) Do(ctx context.Context, b []byte) (*pool.Response, error) {
	return l.step(ctx, b)
}

func answers(status int) exchange {
	return func(context.Context, []byte) (*pool.Response, error) { return &pool.Response{Status: status}, nil }
}

func fails(err error) exchange {
	return func(context.Context, []byte) (*pool.Response, error) { return nil, err }
}

// hangs is a function that does not answer.
func hangs(ctx context.Context, _ []byte) (*pool.Response, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

var errReset = errors.New("connection reset")

// bench is an engine with one function.
type bench struct {
	t     *testing.T
	e     *Engine
	fn    *config.Function
	route *config.Route
	pool  *script
}

func newBench(t *testing.T, attempts int, steps ...exchange) *bench {
	t.Helper()
	u, err := url.Parse("http://f.local/x")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, pool: &script{steps: steps}, route: &config.Route{Functions: []string{"f"}}}
	b.fn = &config.Function{Name: "f", URL: u, Timeout: 30 * time.Second, Deadline: time.Hour,
		Retry:      config.Retry{Attempts: attempts, Backoff: time.Second, MaxBackoff: time.Second},
		DeadLetter: &config.DeadLetter{File: filepath.Join(t.TempDir(), "dead.jsonl")}}
	b.e = New(&config.Config{Functions: []*config.Function{b.fn}}, b.pool, Options{})
	return b
}

// letters are the dead letters so far.
func (b *bench) letters() (out []Letter) {
	b.t.Helper()
	data, err := os.ReadFile(b.fn.DeadLetter.File)
	if err != nil && !os.IsNotExist(err) {
		b.t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var l Letter
		if err := json.Unmarshal(line, &l); err != nil {
			b.t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

// TestTraceOfAttempts: a message without a trace begins one where a function wants that, and all its attempts, at all its functions,
// belong to it.
func TestTraceOfAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []string
		step := func(status int) exchange {
			return func(ctx context.Context, req []byte) (*pool.Response, error) {
				_, after, _ := bytes.Cut(req, []byte("\r\ntraceparent: "))
				parent, _, _ := bytes.Cut(after, []byte("\r\n"))
				seen = append(seen, string(parent))
				return answers(status)(ctx, req)
			}
		}
		b := newBench(t, 3, step(503), step(503), step(200))
		b.fn.Tracing = 1
		for range 2 {
			b.e.Deliver(t.Context(), b.route, &request.Message{Topic: "t", QoS: 1})
		}
		if len(seen) != 4 || seen[0] == "" || seen[0] != seen[1] || seen[1] != seen[2] || seen[3] == seen[2] {
			t.Errorf("traces of three attempts and another message: %q", seen)
		}
	})
}

// TestStatusOfDeadLetter: a dead letter has the last status that the function answered,
// whatever became of later attempts.
func TestStatusOfDeadLetter(t *testing.T) {
	for _, c := range []struct {
		name     string
		attempts int
		first    error // of an attempt that was made elsewhere
		steps    []exchange
		want     int
		text     string
	}{
		{"answer, then none", 2, nil, []exchange{answers(503), fails(errReset)}, 503, "reset"},
		{"no answer, then one", 2, nil, []exchange{fails(errReset), answers(503)}, 503, "answered 503"},
		{"two answers", 2, nil, []exchange{answers(503), answers(500)}, 500, "answered 500"},
		{"no answer at all", 2, nil, []exchange{fails(errReset)}, 0, "reset"},
		{"answer in the kernel path, no attempt left", 1, &pool.StatusError{Status: 503}, []exchange{nil}, 503, "answered 503"},
		{"answer in the kernel path, then none", 2, &pool.StatusError{Status: 503}, []exchange{fails(errReset)}, 503, "reset"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, c.attempts, c.steps...)
				m := &request.Message{QoS: 1}
				var o Outcome
				if c.first != nil {
					o = b.e.DeliverRequest(t.Context(), b.fn, nil, m, time.Now(), nil, 1, c.first)
				} else {
					o = b.e.Deliver(t.Context(), b.route, m)
				}
				l := b.letters()
				if len(l) != 1 || l[0].Status != c.want || !strings.Contains(l[0].Error, c.text) || l[0].Attempts != c.attempts {
					t.Errorf("%+v, want status %d and %q", l, c.want, c.text)
				}
				if !o.Acked || o.Name() != "dead_letter" {
					t.Errorf("%+v", o)
				}
			})
		})
	}
}

// TestShutdownIsNoFailure: when the server ends, messages that have attempts left are neither
// dead letters nor acknowledged; their clients have them.
func TestShutdownIsNoFailure(t *testing.T) {
	for _, c := range []struct {
		name     string
		attempts int
		steps    []exchange
	}{
		{"waiting for a connection", 3, []exchange{nil}},
		{"waiting for a connection, last attempt", 1, []exchange{nil}},
		{"waiting for the response", 3, []exchange{hangs}},
		{"waiting for the response, last attempt", 1, []exchange{hangs}},
		{"between two attempts", 3, []exchange{answers(503)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, c.attempts, c.steps...)
				b.fn.Retry.Backoff, b.fn.Retry.MaxBackoff = time.Hour, time.Hour
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan Outcome)
				go func() { done <- b.e.Deliver(ctx, b.route, &request.Message{QoS: 1}) }()
				synctest.Wait()
				stop()
				o := <-done
				if l := b.letters(); len(l) > 0 {
					t.Errorf("dead letter %+v", l)
				}
				if o.Acked || !o.Interrupted || o.Name() != "interrupted" {
					t.Errorf("%+v", o)
				}
			})
		})
	}
	t.Run("attempts are spent", func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		b := newBench(t, 1, func(context.Context, []byte) (*pool.Response, error) {
			stop()
			return &pool.Response{Status: 500}, nil
		})
		if o := b.e.Deliver(ctx, b.route, &request.Message{QoS: 1}); len(b.letters()) != 1 || !o.DeadLettered {
			t.Errorf("%+v", o)
		}
	})
}

// TestExpiredIsNotDelivered: a message whose interval has passed before it could be delivered
// goes to no function; its publisher is content.
func TestExpiredIsNotDelivered(t *testing.T) {
	for _, c := range []struct {
		name     string
		dead     bool // the function has a dead letter file
		steps    []exchange
		expiry   time.Duration
		want     string
		attempts int
		status   int
	}{
		{"waiting for a connection", true, []exchange{nil}, 5 * time.Second, "expired", 0, 0},
		{"waiting for a connection, no dead letters", false, []exchange{nil}, 5 * time.Second, "expired", 0, 0},
		{"on arrival", true, []exchange{answers(200)}, -time.Second, "expired", 0, 0},
		{"between two attempts", true, []exchange{answers(503)}, 3 * time.Second, "expired", 1, 503},
		{"while the function works", true, []exchange{
			func(context.Context, []byte) (*pool.Response, error) {
				bubble.Take(t, 20*time.Second)
				return &pool.Response{Status: 200}, nil
			}}, 5 * time.Second, "delivered", 0, 0},
		{"in time", true, []exchange{answers(200)}, time.Second, "delivered", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 3, c.steps...)
				if c.status != 0 {
					b.fn.Retry.Backoff, b.fn.Retry.MaxBackoff = time.Hour, time.Hour
				}
				dead := b.fn.DeadLetter
				if !c.dead {
					b.fn.DeadLetter = nil
				}
				began := time.Now()
				o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1, Version: 5, Expires: began.Add(c.expiry)})
				if !o.Acked || o.ReasonCode != CodeSuccess || o.Name() != c.want {
					t.Errorf("%+v, want %s", o, c.want)
				}
				if took := time.Since(began); c.want == "expired" && took > max(c.expiry, 0) {
					t.Errorf("given up after %s, it expired after %s", took, c.expiry)
				}
				b.fn.DeadLetter = dead
				l := b.letters()
				if want := c.dead && c.want == "expired"; want != (len(l) == 1) ||
					want && (l[0].Attempts != c.attempts || l[0].Status != c.status || !strings.Contains(l[0].Error, "expired")) {
					t.Errorf("dead letters %+v", l)
				}
				if o.Response != nil && c.want == "expired" {
					t.Errorf("an expired message has a response: %+v", o.Response)
				}
			})
		})
	}
}

// TestExpiryGoesAlong: each attempt says how many seconds are left.
func TestExpiryGoesAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left, ids []string
		b := newBench(t, 3, func(_ context.Context, r []byte) (*pool.Response, error) {
			req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(r)))
			if err != nil {
				t.Fatal(err)
			}
			left, ids = append(left, req.Header.Get("X-Mqtt-Expiry")), append(ids, req.Header.Get("Ce-Id"))
			bubble.Take(t, 3*time.Second)
			return &pool.Response{Status: 503}, nil
		})
		b.fn.Retry.Backoff = 0
		b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1, Version: 5, Expires: time.Now().Add(10 * time.Second)})
		b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1, Version: 5})
		want := []string{"10", "7", "4", "", "", ""}
		if !slices.Equal(left, want) || ids[0] != ids[1] || ids[1] != ids[2] || ids[2] == ids[3] {
			t.Errorf("%q seconds left, want %q; ce-id %q", left, want, ids)
		}
	})
}
