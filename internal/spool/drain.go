package spool

import (
	"math/rand/v2"
	"sync"
	"time"
)

// windowBytes is how much of a client is read at once, beyond its first message.
const windowBytes = 1 << 20

// Bounds of how long a client waits for the next try after one that has failed; it doubles.
const (
	pauseMin = time.Second
	pauseMax = 30 * time.Second
)

// drain is whose turn it is.
type drain struct {
	changed *sync.Cond // of Spool.mu
	line    []*client  // who may have something, first come, first served
}

// turn is a client's in the drain.
type turn struct {
	taken  bool // it waits in the line, is being served, or pauses
	missed bool // something has changed since it was served
	fails  int  // tries in a row that have failed

	served   uint64 // what the function had served at the latest of them
	unserved int    // of them, those between which it has served something
}

// Window is the next messages of a client. Whoever has it calls Done, once.
type Window struct {
	Client   string
	Records  []*Record
	Unserved int // how many times in a row the first one was tried in vain, and the function has served others since the time before

	spool  *Spool
	client *client
	failed bool
}

// Record is a message of a Window.
type Record struct {
	Value []byte

	key   string
	gone  bool // it is not in the file any more
	ended bool // it has an outcome
}

// ready puts a client into the line; s.mu is held.
func (s *Spool) ready(c *client) {
	switch {
	case c.kept.Messages == 0:
	case c.turn.taken:
		c.turn.missed = true
	default:
		c.turn.taken, c.turn.missed = true, false
		s.drain.line = append(s.drain.line, c)
		s.drain.changed.Signal()
	}
}

// Next waits for the next messages of a client whose turn it is, at most so many, all of which came before what it has in memory.
// nil: the spool is closed.
func (s *Spool) Next(most int) (*Window, error) {
	for {
		c := s.next()
		if c == nil {
			return nil, nil
		}
		w, err := s.read(c, most)
		if err != nil || len(w.Records) > 0 {
			return w, err
		}
		s.passed(c)
	}
}

// next is who is first in the line; nil: the spool is closed.
func (s *Spool) next() *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.drain.line) == 0 && !s.closed {
		s.drain.changed.Wait()
	}
	if s.closed {
		return nil
	}
	c := s.drain.line[0]
	s.drain.line[0] = nil
	s.drain.line = s.drain.line[1:]
	c.turn.missed = false
	return c
}

// passed ends a client's turn; whoever has more, or may have since, gets another.
func (s *Spool) passed(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := c.turn.missed
	c.turn.taken = false
	if again {
		s.ready(c)
	}
	s.tidy(c)
}

// read reads a client's next messages.
func (s *Spool) read(c *client, most int) (*Window, error) {
	w := &Window{Client: c.name, spool: s, client: c}
	until := s.begin(c, w)
	bytes := 0
	err := s.store.Range(messages, c.name, func(key string, value []byte) bool {
		if until != "" && key > until || len(w.Records) > 0 && bytes+len(value) > windowBytes {
			return false
		}
		bytes += len(value)
		w.Records = append(w.Records, &Record{Value: value, key: key})
		return len(w.Records) < most
	})
	return w, err
}

// begin is the key behind which nothing of a client's may be drained; empty: all may.
func (s *Spool) begin(c *client, w *Window) (until string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Unserved = c.turn.unserved
	if len(c.memory) > 0 {
		until = key(c.name, c.memory[0])
	}
	return until
}

// Take removes a message from the file, before it is tried: it is not to be tried again after a crash. Done puts it back if
// it has no outcome by then. false: the spool was closed first, the message may be there still, and is not to be tried.
func (w *Window) Take(r *Record) bool {
	r.gone = true
	return w.spool.store.Delete(messages, r.key) && w.spool.store.Sync()
}

// End notes that a message is not the spool's any more, and how that came.
func (w *Window) End(r *Record, outcome string) {
	r.ended = true
	if !r.gone {
		w.spool.store.Delete(messages, r.key)
	}
	w.spool.mu.Lock()
	defer w.spool.mu.Unlock()
	w.spool.counts.Ended[outcome]++
	w.client.turn.fails = 0
	if r == w.Records[0] { // what others behind it come to says nothing of it
		w.client.turn.unserved = 0
	}
}

// Failed notes that the first message without an outcome is to be tried again, after a pause. tried: it was; its function had served so many others
// then.
func (w *Window) Failed(tried bool, served uint64) {
	w.spool.mu.Lock()
	defer w.spool.mu.Unlock()
	w.failed = true
	t := &w.client.turn
	t.fails++
	if !tried {
		return
	}
	if t.served > 0 && served > t.served {
		t.unserved++
	}
	t.served = served
}

// Done ends the turn, when what has changed is on disk.
func (w *Window) Done() {
	s, c := w.spool, w.client
	for _, r := range w.Records {
		if r.gone && !r.ended {
			s.store.Put(messages, r.key, r.Value)
		}
	}
	s.store.Sync()
	s.mu.Lock()
	for _, r := range w.Records {
		if r.ended {
			s.keep(c, -1, -size(c.name, len(r.Value)))
		}
	}
	s.free()
	c.turn.missed = true
	pause := pauseOf(c.turn.fails)
	s.mu.Unlock()
	if !w.failed {
		s.passed(c)
		return
	}
	time.AfterFunc(pause, func() { s.passed(c) }) // as many as there are clients, at most
}

// pauseOf is how long a client waits after so many failures in a row: half of it by chance.
func pauseOf(fails int) time.Duration {
	d := min(pauseMin<<min(max(fails-1, 0), 10), pauseMax)
	return d/2 + rand.N(d/2+1)
}

// Stop ends the drain: Next returns nil, and nothing more is taken.
func (s *Spool) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.drain.changed.Broadcast()
	s.free()
}
