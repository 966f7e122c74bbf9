package delivery

import (
	"slices"
	"sync"

	"eproxy/internal/config"
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

// queue is what userspace holds for one function, on either path: messages that
// wait for a connection or for their next attempt, and those that have one under
// way. Which of them is next the pool decides (first come, first served); the queue
// decides which may come in, and who waits outside is served in order, too.
type queue struct {
	activate func() // told that a message waits and no pod is there for it

	mu      sync.Mutex
	bounds  bounds
	held    bounds // now
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
	return q.held.messages < b.messages && (q.held.messages == 0 || q.held.bytes+size <= b.bytes)
}

func (q *queue) admit(size int) {
	q.held.messages++
	q.held.bytes += size
	q.wake()
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
