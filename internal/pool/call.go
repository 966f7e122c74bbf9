package pool

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// Call is one request that is sent without anybody waiting for it.
type Call struct {
	Function string
	Client   string        // whose it is: clients have one after another their turn
	Request  []byte        // not changed until Done is called
	Timeout  time.Duration // from its sending to its response
	// Repeatable says that it may be sent again though the pod may have read it. Only such calls meet where it is
	// found out whether a pod answers several on one connection.
	Repeatable bool
	Owner      any // the caller's own; Done and Waits may want it
	// Done is called once, when the call has ended, by any goroutine; it must not wait.
	Done func(*Call, *Batch)
	// Waits is called when a call that was under way is sent again, unread, and waits for a place;
	// also when it has ended meanwhile. nil: nobody wants to know.
	Waits func(*Call)

	// How it ended; for Done.
	Pod      netip.AddrPort
	PodName  string    // the same, as metrics have it
	Response *Response // without header and body, unless it is no success
	Err      error
	// Behind says that the call failed with its connection, on which others were ahead of it, or because
	// others were on it: that says nothing about this request.
	Behind bool

	turn     *turn // waits for a place; nil: it has one, or has ended
	whole    bool  // the response's header and body are wanted
	leased   bool  // the connection is a lease's: it has the place
	replaced bool  // it was sent again because nobody had read it
	sent     time.Time
	end      uint64 // of the request, in the connection's stream
	ahead    int    // requests that were under way on the connection
	trial    int    // so many in flight were tried with it; 0: none
	together bool   // the trial was written along with what it stands behind, or more than two are tried
	held     bool   // the pod had it when it answered one before
	more     bool   // bytes have come behind the response
}

// Sender is a Pool that sends requests for which nobody waits.
type Sender interface {
	Pool
	// Send sends a call as soon as there is a place for it at a pod, in its client's turn, along with the callers of
	// Acquire. What is written is in the batch, which is
	// to be flushed. waits: there is no place yet.
	Send(c *Call, b *Batch) (waits bool)
	// Withdraw ends a call that waits for a place, without Done; false if it does not wait.
	Withdraw(c *Call) bool
}

var _ Sender = (*Standalone)(nil)

// Flusher has something to write that was put together.
type Flusher interface {
	// Flush writes it, as far as that is possible without waiting.
	Flush()
}

// Batch are those that have something to write; what comes together is written together.
// Each goroutine has its own, so that nobody waits for what another is about to flush.
type Batch struct {
	dirty []Flusher
	last  *conn // where the last call went
	holds []*atomic.Int64
}

// Add notes that something is to be written.
func (b *Batch) Add(f Flusher) {
	if !slices.Contains(b.dirty, f) {
		b.dirty = append(b.dirty, f)
	}
}

// Hold adds one to a count until what was put together so far is given to be written.
func (b *Batch) Hold(n *atomic.Int64) {
	n.Add(1)
	b.holds = append(b.holds, n)
}

// Gather writes all there is to write when those that are ready to run have had a turn: what they have for the
// same connections is written along with it then. Where nobody is ready that takes no time.
func (b *Batch) Gather() {
	if len(b.dirty) > 0 {
		runtime.Gosched()
	}
	b.Flush()
}

// Flush writes all there is to write.
func (b *Batch) Flush() {
	for i, f := range b.dirty {
		b.dirty[i] = nil
		f.Flush()
	}
	b.dirty = b.dirty[:0]
	for _, n := range b.holds {
		n.Add(-1)
	}
	b.holds = b.holds[:0]
}

// Send sends a call; Sender.
func (s *Standalone) Send(c *Call, b *Batch) (waits bool) {
	s.lock(b)
	defer s.unlock()
	c.Err, c.Behind, c.trial, c.together, c.held = nil, false, 0, false, false // of when it was sent before
	f := s.functions[c.Function]
	if f == nil || s.closed {
		s.end(c, fmt.Errorf("function %s: %w", c.Function, ErrNoPod))
		return false
	}
	if f.turns.Len() > 0 || !s.assign(f, c) {
		f.queue(&turn{client: c.Client, call: c})
		s.serve(c.Function, f)
	}
	return c.turn != nil
}

// Withdraw ends a call that waits; Sender.
func (s *Standalone) Withdraw(c *Call) bool {
	s.lock(nil)
	defer s.unlock()
	f := s.functions[c.Function]
	if f == nil || c.turn == nil || !f.leave(c.turn) {
		return false
	}
	c.turn = nil
	s.serve(c.Function, f)
	return true
}

// assign gives a call a place, if there is one: on the connection that the batch's last one went to,
// if it is likely to be sent soon there, else a free one, else behind others. s.mu is held.
func (s *Standalone) assign(f *function, c *Call) bool {
	now := time.Now()
	for {
		at := s.batch.last
		if at == nil || at.f != f || !at.takes(c, followTime) {
			at = nil
			if p := f.choose(nil, now); p != nil {
				if at = p.hot(c.Repeatable, now); at == nil {
					s.dials = append(s.dials, dial{c, f, p})
					return true
				}
				p.busy = append(p.busy, at)
			} else if at = cmp.Or(f.shortest(c), s.trying(f, c)); at == nil {
				return false
			}
		}
		if s.put(at, c, now) {
			return true
		}
	}
}

// put sends a call on a connection that has a place for it; false if that has ended meanwhile. s.mu is held.
func (s *Standalone) put(at *conn, c *Call, now time.Time) bool {
	if !at.push(c, now, s.patienceOf(at.pod.shared), at.pod.pipe.Auto) {
		c.trial = 0
		at.dead = true
		if at.inFlight == 0 {
			at.pod.idled(at)
			at.pod.leave(at.run)
		}
		return false
	}
	if at.inFlight++; at.inFlight == 1 {
		at.run = 0
	}
	at.run++
	at.carried++
	at.count(c, 1)
	c.Pod, c.PodName = at.pod.addr, at.pod.name
	s.batch.Add(at)
	s.batch.last = at
	return true
}

// warmTime is how long after a response a connection is taken for open as long as its reader has heard of no end, for what
// may be sent again.
const warmTime = 2 * time.Millisecond

// hot is the idle connection that was used last; nil if there is none. The kernel is asked whether it has ended, unless
// what goes there may be sent again, it was used just now, and the pod has kept it after a response before. The pool's mu is held.
func (p *pod) hot(repeatable bool, now time.Time) *conn {
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		if repeatable && c.carried > 1 && now.Sub(c.answered) < warmTime || !c.gone() {
			return c
		}
		c.dead = true
		_ = c.Close() // its reader sees to the rest
	}
	return nil
}

// dial is a call that has a place, and no connection yet.
type dial struct {
	call *Call
	f    *function
	pod  *pod
}

// open makes a call's connection.
func (s *Standalone) open(d dial) {
	c, err := connect(context.Background(), d.pod.addr)
	s.dialled(d.call.Function, d.pod, err)
	s.lock(nil)
	defer s.unlock()
	d.call.Pod, d.call.PodName = d.pod.addr, d.pod.name
	if err != nil {
		d.pod.leave(0)
		s.serve(d.call.Function, d.f)
		s.end(d.call, fmt.Errorf("%w: %w", ErrUnread, err))
		return
	}
	at := newConn(s, d.f, d.pod, c)
	d.pod.busy = append(d.pod.busy, at)
	s.put(at, d.call, time.Now())
	go at.read()
}

// answered gives up the place that a call had on a connection; keep: that may be used again.
func (s *Standalone) answered(c *conn, call *Call, keep bool, now time.Time, b *Batch) {
	s.lock(b)
	defer s.unlock()
	p := c.pod
	began := call.sent
	if c.answered.After(began) {
		began = c.answered
	}
	c.answered = now
	p.pipe.answered(now.Sub(began))
	p.pipe.Carried(c.carried)
	c.count(call, -1)
	if call.trial > 0 {
		p.tried(c, call)
	}
	if !keep && c.inFlight > 1 {
		p.pipe.Cut(c.carried - c.inFlight + 1)
	}
	c.dead = c.dead || !keep
	if c.inFlight--; c.inFlight == 0 {
		p.idled(c)
		p.leave(c.run)
		if !call.more && !c.dead && !s.closed && !p.gone && p.spare() {
			p.idle = append(p.idle, c)
		} else {
			c.dead = true
			_ = c.Close() // its reader sees to the rest
		}
	}
	b.last = c
	s.serve(call.Function, c.f)
}

// count counts a call that comes to the connection, or leaves it; the pool's mu is held.
func (c *conn) count(call *Call, n int) {
	if call.trial > 0 {
		c.trials += n
	}
	if !call.Repeatable {
		c.once += n
	}
}

// tests says whether it is being tried on a connection what the pod does with several requests.
func (s *Standalone) tests(c *conn) bool {
	s.lock(nil)
	defer s.unlock()
	return c.trials > 0
}

// ended gives up the place of a connection that has ended. trouble: it had several requests in flight, where it is
// found out whether the pod answers them.
func (s *Standalone) ended(c *conn, b *Batch) (trouble bool) {
	s.lock(b)
	defer s.unlock()
	p := c.pod
	c.dead = true
	p.idle = slices.DeleteFunc(p.idle, func(other *conn) bool { return other == c })
	trouble = p.pipe.Auto && !p.gone && c.inFlight > 0 && c.run > 1
	if c.inFlight > 0 {
		c.inFlight, c.trials, c.once = 0, 0, 0
		p.idled(c)
		p.leave(c.run)
		s.serve(c.f.name, c.f)
	}
	return trouble
}

// idled takes a connection from those with requests in flight; the pool's mu is held.
func (p *pod) idled(c *conn) {
	p.busy = slices.DeleteFunc(p.busy, func(other *conn) bool { return other == c })
}

// leave gives a place back, after so many requests; the pool's mu is held.
func (p *pod) leave(requests int) {
	p.used--
	if p.shared != nil {
		p.shared.Leave(requests)
	}
}

// end has a call end so, after the pool's mu is left; it is held.
func (s *Standalone) end(c *Call, err error) {
	c.Err = err
	s.over = append(s.over, c)
}

// lock takes mu. What is to be written until unlock goes into the batch; nil: it is
// written then.
func (s *Standalone) lock(b *Batch) {
	s.mu.Lock()
	if s.own = b == nil; s.own {
		b = &Batch{}
	}
	s.batch = b
}

// unlock leaves mu and does what was left for then.
func (s *Standalone) unlock() {
	b, own, dials, over := s.batch, s.own, s.dials, s.over
	s.batch, s.dials, s.over = nil, nil, nil
	s.mu.Unlock()
	for _, d := range dials {
		go s.open(d)
	}
	for _, c := range over {
		c.Done(c, b)
	}
	if own {
		b.Flush()
	}
}
