package delivery

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// TestDeadline: no attempt begins when a message's deadline has passed, whatever it waits for. It
// is a dead letter then, with the reason, or its publisher hears that it failed.
func TestDeadline(t *testing.T) {
	for _, c := range []struct {
		name     string
		dead     bool // the function has a dead letter file
		steps    []exchange
		attempts int
		want     string
	}{
		{"waiting for a connection", true, []exchange{nil}, 0, "dead_letter"},
		{"waiting for a connection, no dead letters", false, []exchange{nil}, 0, "deadline"},
		{"waiting for a connection again", true, []exchange{answers(503), nil}, 1, "dead_letter"},
		{"between two attempts", true, []exchange{answers(503)}, 1, "dead_letter"},
		{"between two attempts, no dead letters", false, []exchange{fails(errReset)}, 1, "deadline"},
	} {
		for _, qos := range []byte{0, 1, 2} {
			t.Run(c.name+" QoS "+string('0'+qos), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, 3, c.steps...)
					b.fn.Deadline = 10 * time.Second
					if c.attempts == 1 && len(c.steps) == 1 {
						b.fn.Retry.Backoff, b.fn.Retry.MaxBackoff = time.Hour, time.Hour
					}
					file := b.fn.DeadLetter
					if !c.dead {
						b.fn.DeadLetter = nil
					}
					if qos == 0 && c.attempts > 0 {
						return // at most once
					}
					began := time.Now()
					o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: qos})
					if took := time.Since(began); took != 10*time.Second {
						t.Errorf("given up after %s", took)
					}
					if o.Name() != c.want || o.Acked != c.dead || !o.Late || !c.dead && o.ReasonCode != CodeUnspecified {
						t.Errorf("%+v, want %s", o, c.want)
					}
					b.fn.DeadLetter = file
					l := b.letters()
					if c.dead != (len(l) == 1) || c.dead && (l[0].Attempts != c.attempts || !strings.Contains(l[0].Error, "deadline passed: 10s")) {
						t.Errorf("dead letters %+v", l)
					}
				})
			})
		}
	}
}

// TestDeadlineEndsNoAttempt: an attempt that is under way when the deadline passes goes on until its
// timeout, and is the last one.
func TestDeadlineEndsNoAttempt(t *testing.T) {
	for name, c := range map[string]struct {
		answer time.Duration
		want   string
		took   time.Duration
	}{
		"answered":     {20 * time.Second, "delivered", 20 * time.Second},
		"not answered": {time.Hour, "dead_letter", 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 3, func(ctx context.Context, _ []byte) (*pool.Response, error) {
					select {
					case <-time.After(c.answer):
						return &pool.Response{Status: 200}, nil
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				})
				b.fn.Deadline = 10 * time.Second
				began := time.Now()
				o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1})
				if took := time.Since(began); o.Name() != c.want || took != c.took || b.pool.made.Load() != 1 {
					t.Errorf("%+v after %s and %d attempts", o, took, b.pool.made.Load())
				}
			})
		})
	}
}

// TestDeadlineCountsFromArrival: what the kernel path hands over has waited already.
func TestDeadlineCountsFromArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3, nil)
		b.fn.Deadline = 10 * time.Second
		began := time.Now()
		o := b.e.DeliverRequest(t.Context(), b.fn, nil, &request.Message{QoS: 1}, began.Add(-7*time.Second), nil, 1, errReset)
		if took := time.Since(began); !o.Late || took != 3*time.Second {
			t.Errorf("%+v after %s", o, took)
		}
		if l := b.letters(); len(l) != 1 || l[0].Error != "deadline passed: 10s; the last attempt: connection reset" {
			t.Errorf("dead letters %+v", l)
		}
	})
}

// TestErrorsAreOneLine: whatever went wrong, and however often.
func TestErrorsAreOneLine(t *testing.T) {
	for name, brought := range map[string]func(b *bench) Outcome{
		"dead letter not written": func(b *bench) Outcome {
			b.fn.DeadLetter.File = "/dev/null/x"
			return b.e.Deliver(b.t.Context(), b.route, &request.Message{QoS: 1})
		},
		"server's end": func(b *bench) Outcome {
			ctx, cancel := context.WithCancelCause(b.t.Context())
			cancel(errors.New("stopped"))
			return b.e.DeliverRequest(ctx, b.fn, nil, &request.Message{QoS: 1}, time.Now(), nil, 1, errReset)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 2, fails(errReset))
			b.fn.Retry.Backoff = 0
			if o := brought(b); o.Err == nil || strings.Contains(o.Err.Error(), "\n") || !errors.Is(o.Err, errReset) {
				t.Errorf("%q", o.Err)
			}
		})
	}
}

var _ pool.Pool = pools{}

// pools are scripts by function.
type pools map[string]*script

func (p pools) Acquire(ctx context.Context, function, client string, avoid []netip.AddrPort) (pool.Lease, error) {
	return p[function].Acquire(ctx, function, client, avoid)
}

// TestPatienceForAStart: a message for a function without pods waits as long as one of its starts needs, where that is longer than its
// deadline; with pods its deadline counts.
func TestPatienceForAStart(t *testing.T) {
	for name, c := range map[string]struct {
		pods     int
		patience time.Duration
		want     time.Duration
	}{
		"no pod":                  {0, 40 * time.Second, 40 * time.Second},
		"no pod, deadline later":  {0, 5 * time.Second, 10 * time.Second},
		"no pod, it is not begun": {0, 0, 10 * time.Second},
		"pods that do not answer": {2, 40 * time.Second, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 3, nil)
				b.e.patience = func(string) time.Duration { return c.patience }
				b.fn.Deadline, b.fn.DeadLetter = 10*time.Second, nil
				b.fn.Pods = make([]netip.AddrPort, c.pods)
				began := time.Now()
				o := b.e.Deliver(t.Context(), b.route, &request.Message{QoS: 1})
				if took := time.Since(began); took != c.want || o.Name() != "deadline" {
					t.Errorf("%s after %s, want %s", o.Name(), took, c.want)
				}
			})
		})
	}
}
