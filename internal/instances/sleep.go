package instances

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"eproxy/internal/cgroup"
)

const (
	// freezeTime bounds the wait until the processes are stopped: one in the kernel, waiting
	// for a disk, takes as long as that.
	freezeTime = 5 * time.Second
	// frozenLook is how often somebody is looked for who has connected to a frozen instance
	// without being told that it is one: by its address, or in the moment that it was about to be.
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

// Wake has a function's instances that are frozen, or about to be, go on: a message waits
// for them. It says whether there is one.
func (r *Runtime) Wake(function string) (asleep bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range r.used {
		if i.function == function {
			asleep = asleep || i.status.State == Dozing || i.status.State == Frozen
			select {
			case i.wake <- struct{}{}:
			default: // it will wake
			}
		}
	}
	return asleep
}

// requests counts those that a function has had, on both paths.
func (r *Runtime) requests(function string) (n uint64) {
	if x, ok := r.asked.Load(function); ok {
		n = x.(*atomic.Uint64).Load()
	}
	if r.answered == nil {
		return n
	}
	var pods []netip.AddrPort
	r.mu.Lock()
	for _, i := range r.used {
		if i.function == function {
			pods = append(pods, i.status.Address)
		}
	}
	r.mu.Unlock()
	for _, p := range pods {
		n += r.answered(function, p)
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
			c.woken(time.Now(), i.r.requests(i.function))
			c.owed = true
		case now := <-look.C:
			if !c.due(now, i.r.requests(i.function)) {
				continue
			}
			i.enter(Dozing, "", p.pid())
			if i.drained(ctx, p) {
				i.sleep(ctx, p, freezer)
			}
			c.woken(time.Now(), i.r.requests(i.function))
			c.owed = i.owed.Swap(false)
			if ctx.Err() == nil {
				i.enter(Ready, "", p.pid())
			}
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

// drained waits until nobody is connected to an instance that is no pod any more: what is
// under way gets its response, and what a server would do with an idle connection after a
// long sleep does not matter. false: it is not to be frozen now.
func (i *instance) drained(ctx context.Context, p *process) bool {
	limit := time.After(drainTime)
	for {
		if all, err := sockets(p.pid()); err != nil {
			return false
		} else if !connected(all, i.run.Port) {
			return true
		}
		select {
		case <-limit:
			return false
		case <-ctx.Done():
			return false
		case <-p.done:
			return false
		case <-i.wake:
			i.owed.Store(true)
			return false
		case <-time.After(drainPoll):
		}
	}
}

// sleep freezes the instance until it is woken, has died, or ctx ends. It is thawed then.
func (i *instance) sleep(ctx context.Context, p *process, f *cgroup.Freezer) {
	defer func() {
		if err := f.Thaw(); err != nil {
			i.r.log.Error("instance cannot be thawed, it is killed", "function", i.function, "instance", i.number, "error", err)
			p.kill()
		}
	}()
	if err := f.Freeze(); err != nil {
		i.r.often.Warn("instance is not frozen when it is idle", i.function, "function", i.function, "instance", i.number, "error", err)
		return
	}
	for limit := time.Now().Add(freezeTime); ; f.Wait(10) {
		if frozen, err := f.Frozen(); frozen {
			break
		} else if err != nil || time.Now().After(limit) {
			return
		}
	}
	i.enter(Frozen, "", p.pid())
	look := time.NewTicker(frozenLook)
	defer look.Stop()
	for {
		select {
		case <-i.wake:
			i.owed.Store(true)
			return
		case <-p.done:
			return
		case <-ctx.Done():
			return
		case <-look.C:
			if all, err := sockets(p.pid()); err != nil || connected(all, i.run.Port) {
				return
			}
		}
	}
}
