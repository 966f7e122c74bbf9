package slot

import (
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/conntable"
	"eproxy/internal/neighbours"
	"eproxy/internal/traffic"
)

// State is what a slot's connection is doing, and has done. Times are those of clock.Monotonic().
type State struct {
	Connected bool
	Closing   bool
	Idle      bool          // it may be claimed
	Answered  bool          // some request was
	Requests  int           // that it has carried
	Ready     time.Duration // when it was connected
	Asked     time.Duration // when the oldest request in flight was given to it, where there is one
	Since     time.Duration // the latest response, or its beginning
	Service   time.Duration // of a request, smoothed
}

// State looks at the slot's connection.
func (s *Slot) State() (r State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return State{}
	}
	mem := s.memory()
	at := time.Duration(atomic.LoadUint64(&mem.RespondedNs))
	oldest := &mem.Messages[atomic.LoadUint32(&mem.Head)%uint32(len(mem.Messages))]
	return State{
		Connected: true,
		Closing:   s.unneeded,
		Idle:      atomic.LoadUint32(&mem.State) == uint32(bpf.EproxySlotStateSLOT_IDLE),
		Answered:  at > 0,
		Requests:  int(atomic.LoadUint32(&mem.Count) - s.requests),
		Ready:     s.ready,
		Asked:     max(s.ready, time.Duration(atomic.LoadUint64(&oldest.TakenNs))),
		Since:     max(s.ready, at),
		Service:   time.Duration(atomic.LoadUint32(&mem.ServiceNs)),
	}
}

// StateAs is State if the slot's connection is still of this generation.
func (s *Slot) StateAs(gen uint32) State {
	s.mu.Lock()
	same := s.gen == gen
	s.mu.Unlock()
	if !same {
		return State{}
	}
	return s.State()
}

// Conn is the slot's connection; false: it has none.
func (s *Slot) Conn() (c neighbours.Conn, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return c, false
	}
	local, ok := conntable.AddrPort(s.conn.LocalAddr())
	return neighbours.Conn{Index: s.at.Index, Gen: s.gen, Local: local.Addr(), Remote: s.at.Of.Address.Addr()}, ok
}

// LastUse is when the programs last used the slot; now, if something is in flight on it.
func (s *Slot) LastUse(now time.Duration) time.Duration {
	switch {
	case s.InFlight() > 0:
		return now
	case s.grown.Load():
		return time.Duration(atomic.LoadUint64(&s.memory().RespondedNs))
	}
	return 0
}

// Load is what the slot has in flight: for how long with the time that it waited for a slot, and without.
func (s *Slot) Load(now time.Duration) (with time.Duration, alone traffic.Sum) {
	if !s.grown.Load() {
		return 0, alone
	}
	mem := s.memory()
	for n := atomic.LoadUint32(&mem.Head); n != atomic.LoadUint32(&mem.Tail); n++ {
		m := s.message(mem, n)
		taken, waited := time.Duration(atomic.LoadUint64(&m.TakenNs)), time.Duration(atomic.LoadUint32(&m.WaitedUs))*time.Microsecond
		if int32(n-atomic.LoadUint32(&mem.Head)) < 0 { // answered meanwhile: it may be another one's place
			continue
		}
		took := max(0, now-taken)
		with += took + waited
		alone = alone.Plus(traffic.Sum{Arrived: 1, Integral: took})
	}
	return with, alone
}

// EachCounter calls what with the index of the route's counters of each message in flight.
func (s *Slot) EachCounter(what func(counter uint32)) {
	if !s.grown.Load() {
		return
	}
	mem := s.memory()
	for n := atomic.LoadUint32(&mem.Head); n != atomic.LoadUint32(&mem.Tail); n++ {
		what(atomic.LoadUint32(&s.message(mem, n).Counter))
	}
}

// message is the n-th message of the slot's entry, of those that may be in flight.
func (s *Slot) message(mem *bpf.EproxySlot, n uint32) *bpf.EproxyMessage {
	return &mem.Messages[n&(s.common.Memory.Pipeline-1)]
}
