package delivery

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"eproxy/internal/abi"
	"eproxy/internal/config"
	"eproxy/internal/spool"
	"eproxy/internal/traffic"
)

// bounds are how much a queue may hold.
type bounds struct {
	messages int
	bytes    int // of topics, payloads and properties
}

// queueBounds are those of a function that says nothing else.
var queueBounds = bounds{messages: config.QueueMessages, bytes: config.QueueBytes}

// share is what clients that can be held back may use of them. The rest is for
// what cannot: messages that the kernel path hands over, wills, responses.
func (b bounds) share() bounds { return bounds{b.messages - b.messages/4, b.bytes - b.bytes/4} }

// Parked is what waits for a function in the kernel: a part of its queue.
type Parked interface {
	Count() int         // messages that wait there
	Allow(messages int) // so many may; it does not wait
}

// ParkedBytes is what a message that waits in the kernel counts in its queue.
const ParkedBytes = abi.RequestMax

// reserve is what is left of a queue's bounds to userspace, whatever waits in the kernel: so who waits for room
// there is told of it by messages that leave userspace.
func (b bounds) reserve() bounds { return bounds{b.messages / 4, b.bytes / 4} }

// queue is what there is of one function's messages, on either path: those that wait in the kernel, which it
// only counts, and those that userspace holds, which wait for a connection or for their next attempt, or have
// one under way. Which of them is next the pool decides (clients have one after another their turn); the queue
// decides which may come in, and who waits outside is served in order, too.
type queue struct {
	activate func() // told that a message waits and no pod is there for it
	track    traffic.Tracker
	spool    atomic.Pointer[spool.Spool] // nil: the function has none

	mu      sync.Mutex
	bounds  bounds
	held    bounds // by userspace, now
	parked  Parked // may be nil
	outside []*turn
	asleep  bool // no pod gets the function's messages
	woken   bool // and activate was told so
}

// follow takes over what a configuration says of the function.
func (q *queue) follow(fn *config.Function) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if fn.Queue.Messages > 0 {
		q.bounds = bounds{fn.Queue.Messages, fn.Queue.Bytes}
	}
	if q.asleep = len(fn.Pods) == 0; !q.asleep {
		q.woken = false
	}
	q.allow()
	q.grant()
	q.wake()
}

// wake has the function activated where a message waits and there is no pod: once, until it
// has had one. q.mu is held.
func (q *queue) wake() {
	if q.asleep && !q.woken && q.held.messages > 0 && q.activate != nil {
		q.woken = true
		go q.activate()
	}
}

// turn is a message that waits for room in a queue.
type turn struct {
	size    int
	granted chan struct{} // closed when it has room
}

// fits says whether a message may come in; q.mu is held. One that is larger than
// the whole queue may when it is empty.
func (q *queue) fits(size int, b bounds) bool {
	least, parked := q.bounds.reserve(), 0
	if q.parked != nil {
		parked = q.parked.Count()
	}
	messages := max(min(least.messages, b.messages), b.messages-parked)
	bytes := max(min(least.bytes, b.bytes), b.bytes-parked*ParkedBytes)
	return q.held.messages < messages && (q.held.messages == 0 || q.held.bytes+size <= bytes)
}

func (q *queue) admit(size int) {
	q.held.messages++
	q.held.bytes += size
	q.allow()
	q.wake()
}

// allow lets as many messages wait in the kernel as userspace leaves of the bounds; q.mu is held.
func (q *queue) allow() {
	if q.parked == nil {
		return
	}
	least := q.bounds.reserve()
	q.parked.Allow(max(0, min(q.bounds.messages-max(q.held.messages, least.messages), (q.bounds.bytes-max(q.held.bytes, least.bytes))/ParkedBytes)))
}

// park joins what waits in the kernel to the queue.
func (q *queue) park(p Parked) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.parked = p
	q.allow()
}

// count is how many messages userspace has, also those that wait for room.
func (q *queue) count() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held.messages + len(q.outside)
}

// push takes in a message that cannot wait; false if there is no room.
func (q *queue) push(size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.fits(size, q.bounds) {
		return false
	}
	q.admit(size)
	return true
}

// has says whether the message has room.
func (t *turn) has() bool {
	select {
	case <-t.granted:
		return true
	default:
		return false
	}
}

// enter takes in a client's message; false if there is no room, or others wait.
func (q *queue) enter(size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.outside) > 0 || !q.fits(size, q.bounds.share()) {
		return false
	}
	q.admit(size)
	return true
}

// ask takes in a client's message as soon as it is its turn.
func (q *queue) ask(size int) *turn {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &turn{size, make(chan struct{})}
	q.outside = append(q.outside, t)
	q.grant()
	return t
}

// await takes in a message when it is its turn; false: waiting has ended before.
func (q *queue) await(size int, waiting context.Context) bool {
	t := q.ask(size)
	select {
	case <-t.granted:
		return true
	case <-waiting.Done():
		q.withdraw(t)
		return false
	}
}

// hurry puts a turn before all others.
func (q *queue) hurry(t *turn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.outside, t); i > 0 {
		q.outside = slices.Insert(slices.Delete(q.outside, i, i+1), 0, t)
		q.grant()
	}
}

// withdraw gives a turn up, and the room that it has got meanwhile.
func (q *queue) withdraw(t *turn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.outside, t); i >= 0 {
		q.outside = slices.Delete(q.outside, i, i+1)
	} else {
		q.remove(t.size)
	}
	q.grant() // it may have kept a smaller one waiting
}

// leave gives a message's room back.
func (q *queue) leave(size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.remove(size)
	q.grant()
}

func (q *queue) remove(size int) {
	q.held.messages--
	q.held.bytes -= size
	if q.held.messages == 0 {
		q.woken = false // whom the next one waits for may have given up since
	}
	q.allow()
}

// grant takes in who is next, as long as there is room; q.mu is held.
func (q *queue) grant() {
	for len(q.outside) > 0 && q.fits(q.outside[0].size, q.bounds.share()) {
		q.admit(q.outside[0].size)
		close(q.outside[0].granted)
		q.outside[0] = nil
		q.outside = q.outside[1:]
	}
}

// queues are those of the functions, by name: a reload changes a function, not
// what is held for it. There are as many as configurations have named functions.
type queues struct {
	activate func(function string) // may be nil

	mu sync.Mutex
	m  map[string]*queue
}

// follow takes over what a configuration says of its functions.
func (q *queues) follow(cfg *config.Config) {
	for _, fn := range cfg.Functions {
		q.of(fn.Name).follow(fn)
	}
}

func (q *queues) of(function string) *queue {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.m == nil {
		q.m = make(map[string]*queue)
	}
	if q.m[function] == nil {
		x := &queue{bounds: queueBounds}
		if q.activate != nil {
			x.activate = func() { q.activate(function) }
		}
		q.m[function] = x
	}
	return q.m[function]
}

// each tells what userspace holds for the functions, and what their queues have room for.
func (q *queues) each(tell func(function string, held, limit bounds)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, x := range q.m {
		x.mu.Lock()
		held, limit := x.held, x.bounds
		x.mu.Unlock()
		tell(name, held, limit)
	}
}
