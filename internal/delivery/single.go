package delivery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// Why a message that has attempts left is not delivered.
var (
	errExpired  = errors.New("message expired")
	errDeadline = errors.New("deadline passed")
	errOverload = errors.New("too many messages wait for the function")
	errGone     = errors.New("the client's session is over")
)

// single is one message on its way to one function.
type single struct {
	engine *Engine
	fn     *config.Function
	m      *request.Message
	build  func() []byte // the request
	size   int           // bytes that it holds
	queue  *queue
	inside bool            // it has room in the queue
	turn   <-chan struct{} // closed when it may be sent; nil: at once
	result *Outcome        // nil: it is on its way

	publisher *Publisher // whose connection can be held back, and in whose window it is; nil: nobody's

	ctx    context.Context // of the server
	wait   context.Context // ends, with the reason, when the message waits no longer
	cancel context.CancelCauseFunc
	end    *time.Timer // of its waiting, at the deadline

	mu       sync.Mutex
	underWay bool // an attempt is
}

// newSingle makes the delivery of a message that arrived at this moment.
func (e *Engine) newSingle(ctx context.Context, fn *config.Function, m *request.Message, arrived time.Time, build func() []byte) *single {
	x := &single{engine: e, fn: fn, m: m, build: build, size: m.Size(), queue: e.queues.of(fn.Name), ctx: ctx}
	end, why := arrived.Add(fn.Deadline), errDeadline
	if !m.Expires.IsZero() && m.Expires.Before(end) {
		end, why = m.Expires, errExpired
	}
	x.wait, x.cancel = context.WithCancelCause(ctx)
	if left := time.Until(end); left > 0 {
		x.end = time.AfterFunc(left, func() { x.cancel(why) })
	} else {
		x.cancel(why)
	}
	return x
}

// push enters a message that nobody waits for outside, or ends its waiting.
func (x *single) push() {
	if x.inside = x.queue.push(x.size); !x.inside {
		x.cancel(errOverload)
	}
}

// giveWay ends the message's waiting for others; false if it does not wait.
func (x *single) giveWay() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.underWay {
		x.cancel(errOverload)
	}
	return !x.underWay
}

// begin says whether an attempt may begin.
func (x *single) begin() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.underWay = x.wait.Err() == nil
	return x.underWay
}

// pause notes that the attempt has ended.
func (x *single) pause() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.underWay = false
}

// stay waits for what may get the message on outside of the queue; false if its
// waiting is over.
func (x *single) stay(t *turn, freed <-chan struct{}, left time.Duration, gone <-chan struct{}) bool {
	var granted <-chan struct{}
	if t != nil {
		granted = t.granted
	}
	var stalled <-chan time.Time
	if left > 0 {
		timer := time.NewTimer(left)
		defer timer.Stop()
		stalled = timer.C
	}
	select {
	case <-granted:
	case <-freed:
	case <-stalled:
	case <-x.wait.Done():
		return false
	case <-gone:
		x.cancel(errGone)
		return false
	}
	return true
}

// settle ends the message.
func (x *single) settle(o Outcome) {
	x.result = &o
	x.mu.Lock()
	x.underWay = true // whatever follows is no waiting
	x.mu.Unlock()
	if x.end != nil {
		x.end.Stop()
	}
	x.cancel(nil)
	if x.inside {
		x.queue.leave(x.size)
	}
	if x.m.ResponseTopic == "" || !o.Acked {
		x.release()
	}
}

// release gives up the message's place in its publisher's window; one with a
// Response Topic keeps it until the response is published.
func (x *single) release() {
	if x.publisher != nil {
		x.publisher.leave(x, x.result.Name() == delivered)
		x.publisher = nil
	}
}

// outcome is that of a message of which the last attempt ended so.
func (x *single) outcome(lastErr error) Outcome {
	return Outcome{Function: x.fn.Name, Topic: x.m.Topic, Err: lastErr, Status: statusOf(lastErr), ReasonCode: CodeUnspecified}
}

// run sends the message when it is its turn, unless it is settled.
func (x *single) run(attempts int, lastErr error) {
	if x.result != nil {
		return
	}
	if x.turn != nil {
		select {
		case <-x.turn:
		case <-x.wait.Done():
		}
	}
	x.settle(x.deliver(attempts, lastErr))
}

// deliver makes attempts until one succeeds, none is left, or the message waits no
// longer; an attempt that is under way then goes on.
func (x *single) deliver(attempts int, lastErr error) Outcome {
	fn, o := x.fn, x.outcome(lastErr)
	unread := attempts == 0 || errors.Is(lastErr, pool.ErrUnread)
	var avoid []netip.AddrPort
	backoff := fn.Retry.Backoff
	for attempts < fn.Retry.Attempts {
		if attempts > 0 {
			if x.m.QoS == 0 && !errors.Is(o.Err, pool.ErrUnread) {
				break // at most once
			}
			sleep(x.wait, jitter(backoff))
			backoff = min(2*backoff, fn.Retry.MaxBackoff)
		}
		l, err := x.engine.acquire(x.wait, fn, avoid)
		if !x.begin() {
			if l != nil {
				l.Release()
			}
			return x.unfinished(o, attempts)
		}
		attempts++
		o.Err, o.Response, unread = err, nil, true
		if err == nil {
			o.Response, o.Err = x.engine.attempt(x.ctx, fn, l, x.build())
			unread = errors.Is(o.Err, pool.ErrUnread)
		}
		x.pause()
		if err != nil {
			continue
		}
		if o.Err == nil {
			if o.Status = o.Response.Status; o.Status >= 200 && o.Status < 300 {
				o.Acked, o.ReasonCode = true, CodeSuccess
				return o
			}
			o.Err = pool.NewStatusError(o.Response)
		} else if x.ctx.Err() != nil {
			return x.unfinished(o, attempts)
		}
		avoid = append(avoid, l.Pod())
	}
	o.Lost = x.m.QoS == 0 && o.Status == 0 && !unread
	return x.engine.giveUp(fn, x.m, o, attempts)
}

// unfinished ends a message that has attempts left. At the server's end, and when its
// client is no longer served, it is left as it is: unacknowledged, its client sends it
// again. What has expired is dropped, as its publisher wishes [MQTT-3.3.2-5], or becomes a
// dead letter; for what has waited too long, or gives way to others, the attempts count as spent.
func (x *single) unfinished(o Outcome, attempts int) Outcome {
	o.Response = nil
	why := context.Cause(x.wait)
	if o.Interrupted = x.ctx.Err() != nil || errors.Is(why, errGone); o.Interrupted {
		o.Err = with(context.Cause(x.wait), o.Err)
		return o
	}
	o.Expired, o.Late, o.Overload = errors.Is(why, errExpired), errors.Is(why, errDeadline), errors.Is(why, errOverload)
	switch {
	case o.Late:
		why = fmt.Errorf("%w: %s", why, x.fn.Deadline)
	case o.Overload:
		o.ReasonCode = CodeQuotaExceeded
	}
	o.Err = with(why, o.Err)
	if !o.Expired || x.fn.DeadLetter != nil {
		return x.engine.giveUp(x.fn, x.m, o, attempts)
	}
	x.engine.log.Debug("message expired", "function", x.fn.Name, "topic", x.m.Topic, "client", x.m.ClientID, "attempts", attempts)
	o.Acked, o.ReasonCode = true, CodeSuccess
	return o
}

// with is why a message was given up, and how its last attempt had ended; nil: there was none.
func with(why, last error) error {
	if last == nil {
		return why
	}
	return fmt.Errorf("%w; the last attempt: %w", why, last)
}
