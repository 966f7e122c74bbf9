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
	Status       int  // last HTTP status, 0 if there was no response
	ReasonCode   byte // MQTT 5
	Response     *pool.Response
	Err          error
	Function     string
	DeadLettered bool
}

// Name is the outcome's name in metrics.
func (o Outcome) Name() string {
	switch {
	case o.DeadLettered:
		return "dead_letter"
	case o.Acked:
		return "delivered"
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
	e.id.Store(rand.Uint64())
	e.state.Store(&state{cfg, p})
	return e
}

// Reload takes over a configuration; messages under way end under the old one.
func (e *Engine) Reload(cfg *config.Config, p pool.Pool) { e.state.Store(&state{cfg, p}) }

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
		return Outcome{Function: name, ReasonCode: CodeUnspecified, Err: fmt.Errorf("function %s: %w", name, pool.ErrNoPod)}
	}
	return e.DeliverRequest(ctx, fn, request.Build(nil, fn, m, e.NextID()), m, 0, nil)
}

// DeliverRequest sends these very bytes until they are answered, counting from
// an attempt that was made elsewhere; lastErr is how that one ended.
func (e *Engine) DeliverRequest(ctx context.Context, fn *config.Function, req []byte, m *request.Message, attempts int, lastErr error) Outcome {
	o := Outcome{Function: fn.Name, Err: lastErr, ReasonCode: CodeUnspecified}
	var avoid []netip.AddrPort
	backoff := fn.Retry.Backoff
	for attempts < fn.Retry.Attempts {
		if attempts > 0 {
			if m.QoS == 0 && !errors.Is(o.Err, pool.ErrUnread) {
				break // at most once
			}
			if !sleep(ctx, jitter(backoff)) {
				break
			}
			backoff = min(2*backoff, fn.Retry.MaxBackoff)
		}
		attempts++
		resp, pod, err := e.attempt(ctx, fn, req, avoid)
		o.Response, o.Err, o.Status = resp, err, 0
		if resp != nil {
			o.Status = resp.Status
		}
		if err == nil && o.Status >= 200 && o.Status < 300 {
			o.Acked, o.ReasonCode = true, CodeSuccess
			return o
		}
		if err == nil {
			o.Err = pool.NewStatusError(resp)
		}
		if ctx.Err() != nil {
			break
		}
		if pod.IsValid() {
			avoid = append(avoid, pod)
		}
	}
	return e.giveUp(fn, m, o, attempts)
}

// attempt is one exchange with one pod.
func (e *Engine) attempt(ctx context.Context, fn *config.Function, req []byte, avoid []netip.AddrPort) (*pool.Response, netip.AddrPort, error) {
	l, err := e.state.Load().pool.Acquire(ctx, fn.Name, avoid)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
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
	return resp, l.Pod(), err
}

// giveUp writes the dead letter, if the function has one.
func (e *Engine) giveUp(fn *config.Function, m *request.Message, o Outcome, attempts int) Outcome {
	e.log.Warn("message not delivered", "function", fn.Name, "topic", m.Topic, "client", m.ClientID, "attempts", attempts, "error", o.Err)
	if fn.DeadLetter == nil || m.QoS == 0 && !errors.Is(o.Err, pool.ErrUnread) && o.Status == 0 && attempts == 0 {
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
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
