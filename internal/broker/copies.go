package broker

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	"eproxy/internal/request"
)

// Bounds of the copies that wait for subscribers in userspace. A session with copiesHeld of them has what it publishes next on also_broker
// routes taken by the server, which waits for them; of copiesMax the programs' ring is not read any more, so that it fills, and
// all such messages are the server's.
const (
	copiesHeld = 64
	copiesMax  = 1024
)

// copies are those messages of a session that the kernel path took and that subscribers get as well (also_broker), in their
// order. They are given by a goroutine of the session's own: one that waits for a subscriber makes no other client wait.
type copies struct {
	done atomic.Uint32 // how many subscribers have had, modulo 2^32, as Graft.Copies counts

	mu     sync.Mutex
	queue  []*request.Message
	taken  int // those that are being given
	giving bool
	moved  chan struct{} // closed when done changes; nil: nobody waits for that
}

// copied enters the PUBLISH of a message that the kernel path took, for subscribers. It waits while userspace has too many.
func (s *Session) copied(packet []byte) {
	m := s.copyOf(packet)
	if m == nil {
		s.copies.count() // subscribers wait for it no more
		return
	}
	select {
	case s.server.copying <- struct{}{}:
	case <-s.server.ctx.Done():
		s.copies.count()
		return
	}
	c := &s.copies
	c.mu.Lock()
	c.queue = append(c.queue, m)
	first, many := !c.giving, c.waiting() == copiesHeld
	c.giving = true
	c.mu.Unlock()
	if many {
		s.slow()
	}
	if first {
		go s.give()
	}
}

// copyOf is the message of a PUBLISH that the programs took for valid; nil: it is not.
func (s *Session) copyOf(packet []byte) (m *request.Message) {
	defer s.server.absorb(s.ClientID) // it is parsed in nobody's goroutine but the data plane's
	m, err := s.server.front.Message(s.Version, bytes.Clone(packet))
	if err != nil {
		s.server.often.Warn("copy of a message that cannot be read", s.ClientID, "client", s.ClientID, "error", err)
		return nil
	}
	s.stamp(m)
	return m
}

// slow has the server take what follows on also_broker routes, until it has named a boundary.
func (s *Session) slow() {
	s.ordering.Store(true)
	if g := s.armed(); g != nil {
		g.Behind()
	}
}

// give gives subscribers what is queued.
func (s *Session) give() {
	for {
		batch := s.copies.take()
		if len(batch) == 0 {
			return
		}
		for _, m := range batch {
			s.giveOne(m)
		}
	}
}

func (s *Session) giveOne(m *request.Message) {
	defer s.server.absorb(s.ClientID)
	defer func() {
		s.copies.given()
		<-s.server.copying
	}()
	s.server.toSubscribers(m, s.server.front.Copy)
}

// take takes all that is queued; nothing: the goroutine that gives is to end.
func (c *copies) take() []*request.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	batch := c.queue
	c.queue, c.taken, c.giving = nil, len(batch), len(batch) > 0
	return batch
}

// waiting is how many subscribers have not had; c.mu is held.
func (c *copies) waiting() int { return len(c.queue) + c.taken }

// given says that subscribers have had one more of what was queued.
func (c *copies) given() {
	c.mu.Lock()
	c.taken--
	c.mu.Unlock()
	c.count()
}

// count says that subscribers have had one more, or will not have it.
func (c *copies) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done.Add(1)
	if c.moved != nil {
		close(c.moved)
		c.moved = nil
	}
}

// lacks says whether subscribers have had less than n copies; changed is closed when they have had another.
func (c *copies) lacks(n uint32) (changed <-chan struct{}, lacks bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int32(n-c.done.Load()) <= 0 {
		return nil, false
	}
	if c.moved == nil {
		c.moved = make(chan struct{})
	}
	return c.moved, true
}

// many says whether so many copies wait that the programs must not make more.
func (c *copies) many() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting() >= copiesHeld
}

// settleCopies waits until subscribers have their copies of all that the kernel path took of what the client has sent so far: what is
// published for it next comes behind them [MQTT-4.6.0-6]. It ends with ctx, or with the server.
func (s *Session) settleCopies(ctx context.Context) {
	g := s.armed()
	if g == nil || s.server.ctx.Err() != nil { // with the server goes what the programs count in
		return
	}
	n := g.Copies()
	if n == s.copies.done.Load() {
		return
	}
	for {
		changed, lacks := s.copies.lacks(n)
		if !lacks {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		case <-s.server.ctx.Done():
			return
		}
	}
}
