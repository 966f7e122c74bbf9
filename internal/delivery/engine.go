// Package delivery brings one message to its function: attempts, backoff,
// fan-out, dead letters.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/lograte"
	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// MQTT 5 reason codes of Outcome (section 2.4).
const (
	CodeSuccess       = 0x00
	CodeUnspecified   = 0x80
	CodeQuotaExceeded = 0x97
)

// Outcome is how a message ended.
type Outcome struct {
	Acked        bool // success may be notified to the publisher: 2xx from all functions, or dead letter on disk
	Status       int  // last HTTP status, of an earlier attempt if the last one had no response; 0: there was none
	ReasonCode   byte // MQTT 5
	Response     *pool.Response
	Err          error
	Function     string
	Topic        string
	DeadLettered bool
	Expired      bool // its Message Expiry Interval passed before a function had it
	Interrupted  bool // the server ended first: neither a success nor a failure, its client has it
	Lost         bool // QoS 0: the function may have read it, but has not answered; it is not sent again
}

// Name is the outcome's name in metrics.
func (o Outcome) Name() string {
	switch {
	case o.Expired:
		return "expired"
	case o.Interrupted:
		return "interrupted"
	case o.DeadLettered:
		return "dead_letter"
	case o.Acked:
		return "delivered"
	case o.Lost:
		return "lost"
	}
	return "failed"
}

// Recorder counts; all methods may be called at any time.
type Recorder interface {
	Request(function, pod string, status int)
	DeadLetter(function string)
}

// Options of New.
type Options struct {
	Logger   *slog.Logger
	Recorder Recorder // may be nil
}

// Engine delivers messages.
type Engine struct {
	log   *slog.Logger
	often *lograte.Logger
	rec   Recorder
	state atomic.Pointer[state]
	id    atomic.Uint64
	dead  deadLetters
}

type state struct {
	cfg  *config.Config
	pool pool.Pool
}

// New makes an engine for a configuration's functions.
func New(cfg *config.Config, p pool.Pool, opts Options) *Engine {
	e := &Engine{log: opts.Logger, rec: opts.Recorder}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.often = lograte.New(e.log)
	e.id.Store(rand.Uint64())
	e.state.Store(&state{cfg, p})
	return e
}

// Reload takes over a configuration; messages under way end under the old one.
func (e *Engine) Reload(cfg *config.Config, p pool.Pool) { e.state.Store(&state{cfg, p}) }

// Close logs what was counted and not yet logged.
func (e *Engine) Close() { e.often.Close() }

// NextID is a new ce-id: unique, 16 hexadecimal digits.
func (e *Engine) NextID() string { return fmt.Sprintf("%016x", e.id.Add(1)) }

// Deliver brings the message to all functions of its route. Acked only if each
// has answered 2xx, or its dead letter is on disk.
func (e *Engine) Deliver(ctx context.Context, route *config.Route, m *request.Message) Outcome {
	if len(route.Functions) == 1 {
		return e.deliverTo(ctx, route.Functions[0], m)
	}
	outcomes := make([]Outcome, len(route.Functions))
	var wg sync.WaitGroup
	for i, name := range route.Functions {
		wg.Go(func() { outcomes[i] = e.deliverTo(ctx, name, m) })
	}
	wg.Wait()
	for _, o := range outcomes {
		if !o.Acked {
			return o
		}
	}
	return outcomes[0]
}

func (e *Engine) deliverTo(ctx context.Context, name string, m *request.Message) Outcome {
	fn := e.state.Load().cfg.Function(name)
	if fn == nil {
		return Outcome{Function: name, Topic: m.Topic, ReasonCode: CodeUnspecified, Err: fmt.Errorf("function %s: %w", name, pool.ErrNoPod)}
	}
	id := e.NextID()
	return e.deliver(ctx, fn, func() []byte { return request.Build(nil, fn, m, id) }, m, 0, nil)
}

// DeliverRequest sends these very bytes until they are answered, counting from
// an attempt that was made elsewhere; lastErr is how that one ended.
func (e *Engine) DeliverRequest(ctx context.Context, fn *config.Function, req []byte, m *request.Message, attempts int, lastErr error) Outcome {
	return e.deliver(ctx, fn, func() []byte { return req }, m, attempts, lastErr)
}

// deliver makes attempts until one succeeds or none is left. The message waits for
// them until it expires; an attempt that is under way then goes on.
func (e *Engine) deliver(ctx context.Context, fn *config.Function, build func() []byte, m *request.Message, attempts int, lastErr error) Outcome {
	o := Outcome{Function: fn.Name, Topic: m.Topic, Err: lastErr, Status: statusOf(lastErr), ReasonCode: CodeUnspecified}
	wait, cancel := untilExpiry(ctx, m)
	defer cancel()
	unread := attempts == 0 || errors.Is(lastErr, pool.ErrUnread)
	var avoid []netip.AddrPort
	backoff := fn.Retry.Backoff
	for attempts < fn.Retry.Attempts {
		if attempts > 0 {
			if m.QoS == 0 && !errors.Is(o.Err, pool.ErrUnread) {
				break // at most once
			}
			sleep(wait, jitter(backoff))
			backoff = min(2*backoff, fn.Retry.MaxBackoff)
		}
		l, err := e.acquire(wait, fn, avoid)
		if wait.Err() != nil {
			if l != nil {
				l.Release()
			}
			return e.unfinished(ctx, fn, m, o, attempts)
		}
		attempts++
		o.Err, o.Response, unread = err, nil, true
		if err != nil {
			continue
		}
		o.Response, o.Err = e.attempt(ctx, fn, l, build())
		unread = errors.Is(o.Err, pool.ErrUnread)
		if o.Err == nil {
			if o.Status = o.Response.Status; o.Status >= 200 && o.Status < 300 {
				o.Acked, o.ReasonCode = true, CodeSuccess
				return o
			}
			o.Err = pool.NewStatusError(o.Response)
		} else if ctx.Err() != nil {
			return e.unfinished(ctx, fn, m, o, attempts)
		}
		avoid = append(avoid, l.Pod())
	}
	o.Lost = m.QoS == 0 && o.Status == 0 && !unread
	return e.giveUp(fn, m, o, attempts)
}

// acquire waits for a connection to one of the function's pods.
func (e *Engine) acquire(ctx context.Context, fn *config.Function, avoid []netip.AddrPort) (pool.Lease, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return e.state.Load().pool.Acquire(ctx, fn.Name, avoid)
}

// attempt is one exchange with one pod.
func (e *Engine) attempt(ctx context.Context, fn *config.Function, l pool.Lease, req []byte) (*pool.Response, error) {
	defer l.Release()
	ctx, cancel := context.WithTimeout(ctx, fn.Timeout)
	defer cancel()
	resp, err := l.Do(ctx, req)
	if e.rec != nil {
		status := 0
		if resp != nil {
			status = resp.Status
		}
		e.rec.Request(fn.Name, l.Pod().String(), status)
	}
	return resp, err
}

// statusOf is the HTTP status that an attempt failed with; 0: there was no response.
func statusOf(err error) int {
	var s *pool.StatusError
	if errors.As(err, &s) {
		return s.Status
	}
	return 0
}

// untilExpiry is a context that ends when the message has expired.
func untilExpiry(ctx context.Context, m *request.Message) (context.Context, context.CancelFunc) {
	if m.Expires.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, m.Expires)
}

// errExpired is why a message with attempts left is not delivered.
var errExpired = errors.New("message expired")

// unfinished ends a message that has attempts left. At the server's end it is
// left as it is: unacknowledged, its client sends it again. Else it has expired and is dropped,
// as its publisher wishes [MQTT-3.3.2-5], or becomes a dead letter.
func (e *Engine) unfinished(ctx context.Context, fn *config.Function, m *request.Message, o Outcome, attempts int) Outcome {
	o.Response = nil
	if ctx.Err() != nil {
		o.Interrupted = true
		o.Err = errors.Join(o.Err, context.Cause(ctx))
		return o
	}
	o.Expired = true
	if o.Err == nil {
		o.Err = errExpired
	} else {
		o.Err = fmt.Errorf("%w; the last attempt: %w", errExpired, o.Err)
	}
	if fn.DeadLetter != nil {
		return e.giveUp(fn, m, o, attempts)
	}
	e.log.Debug("message expired", "function", fn.Name, "topic", m.Topic, "client", m.ClientID, "attempts", attempts)
	o.Acked, o.ReasonCode = true, CodeSuccess
	return o
}

// giveUp writes the dead letter, if the function has one. A lost message has none:
// it may have been delivered.
func (e *Engine) giveUp(fn *config.Function, m *request.Message, o Outcome, attempts int) Outcome {
	e.often.Warn("message not delivered", fn.Name, "function", fn.Name, "topic", m.Topic, "client", m.ClientID, "attempts", attempts, "error", o.Err)
	if fn.DeadLetter == nil || o.Lost {
		return o
	}
	if err := e.dead.write(fn, m, o, attempts); err != nil {
		e.log.Error("dead letter not written", "function", fn.Name, "error", err)
		o.Err = errors.Join(o.Err, err)
		return o
	}
	if e.rec != nil {
		e.rec.DeadLetter(fn.Name)
	}
	o.Acked, o.DeadLettered, o.ReasonCode = true, true, CodeSuccess
	return o
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
