package broker

import (
	"bytes"
	"sync"
	"time"
)

// Bounds of the wills that wait for their delay to pass, and of those that are on
// their way to a function: anybody can connect, name a will, and go. A delay that
// there is no room for ends at once; a will beyond willsUnderWay is dropped.
const (
	willsMax      = 4096
	willBytesMax  = 16 << 20
	willsUnderWay = 1024
)

// wills are those of clients that have gone and may come back in time (MQTT 5
// section 3.1.3.2.2), by client identifier.
type wills struct {
	mu      sync.Mutex
	waiting map[string]*waitingWill
	bytes   int
}

type waitingWill struct {
	id    Identity
	will  *Will
	timer *time.Timer
}

// add keeps a will until its delay has passed; false if there is no room. An
// older one of the same client has been settled by then.
func (w *wills) add(id Identity, will *Will, delay time.Duration, publish func(Identity, *Will)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := will.Message.Size()
	if len(w.waiting) >= willsMax || w.bytes+n > willBytesMax || w.waiting[id.ClientID] != nil {
		return false
	}
	if w.waiting == nil {
		w.waiting = make(map[string]*waitingWill)
	}
	// The packet that they are parts of may be far larger.
	will.Message.Payload = bytes.Clone(will.Message.Payload)
	will.Message.CorrelationData = bytes.Clone(will.Message.CorrelationData)
	x := &waitingWill{id: id, will: will}
	w.waiting[id.ClientID] = x
	w.bytes += n
	x.timer = time.AfterFunc(delay, func() {
		if w.settle(id.ClientID, x) {
			publish(id, will)
		}
	})
	return true
}

// settle ends a will's waiting; false if it has ended already.
func (w *wills) settle(clientID string, x *waitingWill) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting[clientID] != x {
		return false
	}
	x.timer.Stop()
	delete(w.waiting, clientID)
	w.bytes -= x.will.Message.Size()
	return true
}

// take ends the waiting of a client's will, and returns it, nil if there is none.
func (w *wills) take(clientID string) *waitingWill {
	w.mu.Lock()
	x := w.waiting[clientID]
	w.mu.Unlock()
	if x == nil || !w.settle(clientID, x) {
		return nil
	}
	return x
}

// close forgets all.
func (w *wills) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.waiting {
		x.timer.Stop()
	}
	w.waiting, w.bytes = nil, 0
}

// settleWill decides about the will of a session whose connection has ended.
func (s *Server) settleWill(x *Session) {
	x.mu.Lock()
	will, heir, delay := x.will, x.heir, time.Duration(0)
	x.will = nil
	if will != nil {
		delay = min(will.Delay, x.expiry) // the session's end is the latest moment
	}
	x.mu.Unlock()
	switch {
	case will == nil || s.drained.Load():
	case delay > 0 && heir != nil && !heir.clean: // the session goes on [MQTT-3.1.3-9]
	case delay > 0 && heir == nil && s.wills.add(x.Identity, will, delay, s.publishDelayed):
	default:
		s.publishWill(x.Identity, will)
	}
}

// returned decides about the will of a client's earlier connection: a session that
// goes on has none, one that a clean start ends has it published.
func (s *Server) returned(x *Session) {
	if w := s.wills.take(x.ClientID); w != nil && x.clean {
		s.publishWill(w.id, w.will)
	}
}

// publishDelayed publishes a will whose delay has passed, unless its session goes
// on: the client may have come back while its earlier connection was still ending.
func (s *Server) publishDelayed(id Identity, w *Will) {
	if x := s.sessions.find(id.ClientID); x == nil || x.clean {
		s.publishWill(id, w)
	}
}

// publishWill publishes a will in the background: its function may take its time.
func (s *Server) publishWill(id Identity, w *Will) {
	if s.willsUnderWay.Add(1) > willsUnderWay {
		s.willsUnderWay.Add(-1)
		s.Refused("will_overload", "will dropped: too many are on their way to their functions", id.Remote, "client", id.ClientID, "topic", w.Message.Topic)
		return
	}
	s.pending.open.Add(1)
	go func() {
		defer s.pending.open.Add(-1)
		defer s.willsUnderWay.Add(-1)
		defer s.absorb(id.ClientID)
		m := w.Message
		s.enter(id, &m, "will")
	}()
}
