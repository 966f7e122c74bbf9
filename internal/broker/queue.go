package broker

import (
	"sync"
	"sync/atomic"

	"eproxy/internal/delivery"
)

// ackQueue is what the kernel path has finished for one client and its socket
// has yet to be notified of. Whoever adds never waits: a client that does not read its
// acknowledgements must not hold up the events of all others.
type ackQueue struct {
	write    func(a ack) // may wait for the socket
	overflow func()      // called once, when more than limit wait
	limit    int
	queued   *atomic.Int64 // of all queues; a closing server waits for them

	mu      sync.Mutex
	waiting []ack
	writing bool
	ended   bool
}

type ack struct {
	id      uint16
	hold    Hold
	outcome delivery.Outcome
}

// add puts an acknowledgement behind those that wait.
func (q *ackQueue) add(a ack) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return
	}
	if len(q.waiting) >= q.limit {
		q.queued.Add(-int64(len(q.waiting)))
		q.ended, q.waiting = true, nil
		q.overflow()
		return
	}
	q.queued.Add(1)
	q.waiting = append(q.waiting, a)
	if !q.writing {
		q.writing = true
		go q.drain()
	}
}

// drain writes what waits, in the order of add, until nothing does.
func (q *ackQueue) drain() {
	for {
		q.mu.Lock()
		batch := q.waiting
		q.waiting = nil
		q.writing = len(batch) > 0
		q.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, a := range batch {
			q.write(a)
			q.queued.Add(-1)
		}
	}
}
