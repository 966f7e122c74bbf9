package delivery

import (
	"errors"

	"eproxy/internal/pool"
)

// direct is the first attempt of a message that nobody waits with.
type direct struct {
	call     pool.Call
	sender   pool.Sender // where the call waits for a place; nil: it does not
	ended    bool        // the call has
	delivery *Delivery
	ender    Ender
}

// start sends the message without waiting, if that can be; then how it ends is told to end.
func (x *single) start(d *Delivery, b *pool.Batch, end Ender) bool {
	sender, ok := x.engine.state.Load().pool.(pool.Sender)
	// What a response, its expiry or its turn makes differ is left to those who wait.
	if !ok || x.fn.Batch != nil || x.result != nil || !closed(x.turn) || x.m.QoS > 1 || x.m.ResponseTopic != "" || !x.m.Expires.IsZero() {
		return false
	}
	x.delivery, x.ender = d, end
	x.call = pool.Call{Function: x.fn.Name, Request: x.build(), Timeout: x.fn.Timeout, Repeatable: x.m.QoS > 0, Done: x.answered, Waits: func() { x.await(sender) }}
	if !x.begin() {
		return false
	}
	if sender.Send(&x.call, b) {
		x.await(sender)
	}
	return true
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
func (x *single) await(s pool.Sender) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return
	}
	x.sender, x.underWay = s, false
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
