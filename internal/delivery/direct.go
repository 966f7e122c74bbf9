package delivery

import (
	"errors"
	"slices"
	"sync"

	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// direct is the first attempt of a message that nobody waits with.
type direct struct {
	call     pool.Call
	buffer   *[]byte     // of its request; nil: it is not one of requests
	to       pool.Sender // where the call went
	sender   pool.Sender // where it waits for a place; nil: it does not
	ended    bool        // the call has
	delivery *Delivery
	ender    Ender
}

// start sends the message without waiting, if that can be; then how it ends is told to end.
func (x *single) start(d *Delivery, b *pool.Batch, end Ender) bool {
	sender, ok := x.engine.state.Load().pool.(pool.Sender)
	// What a response, its expiry or its turn makes differ is left to those who wait.
	if !ok || x.fn.Batch != nil || x.record != nil || x.result != nil || !closed(x.turn) || x.turn != nil && x.follows() || x.m.QoS > 1 || x.m.ResponseTopic != "" || !x.m.Expires.IsZero() {
		return false
	}
	x.delivery, x.ender, x.to = d, end, sender
	x.call = pool.Call{Function: x.fn.Name, Client: x.m.ClientID, Request: x.lend(), Timeout: x.fn.Timeout, Repeatable: x.m.QoS > 0, Owner: x, Done: done, Waits: waits}
	if !x.begin() {
		return false
	}
	if sender.Send(&x.call, b) {
		x.await()
	}
	return true
}

// done and waits are those of all calls, so that none is made for each.
func done(c *pool.Call, b *pool.Batch) { c.Owner.(*single).answered(c, b) }

func waits(c *pool.Call) { c.Owner.(*single).await() }

// requests are the buffers of requests whose messages have ended: most are as long as the next one.
var requests = sync.Pool{New: func() any { return new([]byte) }}

// keepRequest is how large a buffer may be and still be kept, in bytes.
const keepRequest = 4 << 10

// lend is the request, in a buffer that is given back when it was answered.
func (x *single) lend() []byte {
	if x.request != nil {
		return x.request
	}
	x.buffer = requests.Get().(*[]byte)
	*x.buffer = request.Build(slices.Grow((*x.buffer)[:0], request.Typical(x.m)), x.fn, x.m, x.id)
	return *x.buffer
}

// giveBack gives the request's buffer back; nobody has the call any more.
func (x *single) giveBack() {
	if x.buffer != nil && cap(*x.buffer) <= keepRequest {
		x.call.Request = nil
		requests.Put(x.buffer)
	}
	x.buffer = nil
}

// closed says whether a message's turn has come.
func closed(turn <-chan struct{}) bool {
	if turn == nil {
		return true
	}
	select {
	case <-turn:
		return true
	default:
		return false
	}
}

// await notes that the call waits for a place; what ended the message's waiting meanwhile ends it.
func (x *single) await() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return
	}
	x.sender, x.underWay = x.to, false
	if x.arm(); x.why != nil {
		x.withdraw()
	}
}

// withdraw ends the call's waiting, if it does, and with it the message; x.mu is held.
func (x *single) withdraw() {
	switch {
	case x.sender == nil:
	case x.sender.Withdraw(&x.call):
		x.withdrawn()
	default:
		x.sender, x.underWay = nil, true
	}
}

// withdrawn ends the message, whose call waits no more; x.mu is held.
func (x *single) withdrawn() {
	x.sender = nil
	x.ender.Go(func() { x.over(x.unfinished(x.outcome(nil), 0)) })
}

// answered ends the message with a success, or goes on where the first attempt has failed.
func (x *single) answered(c *pool.Call, b *pool.Batch) {
	defer x.ender.Contain()
	x.mu.Lock()
	x.sender, x.underWay, x.ended = nil, true, true
	x.mu.Unlock()
	if e := x.engine; e.rec != nil && !c.Behind && !errors.Is(c.Err, pool.ErrNoPod) {
		status := 0
		if c.Response != nil {
			status = c.Response.Status
		}
		e.rec.Request(x.fn.Name, c.PodName, status)
	}
	t := trial{attempts: 1, o: x.outcome(nil)}
	if c.Behind && x.m.QoS > 0 {
		t.attempts = 0 // it was the other requests' attempt
	}
	if success := c.Err == nil && c.Response.Status/100 == 2; !success {
		x.retry(t, c)
		return
	}
	x.giveBack()
	x.judge(&t, c.Pod, c.Response, nil)
	x.settle(t.o)
	x.ender.Ended(x.delivery.outcome(), b)
}

// retry goes on after the first attempt, which has failed, in a goroutine of its own.
func (x *single) retry(t trial, c *pool.Call) {
	x.pause()
	x.ender.Go(func() {
		if x.judge(&t, c.Pod, c.Response, c.Err) {
			x.over(t.o)
		} else {
			x.over(x.try(t))
		}
	})
}

// over ends the message in a goroutine of its own.
func (x *single) over(o Outcome) {
	x.settle(o)
	var b pool.Batch
	defer b.Flush()
	x.ender.Ended(x.delivery.outcome(), &b)
}
