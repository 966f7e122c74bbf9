package takeover

import (
	"slices"
	"sync"
)

// Lines is what the programs know of the lines of ordered routes: parking.Queues.
type Lines interface {
	// Free says whether userspace stands in front in a line just so many times, and no pod has a message of it. If not, again is called
	// once, in a goroutine of its own, when that may have changed. Where several ask of one line it is that of the latest one.
	Free(line uint64, held int, again func()) bool
	// Release ends one of the times that userspace stands in front in a line, of this number.
	Release(line uint64, number uint32)
}

// place is a message's in the line of its client and ordered route, in front of which userspace stands until it has left.
type place struct {
	line   uint64 // its name; 0: the route is not ordered, and there is none
	number uint32
	turn   chan struct{} // closed when the message may be sent
}

// standing are the messages that userspace has taken over, by their lines, each in the order in which they came.
type standing struct {
	programs Lines

	mu    sync.Mutex
	lines map[uint64][]*place
}

// join puts a message in its line. sent: a pod has had it, so that it came before all others that are userspace's.
func (s *standing) join(line uint64, number uint32, sent bool) *place {
	p := &place{line: line, number: number}
	if number == 0 {
		return p
	}
	p.turn = make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == nil {
		s.lines = make(map[uint64][]*place)
	}
	at := len(s.lines[line])
	if sent {
		at = 0
	}
	s.lines[line] = slices.Insert(s.lines[line], at, p)
	s.advance(line)
	return p
}

// advance gives the first message of a line its turn, if none that came before it is a pod's, the broker's, or just being taken
// over; s.mu is held.
func (s *standing) advance(line uint64) {
	all := s.lines[line]
	if len(all) == 0 {
		delete(s.lines, line)
		return
	}
	select {
	case <-all[0].turn:
		return
	default:
	}
	if s.programs.Free(line, len(all), func() { s.moved(line) }) {
		close(all[0].turn)
	}
}

// moved is called when something has happened in a line.
func (s *standing) moved(line uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(line)
}

// leave takes a message that has an outcome out of its line: the next one may be sent.
func (s *standing) leave(p *place) {
	if p.number == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.lines[p.line], p); i >= 0 {
		s.lines[p.line] = slices.Delete(s.lines[p.line], i, i+1)
	}
	s.programs.Release(p.line, p.number)
	s.advance(p.line)
}
