package instances

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/cgroup"
)

const (
	// freezeTime bounds the wait until the processes are stopped: one in the kernel, waiting
	// for a disk, takes as long as that.
	freezeTime = 5 * time.Second
	// frozenLook is how often somebody is looked for who has connected to a frozen instance that is no
	// pod: by its address, or in the moment that it was about to be.
	frozenLook = 500 * time.Millisecond
	// firstUse is how long an instance that was woken waits for the request that it was woken
	// for, if run.idle is shorter.
	firstUse = 30 * time.Second
)

// Touch tells that userspace has sent a request to a function's pod.
func (r *Runtime) Touch(function string) {
	n, ok := r.asked.Load(function)
	if !ok {
		n, _ = r.asked.LoadOrStore(function, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

// Wake has a function's instances that are frozen, or about to be, go on, or one started where there is none: a message waits
// for them. It says whether there is one, or will be.
func (r *Runtime) Wake(function string) (coming bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.known[function]; f != nil {
		coming = f.wanted()
	}
	for _, i := range r.used {
		if i.function == function {
			coming = coming || i.status.State == Dozing || i.status.State == Frozen
			select {
			case i.wake <- struct{}{}:
			default: // it will wake
			}
		}
	}
	return coming
}

// requests counts those that a function has had, on both paths.
func (r *Runtime) requests(function string) uint64 {
	n, answered := r.counts(function)
	for _, x := range answered {
		n += x
	}
	return n
}

// serve lets a ready process work, and freezes it whenever its function has had no request
// for a while, until it has ended (true) or ctx has (false); then it is not frozen.
func (i *instance) serve(ctx context.Context, p *process, c *clock) (ended bool) {
	freezer := i.freezer(p)
	if freezer == nil {
		select {
		case <-p.done:
			return true
		case <-ctx.Done():
			return false
		}
	}
	defer freezer.Close()
	look := time.NewTicker(i.run.Idle / 4)
	defer look.Stop()
	for {
		select {
		case <-p.done:
			return true
		case <-ctx.Done():
			return false
		case <-i.wake:
			c.woken(time.Now(), c.seen) // the message that it is about may have come already
			c.owed = true
		case now := <-look.C:
			if !c.due(now, i.r.requests(i.function)) {
				continue
			}
			i.rest(ctx, p, freezer)
			c.woken(time.Now(), c.seen) // the request that woke it may have been answered already
			c.owed = i.owed.Swap(false)
		}
	}
}

// clock says when a function has been idle for long enough.
type clock struct {
	idle  time.Duration
	since time.Time // of the last request that was seen, or of waking
	seen  uint64    // requests
	used  bool      // by a request since it was woken
	owed  bool      // it was woken for a message, and nobody wakes it again for that: it stays awake until it has it
}

func (c *clock) woken(now time.Time, requests uint64) {
	c.since, c.seen, c.used = now, requests, false
}

// due says whether to freeze. Who was woken for a request has it first: the instance may
// be a pod a little later than it is awake.
func (c *clock) due(now time.Time, requests uint64) bool {
	if requests != c.seen {
		c.since, c.seen, c.used, c.owed = now, requests, true, false
		return false
	}
	if c.owed {
		return false
	}
	idle := c.idle
	if !c.used {
		idle = max(idle, firstUse)
	}
	return now.Sub(c.since) >= idle
}

// freezer opens the freezer of an instance that may be frozen; nil: it may not, or cannot.
func (i *instance) freezer(p *process) *cgroup.Freezer {
	if i.run.Idle == 0 {
		return nil
	}
	f, err := p.group.Freezer()
	if err != nil {
		i.r.often.Warn("instance is not frozen when it is idle", i.function, "function", i.function, "instance", i.number, "error", err)
		return nil
	}
	return f
}

// Rest is what a data plane knows of an instance that is asleep, and stays a pod meanwhile.
type Rest interface {
	// Settle makes a connection to the instance, which is frozen now.
	Settle(ctx context.Context)
	// End says that it runs.
	End()
}

// doze is one time that an instance is frozen, or about to be.
type doze struct {
	*instance
	p       *process
	freezer *cgroup.Freezer
	rest    Rest          // nil: it is no pod meanwhile
	roused  chan struct{} // closed when somebody has something for it

	mu    sync.Mutex
	woken bool // roused is closed
	ended bool // the freezer is not this sleep's any more
}

// rouse lets the instance go on, whatever it is just doing: at any time, called by anybody. It does not wait for anything. The
// order matters: who freezes it looks at roused behind that, so that it goes on also if this thaw was too early.
func (d *doze) rouse() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended || d.woken {
		return
	}
	d.woken = true
	close(d.roused)
	d.thaw()
}

// end thaws the instance whatever has become of it. Who is late to rouse it does nothing.
func (d *doze) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	d.thaw()
}

// thaw lets the processes go on.
func (d *doze) thaw() {
	if err := d.freezer.Thaw(); err != nil {
		d.r.log.Error("instance cannot be thawed, it is killed", "function", d.function, "instance", d.number, "error", err)
		d.p.kill()
	}
}

// rest has an idle instance sleep until somebody needs it, if nobody does now.
func (i *instance) rest(ctx context.Context, p *process, f *cgroup.Freezer) {
	d := &doze{instance: i, p: p, freezer: f, roused: make(chan struct{})}
	if i.r.rest != nil {
		var busy bool
		if d.rest, busy = i.r.rest(i.function, i.status.Address, d.rouse); busy {
			d.end()
			return
		}
	}
	d.enter(Dozing)
	if d.drained(ctx) {
		d.sleep(ctx)
	}
	d.end()
	if d.rest != nil {
		d.rest.End()
	}
	if ctx.Err() == nil {
		i.enter(Ready, "", p.pid)
	}
}

// enter brings the instance into a state, in which it is a pod or not.
func (d *doze) enter(s State) { d.become(s, "", d.p.pid, d.rest != nil) }

// over says whether the instance is to be awake.
func (d *doze) over(ctx context.Context) bool {
	select {
	case <-d.roused:
	case <-d.p.done:
	case <-ctx.Done():
	case <-d.wake:
		d.owed.Store(true)
	default:
		return false
	}
	return true
}

// await is over after a while.
func (d *doze) await(ctx context.Context, at <-chan time.Time) bool {
	over, _ := d.awaitOr(ctx, at, nil)
	return over
}

// awaitOr is await, and says whether it has ended by the other time.
func (d *doze) awaitOr(ctx context.Context, at, other <-chan time.Time) (over, otherwise bool) {
	select {
	case <-d.roused:
	case <-d.p.done:
	case <-ctx.Done():
	case <-d.wake:
		d.owed.Store(true)
	case <-at:
		return false, false
	case <-other:
		return false, true
	}
	return true, false
}

// drained waits until nobody is connected to an instance that gets no more requests, or wakes when it does: what is
// under way gets its response, and what a server would do with an idle connection after a
// long sleep does not matter. false: it is not to be frozen now.
func (d *doze) drained(ctx context.Context) bool {
	for limit := time.Now().Add(drainTime); time.Now().Before(limit); {
		if all, err := sockets(d.p.pid); err != nil {
			return false
		} else if !connected(all, d.run.Port) {
			return true
		}
		if d.await(ctx, time.After(drainPoll)) {
			return false
		}
	}
	return false
}

// freeze stops the processes; false: somebody needs them, or they cannot be stopped.
func (d *doze) freeze(ctx context.Context) bool {
	if err := d.freezer.Freeze(); err != nil {
		d.r.often.Warn("instance is not frozen when it is idle", d.function, "function", d.function, "instance", d.number, "error", err)
		return false
	}
	for limit := time.Now().Add(freezeTime); !d.over(ctx); d.freezer.Wait(10) {
		if frozen, err := d.freezer.Frozen(); frozen {
			return true
		} else if err != nil || time.Now().After(limit) {
			return false
		}
	}
	return false
}

// settle has the data plane make a connection, unless somebody has something for the instance meanwhile.
func (d *doze) settle(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-d.roused:
			cancel()
		case <-ctx.Done():
		}
	}()
	d.rest.Settle(ctx)
}

// sleep freezes the instance until it is woken, has died, or ctx ends; it may be frozen then.
func (d *doze) sleep(ctx context.Context) {
	if !d.freeze(ctx) {
		return
	}
	var look <-chan time.Time // for those who connect: where it is a pod the data plane sees them
	if d.rest != nil {
		d.settle(ctx)
	} else {
		t := time.NewTicker(frozenLook)
		defer t.Stop()
		look = t.C
	}
	d.enter(Frozen)
	later := d.pageOutLater()
	for {
		over, page := d.awaitOr(ctx, look, later)
		if page {
			over = d.pageOut(ctx)
		} else if !over {
			all, err := sockets(d.p.pid)
			over = err != nil || connected(all, d.run.Port)
		}
		if over {
			return
		}
	}
}
