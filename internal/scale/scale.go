package scale

import (
	"context"
	"log/slog"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/config"
	"eproxy/internal/places"
	"eproxy/internal/slot"
	"eproxy/internal/trials"
)

// Pod is what the scale needs of its pod, and tells it. The scale's lock may be held.
type Pod interface {
	// Function is the current configuration of the pod's function.
	Function() *config.Function
	// Gone says whether the pod is out of service, Draining whether it gets no more messages.
	Gone() bool
	Draining() bool
	// CloseIdle closes idle connections of the fallback's to the pod, and says how many they were.
	CloseIdle() int
	// Freed: what waits in the kernel is to be looked at.
	Freed()
}

// Options of New.
type Options struct {
	Pod    Pod
	Most   int // places of the pod
	Entry  *bpf.EproxyPod
	Slots  []*slot.Slot // as many as there may be; those that are needed are connected
	Places *places.Places
	Trials *trials.Trials
	Log    *slog.Logger // says which pod it is
}

// Scale is how many of a pod's slots are connected, and why. All methods may be called at any time.
type Scale struct {
	Options
	ctx    context.Context // of the slots
	cancel context.CancelFunc

	running sync.WaitGroup // slots
	open    atomic.Uint64  // has a bit for each slot that has a connection, or dials one; changed with mu held

	mu       sync.Mutex
	demand   demand
	dialling int    // slots that dial
	closing  int    // slots that are being closed
	lacked   uint32 // messages that had found no idle slot when slots were last dialled
	failing  bool   // the latest connection was refused
	held     bool   // no more are dialled, because of how the new ones fare
	resting  bool   // the pod is asleep: it has the connections that StandBy makes
	jam      *jam   // idle connections were closed, and whether it helps is not known yet
	timer    *time.Timer

	sparse   atomic.Bool  // connections that are idle keep the server from others
	patience atomic.Int64 // how long the first response on a connection may take
}

// New makes the Scale of a pod none of whose slots is connected yet. All of them end with ctx.
func New(ctx context.Context, opts Options) *Scale {
	ctx, cancel := context.WithCancel(ctx)
	return &Scale{Options: opts, ctx: ctx, cancel: cancel, demand: newDemand(opts.Most)}
}

// Open has a bit for each slot that has a connection, or dials one.
func (sc *Scale) Open() uint64 { return sc.open.Load() }

// count is how many slots are open; sc.mu is held.
func (sc *Scale) count() int { return bits.OnesCount64(sc.open.Load()) }

// opened are the slots that are open, in their order; sc.mu is held.
func (sc *Scale) opened() (open []*slot.Slot) {
	word := sc.open.Load()
	open = make([]*slot.Slot, 0, bits.OnesCount64(word))
	for _, s := range sc.Slots {
		if word&s.Mask() != 0 {
			open = append(open, s)
		}
	}
	return open
}

// Grow dials slots because the programs lack some.
func (sc *Scale) Grow() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.Pod.Gone() || sc.Pod.Draining() || sc.resting {
		return
	}
	lacked := atomic.LoadUint32(&sc.Entry.Lacked)
	sc.demand.lift(clock.Monotonic())
	for _, s := range sc.opened() {
		sc.learn(s.State())
	}
	growth := sc.growth()
	if sc.held = growth == 0; sc.held { // what lacks goes on lacking
		sc.settle()
		return
	}
	more := min(growth, sc.demand.more(sc.count(), int(lacked-sc.lacked)))
	for range more {
		sc.openSlot()
	}
	if now := clock.Monotonic(); sc.mayTry(now) {
		sc.Trials.Try(now)
	}
	sc.lacked = lacked
	sc.settle()
}

// growth is how many slots may be dialled now, see the function; none while it is found out whether closing idle
// ones helps. sc.mu is held.
func (sc *Scale) growth() int {
	if sc.jam != nil {
		return 0
	}
	var conns []slot.State
	for _, s := range sc.opened() {
		conns = append(conns, s.State())
	}
	return growth(conns, clock.Monotonic(), sc.demand.patience(sc.Pod.Function().Timeout))
}

// mayTry says whether it is time to try more requests on a connection: the pod keeps
// its connections, and no more of them may be had now. sc.mu is held.
func (sc *Scale) mayTry(now time.Duration) bool {
	d, open := &sc.demand, sc.count()
	return d.proven && !d.closes() && open > 0 && d.more(open, 1) == 0 && sc.Trials.May(now)
}

// openSlot dials the first slot that is closed; sc.mu is held.
func (sc *Scale) openSlot() {
	for _, s := range sc.Slots[:sc.demand.most] {
		if sc.open.Load()&s.Mask() != 0 {
			continue
		}
		sc.open.Or(s.Mask())
		sc.dialling++
		sc.running.Go(func() { s.Run(sc.ctx) })
		return
	}
}

// Connected notes that a slot is connected.
func (sc *Scale) Connected() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.dialling--
	sc.failing = false
	atomic.StoreUint32(&sc.Entry.Refuses, 0)
	sc.Trials.Show()
	sc.settle()
}

// Ended decides whether a slot whose connection has ended is dialled again. If not,
// it is closed: until the load needs it.
func (sc *Scale) Ended(s *slot.Slot, e slot.Ending) (again bool) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	d := &sc.demand
	alone := sc.count()-sc.closing == 1
	if e.Unneeded {
		sc.closing--
	}
	switch {
	case sc.ctx.Err() != nil || sc.Pod.Draining():
	case !e.Dialled:
		sc.dialling--
		sc.failing = true
		atomic.StoreUint32(&sc.Entry.Refuses, 1)
		d.forget()
		sc.Trials.Forget()
		again = alone
	case e.Unneeded || int(s.Bit()) >= d.most:
	case e.Requests == 0: // it is the server's to keep it
	default:
		if e.Requests > 1 {
			d.reused()
		} else if e.AtOnce {
			d.ended()
		}
		again = !d.closes() && sc.count() <= d.ceiling && (alone || sc.Places.Loaded())
	}
	if again {
		sc.dialling++
	} else {
		sc.open.And(^s.Mask())
	}
	if e.Unread > 0 {
		sc.Trials.Cut(e.Requests - e.Unread)
	}
	sc.Trials.Show()
	sc.settle()
	if sc.Places.Open() == 0 {
		sc.Pod.Freed() // perhaps no other pod takes what waits
	}
	return again
}

// Resize gives the pod another number of places.
func (sc *Scale) Resize(most int) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.demand.resize(most)
	sc.settle()
}

// Stop ends all slots: the pod is gone.
func (sc *Scale) Stop() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.timer != nil {
		sc.timer.Stop()
	}
	sc.cancel()
}

// Wait waits until no slot runs any more, after Stop.
func (sc *Scale) Wait() { sc.running.Wait() }
