package delivery

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// outsideBytes bounds the messages of all clients together that wait for a place,
// each the last one that was read from its client's connection. Beyond it none waits.
const outsideBytes = 64 << 20

// Publisher is a client as the functions' queues see it. It has up to limit messages
// in each. While one more waits for a place, nothing is read from the client, but not
// for longer than its patience, whichever functions it waits for meanwhile: then the oldest
// of its messages there that has no attempt under way gives way. From then on none waits
// until the client is heard again: all that it had sent is read, or the function that
// it waited for has answered one of its messages.
type Publisher struct {
	engine   *Engine
	limit    int
	patience time.Duration
	gone     <-chan struct{}
	behind   atomic.Bool // it has waited since CaughtUp
	batch    pool.Batch  // of the goroutine that calls Begin

	mu      sync.Mutex
	windows map[string]*window // by function
	since   time.Time          // since when it is not heard for want of a place; zero: it is
	last    *window            // where it has waited last
}

// window is what a client has in one queue.
type window struct {
	singles  []*single     // in order of arrival; the last one may be outside
	freed    chan struct{} // closed when one leaves; nil: nobody waits for that
	answered time.Time     // when the function last answered one
	since    time.Time     // from when the client's patience with the function counts; zero: it has not waited here
}

// NewPublisher makes a client. gone is closed when its session is over.
func (e *Engine) NewPublisher(limit int, patience time.Duration, gone <-chan struct{}) *Publisher {
	return &Publisher{engine: e, limit: limit, patience: patience, gone: gone, windows: make(map[string]*window)}
}

// Begin enters a message that was read from the client just now into the queues of its
// functions, and waits for its places there; one at a time. What becomes of a message that
// gets none is settled when it returns. turn is closed when the message may be sent;
// nil: at once.
func (p *Publisher) Begin(ctx context.Context, route *config.Route, m *request.Message, turn <-chan struct{}) *Delivery {
	d := p.engine.arrive(ctx, route, m, time.Now())
	ordered := d.singles
	if len(ordered) > 1 { // two clients never wait for each other's places
		ordered = slices.Clone(ordered)
		slices.SortFunc(ordered, func(a, b *single) int { return cmp.Compare(a.fn.Name, b.fn.Name) })
	}
	for _, x := range ordered {
		x.turn = turn
		p.enter(x)
	}
	return d
}

// Batch is what the goroutine that calls Begin has to write; before it waits for anything, it flushes it.
func (p *Publisher) Batch() *pool.Batch { return &p.batch }

// Behind says whether the client had to wait for a place since CaughtUp.
func (p *Publisher) Behind() bool { return p.behind.Load() }

// CaughtUp is called when all that the client has sent is read.
func (p *Publisher) CaughtUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behind.Store(false)
	p.since = time.Time{}
	for _, w := range p.windows {
		w.since = time.Time{}
	}
}

// enter gets a message its places in the client's window and in the queue, or ends it.
func (p *Publisher) enter(x *single) {
	w := p.join(x)
	x.inside = !x.follows() && p.place(w) && x.queue.enter(x.size)
	if !x.inside && !x.spill() {
		x.inside = p.await(w, x)
	}
	switch {
	case x.record != nil: // it is the spool's, and holds no place
		p.leave(x, false)
		x.publisher = nil
	case !x.inside:
		x.settle(x.unfinished(x.outcome(nil), 0))
	}
}

// join puts a message last in its window.
func (p *Publisher) join(x *single) *window {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.windows[x.fn.Name]
	if w == nil {
		w = &window{}
		p.windows[x.fn.Name] = w
	}
	w.singles = append(w.singles, x)
	x.publisher = p
	return w
}

// leave takes a message out of its window. answered: its function had it.
func (p *Publisher) leave(x *single, answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.windows[x.fn.Name]
	if i := slices.Index(w.singles, x); i >= 0 { // mostly the first
		w.singles = slices.Delete(w.singles, i, i+1)
	}
	if answered {
		w.answered, w.since = time.Now(), time.Time{}
		if p.last == w {
			p.since = time.Time{}
		}
	}
	if w.freed != nil {
		close(w.freed)
		w.freed = nil
	}
}

// place says whether the last message of a window has a place there.
func (p *Publisher) place(w *window) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(w.singles) <= p.limit
}

// await waits for places, or for room in the spool; false if the message has got that, or its waiting, or the client's session, ends.
func (p *Publisher) await(w *window, x *single) bool {
	p.batch.Flush() // what is waited for may depend on it
	size := int64(x.size + len(x.encoded))
	defer func() {
		p.engine.outside.Add(-size)
		x.encoded = nil // the queue, where it has a place there, counts the message alone
	}()
	crowded := p.engine.outside.Add(size) > outsideBytes
	var t *turn
	var victim *single
	for {
		left, freed := p.stalled(w)
		if t == nil && p.place(w) && !x.follows() {
			t = x.queue.ask(x.size)
		}
		if left <= 0 || crowded {
			if t != nil {
				x.queue.hurry(t)
			}
			if t == nil || !t.has() {
				victim = p.giveWay(w, victim)
			}
		}
		if t != nil && t.has() {
			return true
		}
		if !x.stay(t, freed, left, p.gone) || x.spill() {
			if t != nil {
				x.queue.withdraw(t)
			}
			return false
		}
	}
}

// stalled is how long the client may still be left unheard, and what is closed when one of its
// messages leaves. What it has waited for other functions counts, unless this one has
// answered meanwhile.
func (p *Publisher) stalled(w *window) (left time.Duration, freed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = w
	p.behind.Store(true)
	if p.since.IsZero() {
		p.since = time.Now()
	}
	if w.since.IsZero() {
		w.since = p.since
		if w.answered.After(w.since) {
			w.since = w.answered
		}
	}
	if w.freed == nil {
		w.freed = make(chan struct{})
	}
	return time.Until(w.since.Add(p.patience)), w.freed
}

// giveWay ends the waiting of the oldest message that waits, perhaps the one that has no place, and
// returns it; none while the one before is still leaving.
func (p *Publisher) giveWay(w *window, before *single) *single {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Contains(w.singles, before) {
		return before
	}
	for _, x := range w.singles {
		if x.giveWay() {
			return x
		}
	}
	return nil
}
