package instances

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"eproxy/internal/cgroup"
)

// nursery keeps the zygote of a set, if it is to have one: it is begun for the first instance, again when it has ended, and
// stays as long as there are instances, and for their lambda.
type nursery struct {
	s       *set
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu     sync.Mutex
	all    []*zygote     // of which anything is left, instances too
	now    *zygote       // that forks; nil: none does
	coming chan struct{} // closed when the one that is begun is ready, or has failed; nil: none is
	users  int           // instances
	unused *time.Timer   // nil: there are instances, or never were
	why    string        // the last one has failed; empty: it has not
	wait   time.Duration // from then to the next
	next   time.Time     // nothing is begun before
	forks  int
	most   int64 // bytes that one was seen to take; 0: none was
	given  bool  // the one that is begun is to end: somebody needs its memory
	closed bool
}

func newNursery(s *set) *nursery {
	n := &nursery{s: s, wait: restartMin}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// ZygoteStatus is what a function's instances are forked from, as it is shown.
type ZygoteStatus struct {
	State  State  `json:"state"`  // starting, ready, frozen, failed or stopped; empty: it has none
	PID    int    `json:"pid"`    // 0: there is no process
	Used   int64  `json:"used"`   // bytes, with what is left of earlier ones in their instances
	Forks  int    `json:"forks"`  // instances that were forked
	Reason string `json:"reason"` // why there is none
}

// fork makes an instance's process of the zygote; nil: it is to be started without one.
func (n *nursery) fork(ctx context.Context, i *instance, group *cgroup.Group) *process {
	if n.s.run.Zygote == "" {
		return nil
	}
	for range 2 { // a file that has changed is worth a second zygote, not a third
		z := n.get(ctx)
		if z == nil {
			return nil
		}
		p, err := z.fork(ctx, i, group)
		if err == nil {
			n.mu.Lock()
			n.forks++
			n.mu.Unlock()
			return p
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errSilent) && z.hungUp() {
			<-z.gone // which says more
		} else {
			z.endFor(err.Error())
		}
		if !n.lost(z) {
			return nil
		}
	}
	return nil
}

// get is a zygote that is ready: it is begun, and waited for, where the last one did not fail. nil: there is none.
func (n *nursery) get(ctx context.Context) *zygote {
	n.mu.Lock()
	if n.now == nil && n.coming == nil && !time.Now().Before(n.next) {
		n.begin()
	}
	coming, failed := n.coming, n.why != ""
	n.mu.Unlock()
	if coming != nil && !failed {
		select {
		case <-coming:
		case <-ctx.Done():
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

// begin begins a zygote; n.mu is held.
func (n *nursery) begin() {
	if n.closed {
		return
	}
	coming := make(chan struct{})
	n.coming, n.given = coming, false
	n.running.Go(func() {
		defer close(coming)
		z, err := n.conceive()
		n.mu.Lock()
		defer n.mu.Unlock()
		n.coming = nil
		if err != nil {
			n.fails("zygote cannot be begun, instances are started without it", err.Error())
			return
		}
		n.why = ""
		if n.given || n.users == 0 && n.unused == nil { // nobody needs it any more
			z.end()
			return
		}
		n.now = z
		n.s.r.log.Info("zygote is ready", "function", n.s.name, "after", time.Since(z.begun).Round(time.Microsecond))
		n.running.Go(func() {
			<-z.gone
			n.lost(z)
		})
	})
}

// conceive begins a zygote and waits until it is ready.
func (n *nursery) conceive() (*zygote, error) {
	r := n.s.r
	if err := r.roomForZygote(); err != nil {
		return nil, err
	}
	z, err := r.conceive(n.ctx, n, int(r.zygotes.Add(1)))
	if err != nil {
		return nil, err
	}
	return z, z.await(n.ctx)
}

// fails notes that there is no zygote, and why; n.mu is held.
func (n *nursery) fails(message, why string) {
	if n.closed {
		return
	}
	n.why, n.next = why, time.Now().Add(n.wait)
	n.s.r.often.Warn(message, n.s.name, "function", n.s.name, "reason", why, "after", n.wait)
	n.wait = min(2*n.wait, restartMost)
}

// lost notes that a zygote has ended, and has another one begun; changed says that this is because of a file.
func (n *nursery) lost(z *zygote) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	why, changed := z.reason(), z.stale // it has ended
	if n.now != z {
		return changed
	}
	n.now = nil
	if time.Since(z.begun) >= forgiven {
		n.wait = restartMin
	}
	if changed {
		n.s.r.log.Info("zygote is begun anew", "function", n.s.name, "reason", why)
		return true
	}
	n.fails("zygote has ended, it is begun anew", why)
	time.AfterFunc(time.Until(n.next), func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.now == nil && n.coming == nil && (n.users > 0 || n.unused != nil) {
			n.begin()
		}
	})
	return false
}

// use says that there is an instance more.
func (n *nursery) use() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.users++
	n.given = false
	if n.unused != nil {
		n.unused.Stop()
		n.unused = nil
	}
}

// leave says that there is one less.
func (n *nursery) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.users--; n.users > 0 || n.s.run.Zygote == "" || n.closed {
		return
	}
	var own *time.Timer
	own = time.AfterFunc(n.s.run.Lambda, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.unused == own {
			n.unused = nil
			n.drop()
		}
	})
	n.unused = own
}

// give ends the zygote: somebody needs its memory.
func (n *nursery) give() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop()
}

// drop ends the zygote, until there is an instance again; n.mu is held.
func (n *nursery) drop() {
	n.given = n.coming != nil
	if z := n.now; z != nil {
		n.now = nil
		z.end()
	}
}

// close ends the zygote, and returns when nothing is left of any; there is no instance any more.
func (n *nursery) close() {
	n.mu.Lock()
	n.closed = true
	if n.unused != nil {
		n.unused.Stop()
	}
	n.cancel()
	n.now = nil
	for _, z := range n.all {
		z.keeper.kill()
	}
	n.mu.Unlock()
	n.running.Wait()
}

// exists notes that something of a zygote is there; buried, that nothing is any more.
func (n *nursery) exists(z *zygote) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, z)
	if n.closed {
		z.keeper.kill()
	}
}

func (n *nursery) buried(z *zygote) {
	n.mu.Lock()
	n.all = slices.DeleteFunc(n.all, func(x *zygote) bool { return x == z })
	n.mu.Unlock()
	n.s.r.left(n.s.name)
}

// any says whether there is anything of a zygote.
func (n *nursery) any() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.all) > 0
}

// memory is what zygotes take, and one that is begun will.
func (n *nursery) memory() int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	used := n.used()
	if n.now != nil {
		n.most = max(n.most, used)
	}
	if n.coming == nil {
		return used
	}
	if n.most == 0 {
		return max(used, n.s.run.Memory)
	}
	return max(used, min(n.most, n.s.run.Memory))
}

// used are the bytes that zygotes have; n.mu is held.
func (n *nursery) used() (sum int64) {
	for _, z := range n.all {
		sum += z.group.MemoryUsed() + z.keepers.MemoryUsed()
	}
	return sum
}

// status is what is shown.
func (n *nursery) status() (x ZygoteStatus) {
	if n.s.run.Zygote == "" {
		return x
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	x = ZygoteStatus{State: Stopped, Used: n.used(), Forks: n.forks}
	switch z := n.now; {
	case z != nil:
		x.State = Ready
		z.mu.Lock()
		defer z.mu.Unlock()
		if x.PID = z.pid; z.asleep {
			x.State = Frozen
		}
	case n.coming != nil:
		x.State = Starting
	case n.why != "":
		x.State, x.Reason = Failed, n.why
	}
	return x
}

// EachZygote says of each function that is to have a zygote how many bytes zygotes take, and how many instances were forked.
func (r *Runtime) EachZygote(each func(function string, memory int64, forks int)) {
	for _, f := range r.Functions() {
		if f.Zygote.State != "" {
			each(f.Function, f.Zygote.Used, f.Zygote.Forks)
		}
	}
}
