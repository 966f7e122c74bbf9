package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"eproxy/internal/clock"
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
	engine  *Engine
	fn      *config.Function
	m       *request.Message
	id      string // ce-id
	request []byte // is sent as it is; nil: it is made of the message
	size    int    // bytes that it holds
	queue   *queue
	inside  bool            // it has room in the queue
	turn    <-chan struct{} // closed when it may be sent; nil: at once
	result  *Outcome        // how it ended (last); nil: it is on its way

	publisher *Publisher // whose connection can be held back, and in whose window it is; nil: nobody's

	began time.Duration // when it arrived, clock.Monotonic()

	ctx      context.Context // of the server
	deadline time.Duration   // from its arrival
	end      time.Time       // of its waiting
	late     error           // why it ends then

	last Outcome

	mu       sync.Mutex
	underWay bool  // an attempt is
	why      error // it waits no longer; nil: it may
	wait     context.Context
	cancel   context.CancelCauseFunc // of wait; nil: nobody has waited yet
	timer    *time.Timer             // at end; nil: nobody has waited yet

	direct
	inSpool
}

// init makes x the delivery of a message that arrived at this moment. known: it was counted where it arrived.
func (x *single) init(ctx context.Context, e *Engine, fn *config.Function, m *request.Message, arrived time.Time, known bool) {
	x.engine, x.fn, x.m, x.id, x.size, x.queue, x.ctx = e, fn, m, cmp.Or(m.EventID, e.NextID()), m.Size(), e.queues.of(fn.Name), ctx
	x.began = clock.At(arrived)
	x.queue.track.Begin(x.began, known)
	x.arrive(arrived)
	x.deadline = e.deadline(fn)
	x.end, x.late = arrived.Add(x.deadline), errDeadline
	if !m.Expires.IsZero() && m.Expires.Before(x.end) {
		x.end, x.late = m.Expires, errExpired
	}
	if !x.end.After(time.Now()) {
		x.why = x.late
	}
}

// build is the request.
func (x *single) build() []byte {
	if x.request != nil {
		return request.Renew(x.request, x.m.Expires)
	}
	return request.Build(nil, x.fn, x.m, x.id)
}

// push enters a message that nobody waits for outside, or ends its waiting.
func (x *single) push() {
	if x.inside = x.queue.push(x.size); !x.inside {
		x.stop(errOverload)
	}
}

// waiting is a context that ends, with the reason, when the message waits no longer.
func (x *single) waiting() context.Context {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.wait == nil {
		x.arm()
		x.wait, x.cancel = context.WithCancelCause(x.ctx)
		if x.why != nil {
			x.cancel(x.why)
		}
	}
	return x.wait
}

// arm ends the waiting in time; x.mu is held.
func (x *single) arm() {
	if x.timer != nil || x.why != nil {
		return
	}
	if left := time.Until(x.end); left > 0 {
		x.timer = time.AfterFunc(left, func() { x.stop(x.late) })
	} else {
		x.why = x.late
	}
}

// stop ends the message's waiting, once.
func (x *single) stop(why error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.why != nil {
		return
	}
	x.why = why
	if x.cancel != nil {
		x.cancel(why)
	}
	x.withdraw()
}

// giveWay ends the message's waiting for others; false if it does not wait.
func (x *single) giveWay() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.why == nil && x.sender != nil && !x.sender.Withdraw(&x.call) {
		x.sender, x.underWay = nil, true
	}
	if x.underWay {
		return false
	}
	if x.why == nil {
		x.why = errOverload
		if x.cancel != nil {
			x.cancel(x.why)
		}
		if x.sender != nil {
			x.withdrawn()
		}
	}
	return true
}

// begin says whether an attempt may begin.
func (x *single) begin() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.underWay = x.why == nil && x.ctx.Err() == nil
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
	var granted, spool <-chan struct{}
	if t != nil {
		granted = t.granted
	}
	if x.spool != nil {
		spool = x.spool.Freed()
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
	case <-spool:
	case <-stalled:
	case <-x.waiting().Done():
		return false
	case <-gone:
		x.stop(errGone)
		return false
	}
	return true
}

// settle ends the message.
func (x *single) settle(o Outcome) {
	x.last = o
	x.result = &x.last
	x.mu.Lock()
	x.underWay = true // whatever follows is no waiting
	if x.timer != nil {
		x.timer.Stop()
	}
	if x.cancel != nil {
		x.cancel(nil)
	}
	x.mu.Unlock()
	x.queue.track.End(x.began, clock.Monotonic())
	x.part()
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
	if x.record != nil {
		x.settle(x.spooled())
		return
	}
	if x.turn != nil {
		select {
		case <-x.turn:
		case <-x.waiting().Done():
		}
	}
	if x.standBehind() {
		x.settle(x.spooled())
		return
	}
	x.settle(x.deliver(attempts, lastErr))
}

// trial is how far the attempts for a message are.
type trial struct {
	attempts int
	o        Outcome // of the last one
	unread   bool    // it was not read by the function
	avoid    []netip.AddrPort
}

// deliver makes attempts, counting from those that were made elsewhere.
func (x *single) deliver(attempts int, lastErr error) Outcome {
	return x.try(trial{attempts: attempts, o: x.outcome(lastErr), unread: attempts == 0 || errors.Is(lastErr, pool.ErrUnread)})
}

// try makes attempts until one succeeds, none is left, or the message waits no
// longer; an attempt that is under way then goes on.
func (x *single) try(t trial) Outcome {
	fn := x.fn
	backoff := fn.Retry.Backoff
	for t.attempts < fn.Retry.Attempts {
		if t.attempts > 0 {
			if final(fn, t.o.Err) {
				break
			}
			if x.m.QoS == 0 && !errors.Is(t.o.Err, pool.ErrUnread) {
				break // at most once
			}
			sleep(x.waiting(), max(jitter(backoff), retryAfter(t.o.Err)))
			backoff = min(2*backoff, fn.Retry.MaxBackoff)
		}
		if fn.Batch != nil && x.request == nil {
			r, begun := x.engine.batches.send(x)
			if !begun {
				return x.unfinished(t.o, t.attempts)
			}
			t.attempts++
			x.pause()
			if x.judge(&t, r.pod, r.response, r.err) {
				t.o.Response = nil // it is that of many
				return t.o
			}
			continue
		}
		l, err := x.engine.acquire(x.waiting(), fn, x.m.ClientID, t.avoid)
		if !x.begin() {
			if l != nil {
				l.Release()
			}
			return x.unfinished(t.o, t.attempts)
		}
		t.attempts++
		if err != nil {
			t.o.Err, t.o.Response, t.unread = err, nil, true
			x.pause()
			continue
		}
		resp, err := x.engine.attempt(x.ctx, fn, l, x.build())
		x.pause()
		if x.judge(&t, l.Pod(), resp, err) {
			return t.o
		}
	}
	t.o.Rejected = final(fn, t.o.Err)
	t.o.Lost = x.m.QoS == 0 && t.o.Status == 0 && !t.unread
	return x.giveUp(t.o, t.attempts)
}

// judge notes how an attempt ended, and says whether the message has.
func (x *single) judge(t *trial, pod netip.AddrPort, resp *pool.Response, err error) (ended bool) {
	t.o.Response, t.o.Err, t.unread = resp, err, errors.Is(err, pool.ErrUnread)
	if err == nil {
		if t.o.Status = resp.Status; resp.Status/100 == 2 {
			t.o.Acked, t.o.ReasonCode = true, CodeSuccess
			x.engine.serve(x.fn.Name)
			x.engine.again.forget(x.fn.Name, x.m)
			return true
		}
		t.o.Err = pool.NewStatusError(resp)
	} else if x.ctx.Err() != nil {
		t.o = x.unfinished(t.o, t.attempts)
		t.o.Lost = x.m.QoS == 0 && !t.unread // also one from the spool: it is not put back
		return true
	}
	t.avoid = append(t.avoid, pod)
	return false
}

// unfinished ends a message that has attempts left. At the server's end, and when its
// client is no longer served, it is left as it is: unacknowledged, its client sends it
// again. What has expired is dropped, as its publisher wishes [MQTT-3.3.2-5], or becomes a
// dead letter; for what has waited too long, or gives way to others, the attempts count as spent.
func (x *single) unfinished(o Outcome, attempts int) Outcome {
	o.Response = nil
	x.mu.Lock()
	why := cmp.Or(x.why, context.Cause(x.ctx))
	x.mu.Unlock()
	if o.Interrupted = x.ctx.Err() != nil || errors.Is(why, errGone); o.Interrupted {
		o.Err = with(why, o.Err)
		return o
	}
	o.Expired, o.Late, o.Overload = errors.Is(why, errExpired), errors.Is(why, errDeadline), errors.Is(why, errOverload)
	switch {
	case o.Late:
		why = fmt.Errorf("%w: %s", why, x.deadline)
	case o.Overload:
		o.ReasonCode = CodeQuotaExceeded
	}
	o.Err = with(why, o.Err)
	if !o.Expired || x.fn.DeadLetter != nil {
		return x.giveUp(o, attempts)
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
