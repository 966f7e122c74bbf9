package relay

import (
	"sync"

	"github.com/mochi-mqtt/server/v2/packets"
)

// copies are those messages of QoS 1 and 2 that the broker has got as well as their functions (also_broker), until it has
// acknowledged them. A copy has its message's packet identifier: the client uses it for nothing else before it has its
// acknowledgement, which waits for the broker's.
type copies struct {
	mu   sync.Mutex
	open map[uint16]*carbon
}

// carbon is one copy.
type carbon struct {
	answer []byte // acknowledgement for the client that waits; nil: its function has yet to answer
}

// begin notes a copy that is about to be sent.
func (s *copies) begin(id uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[uint16]*carbon)
	}
	s.open[id] = &carbon{}
}

// has says whether the broker has yet to acknowledge a copy.
func (s *copies) has(id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[id] != nil
}

// hold keeps an acknowledgement until the broker has acknowledged the copy; false: there is none to wait for.
func (s *copies) hold(id uint16, answer []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.open[id]
	if c == nil {
		return false
	}
	c.answer = answer
	return true
}

// acknowledged takes the broker's PUBACK, PUBREC or PUBCOMP, if it is for a copy: reply goes to the broker, answer to the
// client.
func (s *copies) acknowledged(kind byte, id uint16, code byte) (ours bool, reply, answer []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.open[id]
	switch {
	case c == nil:
		return false, nil, nil
	case kind == packets.Pubrec && code < packets.ErrUnspecifiedError.Code:
		return true, []byte{packets.Pubrel<<4 | 2, 2, byte(id >> 8), byte(id)}, nil
	}
	delete(s.open, id)
	return true, nil, c.answer
}
