package slots

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/depth"
	"eproxy/internal/pool"
)

const (
	// A slot that no message came to is closed after silentLimit (later if the function is slow), one that was used
	// after usedLimit; the last one of a pod stays. Not if no request was answered
	// by the pod yet: some servers serve nobody else meanwhile, and kill
	// their worker when nothing comes for long.
	silentLimit   = time.Second
	usedLimit     = 10 * time.Second
	unprovenLimit = 5 * time.Second
)

// scale is how many of a pod's slots are connected, and why.
type scale struct {
	mu       sync.Mutex
	demand   demand
	pipe     depth.Depth
	open     int    // slots that have a connection, or dial one
	dialling int    // of those, the latter
	closing  int    // of those, the ones that are being closed
	lacked   uint32 // messages that had found no idle slot when slots were last dialled
	failing  bool   // the latest connection was refused
	held     bool   // no more are dialled, because of how the new ones fare
	resting  bool   // the pod is asleep: it has the connections that Settle makes
	jam      *jam   // idle connections were closed, and whether it helps is not known yet
	timer    *time.Timer
	ctx      context.Context
	running  sync.WaitGroup // slots

	sparse   atomic.Bool  // connections that are idle keep the server from others
	patience atomic.Int64 // how long the first response on a connection may take
}

// jam is a time when idle connections were closed because a request waited.
type jam struct {
	at       time.Duration
	open     int // slots, before
	patience time.Duration
}

// ending is how a slot's connection came to its end.
type ending struct {
	err      error
	dialled  bool
	unneeded bool // it was closed because there was nothing to do
	requests int  // that it carried
	unread   int  // of those, the ones behind a response that said that it is the last
	atOnce   bool // it ended with a response
}

// grow dials slots because the programs lack some.
func (ps *Pod) grow() {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	if ps.gone.Load() || ps.draining.Load() || ps.scale.resting {
		return
	}
	lacked := atomic.LoadUint32(&ps.mem.Lacked)
	ps.scale.demand.lift(clock.Monotonic())
	for _, s := range ps.slots {
		if s.open {
			ps.learn(s.resting())
		}
	}
	growth := ps.growth()
	if ps.scale.held = growth == 0; ps.scale.held { // what lacks goes on lacking
		ps.settle()
		return
	}
	more := min(growth, ps.scale.demand.more(ps.scale.open, int(lacked-ps.scale.lacked)))
	for range more {
		ps.openSlot()
	}
	if ps.mayTry(clock.Monotonic()) {
		ps.scale.pipe.Try()
		ps.showDepth()
	}
	ps.scale.lacked = lacked
	ps.settle()
}

// growth is how many slots may be dialled now, see the function; none while it is found out whether closing idle
// ones helps. scale.mu is held.
func (ps *Pod) growth() int {
	if ps.scale.jam != nil {
		return 0
	}
	var conns []rest
	for _, s := range ps.slots {
		if s.open {
			conns = append(conns, s.resting())
		}
	}
	return growth(conns, clock.Monotonic(), ps.scale.demand.patience(ps.fn.Load().Timeout))
}

// provenLook is how often it is looked how new connections fare.
const provenLook = 20 * time.Millisecond

// openSlot dials the first slot that is closed; scale.mu is held.
func (ps *Pod) openSlot() {
	for _, s := range ps.slots[:ps.scale.demand.most] {
		if s.open {
			continue
		}
		s.open = true
		ps.scale.open++
		ps.scale.dialling++
		ps.scale.running.Go(func() { s.run(ps.scale.ctx) })
		return
	}
}

// dialled notes that a slot is connected; scale.mu is not held.
func (ps *Pod) dialled() {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	ps.scale.dialling--
	ps.scale.failing = false
	atomic.StoreUint32(&ps.mem.Refuses, 0)
	ps.showDepth()
	ps.settle()
}

// ended decides whether a slot whose connection has ended is dialled again. If not,
// it is closed: until the load needs it.
func (ps *Pod) ended(s *slot, e ending) (again bool) {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	d := &ps.scale.demand
	alone := ps.scale.open-ps.scale.closing == 1
	if e.unneeded {
		ps.scale.closing--
	}
	switch {
	case ps.scale.ctx.Err() != nil || ps.draining.Load():
	case !e.dialled:
		ps.scale.dialling--
		ps.scale.failing = true
		atomic.StoreUint32(&ps.mem.Refuses, 1)
		d.forget()
		ps.scale.pipe.Forget()
		again = alone
	case e.unneeded || int(s.bit) >= d.most:
	case e.requests == 0: // it is the server's to keep it
	default:
		if e.requests > 1 {
			d.reused()
		} else if e.atOnce {
			d.ended()
		}
		again = !d.closes() && ps.scale.open <= d.ceiling && (alone || ps.loaded())
	}
	if again {
		ps.scale.dialling++
	} else {
		s.open = false
		ps.scale.open--
	}
	if e.unread > 0 {
		ps.scale.pipe.Cut(e.requests - e.unread)
	}
	ps.showDepth()
	ps.settle()
	if ps.open() == 0 {
		ps.tendParked() // perhaps no other pod takes what waits
	}
	return again
}

// loaded says whether the programs have used slots lately, or lacked them.
func (ps *Pod) loaded() bool {
	now := clock.Monotonic()
	denied := time.Duration(uint32(now/time.Millisecond)-atomic.LoadUint32(&ps.mem.DeniedMs)) * time.Millisecond
	return denied < contended || now-ps.lastUse(now) < contended
}

// settle does what follows from a change: the programs may ask for slots if there
// may be more, and slots that are not needed are closed when it is time. scale.mu
// is held.
func (ps *Pod) settle() {
	if ps.gone.Load() {
		return
	}
	now := clock.Monotonic()
	d := &ps.scale.demand
	ps.scale.sparse.Store(d.ceiling < d.most)
	next := ps.closeUnneeded(now)
	patience := d.patience(ps.fn.Load().Timeout)
	ps.scale.patience.Store(int64(patience))
	atomic.StoreUint32(&ps.mem.StallMs, uint32(patience/time.Millisecond))
	if d.retry > 0 {
		next = sooner(next, d.retry-now)
	}
	if wait := ps.scale.pipe.Retry - now; wait > 0 {
		next = sooner(next, wait)
	}
	atomic.StoreUint32(&ps.mem.Quota, uint32(ps.scale.pipe.Quota))
	retries := ps.scale.dialling > 0 // they say whether the pod takes connections again
	if ps.scale.failing && !retries {
		next = sooner(next, backoffMax)
	}
	if ps.scale.held {
		ps.scale.held = ps.growth() == 0
		ps.scale.lacked = atomic.LoadUint32(&ps.mem.Lacked) // those who lacked meanwhile asked again and again
	}
	if ps.scale.held {
		next = sooner(next, provenLook)
	} else if !retries && !ps.scale.failing && (d.more(ps.scale.open, 0) > 0 || ps.mayTry(now)) {
		atomic.StoreUint32(&ps.mem.Asked, 0)
	}
	if ps.scale.timer != nil {
		ps.scale.timer.Stop()
		ps.scale.timer = nil
	}
	if next > 0 {
		ps.scale.timer = time.AfterFunc(next, ps.onTime)
	}
}

// resize gives the pod another number of places.
func (ps *Pod) resize(most int) {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	ps.scale.demand.resize(most)
	ps.settle()
}

// sooner is the sooner of two times to look again; 0: never.
func sooner(next, wait time.Duration) time.Duration {
	wait = max(wait, time.Millisecond)
	if next == 0 {
		return wait
	}
	return min(next, wait)
}

// onTime is when something is to be looked at although nothing has happened.
func (ps *Pod) onTime() {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	ps.scale.demand.lift(clock.Monotonic())
	ps.scale.failing = false
	ps.settle()
}

// closeUnneeded closes idle slots whose time is up, and says when there may be more of
// them; 0: never. The programs use the first ones most. scale.mu is held.
func (ps *Pod) closeUnneeded(now time.Duration) (next time.Duration) {
	if ps.scale.resting { // they cost nothing, and wake it
		return 0
	}
	d := &ps.scale.demand
	left, silent := ps.scale.open-ps.scale.closing, 0
	for i := len(ps.slots) - 1; i >= 0; i-- {
		s := ps.slots[i]
		if !s.open {
			continue
		}
		r := s.resting()
		if r.closing {
			continue
		}
		ps.learn(r)
		limit := usedLimit
		if r.requests == 0 {
			if silent++; silent > d.beside {
				limit = max(silentLimit, 3*d.service) // the next messages may come when these are answered
			}
		}
		switch {
		case i >= d.most || left > d.ceiling || d.closes():
			limit = 0
		case left == 1 && d.proven:
			continue
		case left == 1:
			limit = unprovenLimit
		}
		wait := limit - (now - r.since)
		if !r.idle {
			wait = silentLimit
		} else if wait <= 0 && ps.closeSlot(s) {
			left--
			continue
		}
		next = sooner(next, wait)
	}
	return next
}

// closeSlot closes an idle slot. Not if a request has come to it. scale.mu is held.
func (ps *Pod) closeSlot(s *slot) bool {
	if !s.close() {
		return false
	}
	ps.scale.closing++
	return true
}

// learn notes what a slot's connection says about the server; scale.mu is held.
func (ps *Pod) learn(r rest) {
	d := &ps.scale.demand
	if r.answered {
		d.proven = true
		if d.service == 0 {
			d.service = r.service
		}
	}
	if r.answered && r.requests > 1 {
		d.reused()
	}
	ps.scale.pipe.Carried(r.requests)
}

// closeIdle closes connections that nothing comes on, because a request waits: of
// the slots those that never carried one, if there are any, and those of the
// fallback. It returns how many. scale.mu is held.
func (ps *Pod) closeIdle() int {
	n := ps.all.Idle.CloseIdle(ps.id.Function, ps.id.Address)
	for _, used := range []bool{false, true} {
		for _, s := range ps.slots {
			if !s.open {
				continue
			}
			if r := s.resting(); r.idle && r.requests > 0 == used && ps.closeSlot(s) {
				n++
			}
		}
		if n > 0 {
			break
		}
	}
	return n
}

// stalled: the first response on a connection takes long. Perhaps the server reads
// others first, on which nothing comes; they are closed. It says whether there were
// any.
func (ps *Pod) stalled() bool {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	if ps.gone.Load() || ps.scale.jam != nil {
		return false
	}
	j := &jam{open: ps.scale.open, patience: ps.scale.demand.patience(ps.fn.Load().Timeout)}
	if ps.closeIdle() == 0 {
		return false
	}
	j.at = clock.Monotonic()
	ps.scale.jam = j
	time.AfterFunc(j.patience, func() { ps.resolve(j, false) })
	return true
}

// resolve notes whether closing idle connections has helped, if that is not known.
func (ps *Pod) resolve(j *jam, helped bool) {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	if ps.scale.jam == j && !ps.gone.Load() {
		ps.resolved(j, helped)
	}
}

// resolved is resolve with scale.mu held.
func (ps *Pod) resolved(j *jam, helped bool) {
	ps.scale.jam = nil
	before := ps.scale.demand.ceiling
	ps.scale.demand.jammed(j.open, helped, clock.Monotonic())
	if after := ps.scale.demand.ceiling; after < before {
		ps.all.Log.Info("pod reads a few connections at a time, it gets fewer slots", "function", ps.id.Function, "pod", ps.id.Address, "slots", after)
	}
	ps.settle()
}

// slotStalled is stalled for a slot's request, again and again until it is answered.
func (ps *Pod) slotStalled(s *slot, gen uint32) {
	ps.stalled()
	ps.scale.mu.Lock()
	j := ps.scale.jam
	ps.scale.mu.Unlock()
	patience := time.Duration(ps.scale.patience.Load())
	time.AfterFunc(max(patience/2, time.Millisecond), func() {
		r := s.restingAs(gen)
		switch {
		case !r.connected:
		case r.answered && j != nil:
			ps.resolve(j, r.since > j.at)
		case !r.answered:
			ps.slotStalled(s, gen)
		}
	})
}

// Exchanged notes how a request of the fallback fared; pool.Shared.
func (ps *Pod) Exchanged(x pool.Exchange) {
	ps.scale.mu.Lock()
	defer ps.scale.mu.Unlock()
	if ps.gone.Load() {
		return
	}
	d := &ps.scale.demand
	proven, closes := d.proven, d.closes()
	d.answered(x.Took)
	switch {
	case x.Reused:
		d.reused()
	case x.Closed:
		d.ended()
	}
	if j := ps.scale.jam; j != nil && x.Stalled {
		ps.resolved(j, clock.Monotonic()-j.at <= j.patience/2)
	} else if !x.Reused && !x.Stalled {
		if n := ps.silentBefore(clock.Monotonic() - x.Took - dialMargin); n > 0 {
			d.flowed(n)
		}
	}
	if d.proven != proven || d.closes() != closes {
		ps.settle()
	}
}

// Stalled is when the first response on a connection of the fallback takes long;
// pool.Shared.
func (ps *Pod) Stalled() { ps.stalled() }

// Patience is how long such a response may take; pool.Shared.
func (ps *Pod) Patience() time.Duration { return time.Duration(ps.scale.patience.Load()) }

// Spare says whether the fallback may keep idle connections; pool.Shared.
func (ps *Pod) Spare() bool { return !ps.scale.sparse.Load() }

// dialMargin is what a connection takes to be made, and more: one that was there so
// long before another is the older one for the server, too.
const dialMargin = 10 * time.Millisecond

// silentBefore is how many slots were connected before a time, and have not had a
// request yet; scale.mu is held.
func (ps *Pod) silentBefore(at time.Duration) (n int) {
	for _, s := range ps.slots {
		if !s.open {
			continue
		}
		if r := s.resting(); r.idle && r.requests == 0 && r.since < at {
			n++
		}
	}
	return n
}

// rest is what a slot's connection is doing, and has done.
type rest struct {
	connected bool
	closing   bool
	idle      bool          // it may be claimed
	answered  bool          // some request was
	requests  int           // that it has carried
	ready     time.Duration // when it was connected
	asked     time.Duration // when the oldest request in flight was given to it, where there is one
	since     time.Duration // the latest response, or its beginning
	service   time.Duration // of a request, smoothed
}

// resting looks at the slot's connection.
func (s *slot) resting() (r rest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return rest{}
	}
	mem := s.memory()
	at := time.Duration(atomic.LoadUint64(&mem.RespondedNs))
	oldest := &mem.Messages[atomic.LoadUint32(&mem.Head)%uint32(len(mem.Messages))]
	return rest{
		connected: true,
		closing:   s.unneeded,
		idle:      atomic.LoadUint32(&mem.State) == uint32(bpf.EproxySlotStateSLOT_IDLE),
		answered:  at > 0,
		requests:  int(atomic.LoadUint32(&mem.Count) - s.requests),
		ready:     s.ready,
		asked:     max(s.ready, time.Duration(atomic.LoadUint64(&oldest.TakenNs))),
		since:     max(s.ready, at),
		service:   time.Duration(atomic.LoadUint32(&mem.ServiceNs)),
	}
}

// restingAs is resting if the slot's connection is still of this generation.
func (s *slot) restingAs(gen uint32) rest {
	s.mu.Lock()
	same := s.gen == gen
	s.mu.Unlock()
	if !same {
		return rest{}
	}
	return s.resting()
}

// close ends an idle slot's connection. Not if a request has come to it.
func (s *slot) close() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return false
	}
	args, err := s.all.control(bpf.EproxySlotOpSLOT_OP_CLOSE, bpf.EproxySlotArgs{Slot: s.index, Gen: s.gen})
	if err != nil || args.Ok == 0 {
		return false
	}
	s.unneeded = true
	s.farewell(s.conn)
	return true
}

// memory is the slot's entry in its map; of one that has grown.
func (s *slot) memory() *bpf.EproxySlot { return s.all.Memory.Slots.At(s.index) }
