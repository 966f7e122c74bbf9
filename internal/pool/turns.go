package pool

import (
	"container/list"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"eproxy/internal/depth"
)

// Shared is the concurrency limit of a pod that others use, too: the programs of
// the kernel path. The pool calls one method at a time.
type Shared interface {
	// Enter takes a place for a request of the pool's, if there is one for it.
	Enter() bool
	// Leave gives a place back, after so many requests.
	Leave(requests int)
	// Adopt counts requests that are under way, limit or not: no others are counted.
	Adopt(n int)
	// Free is how many places there are, about.
	Free() int
	// Contended says that others wait for a place that is more than the pool's share: it is to be given
	// back as soon as its connection had as many requests as it may have at a time.
	Contended() bool
	// Asleep says that a request would have to wake the pod.
	Asleep() bool
	// Await says that callers wait. Up to keep places, as they become free, are
	// theirs alone; it returns how many are. When others leave, Wake is called
	// once, or the result again is when to look at the latest; 0: never.
	Await(keep int) (kept int, again time.Duration)
	// Calm ends Await: nobody waits.
	Calm()
	// Spare says whether a connection may be kept while nothing is to be sent on it.
	Spare() bool

	// Depth is how many requests in flight on one connection the pod was seen to answer in order
	// to others, and how often it did not, counting Troubled.
	Depth() (proven int, troubles uint32)

	// Those below may be called at any time.

	// Patience is how long the first response on a connection may take before
	// Stalled is called, so that connections that keep the pod from it can be closed.
	Patience() time.Duration
	Stalled()
	// Troubled says that the pod did not answer several requests on a connection.
	Troubled(why depth.Why, cause error)
	// Exchanged says how a request that was answered fared.
	Exchanged(Exchange)
}

// Exchange is how a request that was answered fared, as far as it says something about
// the server.
type Exchange struct {
	Took    time.Duration // from its sending to the response
	Reused  bool          // the connection had carried others
	Closed  bool          // the server closes it with the first response
	Stalled bool          // the response took so long that Stalled was called
}

// function has the pods of one function, and who waits for a place at any of
// them. All of it is guarded by the pool's mu.
type function struct {
	name    string
	pods    []*pod
	turns   lines
	awaited bool // the others that use the pods know that somebody waits
	retry   *time.Timer
	wake    func() // has the pool look for places again
}

// turn is one caller's place in the queue.
type turn struct {
	f      *function
	client string
	line   *line
	at     *list.Element // in line; nil: it has had its turn
	avoid  []netip.AddrPort
	grant  chan grant // has room for one; nil: it is a call's
	call   *Call
}

// grant ends a turn: with a lease, or because there is no such function any more.
type grant struct {
	lease *lease
	err   error
}

// get is the lease as Acquire returns it.
func (g grant) get() (Lease, error) {
	if g.err != nil {
		return nil, g.err
	}
	return g.lease, nil
}

// queue puts a caller among those that wait.
func (f *function) queue(t *turn) {
	t.f = f
	f.turns.push(t)
	if t.call != nil {
		t.call.turn = t
	}
}

// leave takes a caller out of the queue. Not if it has had its turn.
func (f *function) leave(t *turn) bool {
	if t.at == nil {
		return false
	}
	f.turns.remove(t)
	if t.call != nil {
		t.call.turn = nil
	}
	return true
}

// serve gives places to those that wait, in their order, until there is none.
func (s *Standalone) serve(name string, f *function) {
	for f.turns.Len() > 0 {
		t := f.turns.front()
		if s.functions[name] != f || s.closed {
			f.leave(t)
			t.refuse(s, fmt.Errorf("function %s: %w", name, ErrNoPod))
			continue
		}
		if !s.admit(name, f, t) {
			// where others use the pods, who leaves from now on says so; who left before is found by looking again
			if others := f.await(); !others || !s.admit(name, f, t) {
				s.gather(f)
				return
			}
		}
	}
	f.calm()
}

// admit ends a turn with a place, if there is one.
func (s *Standalone) admit(name string, f *function, t *turn) bool {
	if t.call != nil {
		if !s.assign(f, t.call) {
			return false
		}
		f.leave(t)
		return true
	}
	l := s.lend(name, f, t.avoid)
	if l == nil {
		return false
	}
	f.leave(t)
	t.grant <- grant{lease: l}
	return true
}

// refuse ends a turn without one.
func (t *turn) refuse(s *Standalone, err error) {
	if t.call != nil {
		s.end(t.call, err)
	} else {
		t.grant <- grant{err: err}
	}
}

// await tells the others that use the pods how many wait, if there are such; wake is called when it
// is time to look again.
func (f *function) await() (others bool) {
	f.awaited = true
	n := f.turns.Len()
	var next time.Duration
	sooner := func(d time.Duration) {
		if d > 0 && (next == 0 || d < next) {
			next = d
		}
	}
	for _, p := range f.pods {
		if !p.down.IsZero() {
			sooner(time.Until(p.down))
		}
		if p.shared == nil {
			continue
		}
		others = true
		kept, again := p.shared.Await(n)
		n -= kept
		sooner(again)
	}
	f.stopRetry()
	if next > 0 {
		f.retry = time.AfterFunc(next, f.wake)
	}
	return others
}

// calm tells them that nobody does.
func (f *function) calm() {
	if !f.awaited {
		return
	}
	f.awaited = false
	f.stopRetry()
	for _, p := range f.pods {
		if p.shared != nil {
			p.shared.Calm()
		}
	}
}

func (f *function) stopRetry() {
	if f.retry != nil {
		f.retry.Stop()
		f.retry = nil
	}
}

// choose takes a place at a pod: the less loaded of two random ones of the best
// sort that has places. Pods near by come first, and of these the ones that nobody else uses; then those that would have to be woken. Those to be avoided
// are used when no other has a place, those that refuse connections only if all do:
// whoever waits for the others gets an answer.
func (f *function) choose(avoid []netip.AddrPort, now time.Time) *pod {
	var some [16]*pod // functions have more seldom
	pods := some[:0]
	for sort := range downPods + 1 {
		if pods = f.sorted(pods[:0], sort, avoid, now); len(pods) < len(f.pods) && sort == downPods {
			return nil
		}
		for i := len(pods) - 1; i > 0; i-- {
			j := rand.IntN(i + 1)
			pods[i], pods[j] = pods[j], pods[i]
		}
		if len(pods) > 1 && pods[1].free() > pods[0].free() {
			pods[0], pods[1] = pods[1], pods[0]
		}
		for _, p := range pods {
			if p.enter() {
				return p
			}
		}
	}
	return nil
}

// Sorts of pods, the best first.
const (
	ownPods = iota
	sharedPods
	farOwnPods
	farSharedPods
	asleepPods
	avoidedPods
	downPods
)

// sorted appends the pods of one sort.
func (f *function) sorted(pods []*pod, sort int, avoid []netip.AddrPort, now time.Time) []*pod {
	for _, p := range f.pods {
		if p.sort(avoid, now) == sort {
			pods = append(pods, p)
		}
	}
	return pods
}

func (p *pod) sort(avoid []netip.AddrPort, now time.Time) int {
	switch {
	case p.noRoute || now.Before(p.down) || p.failures > 0 && p.used > 0: // one that refused is tried by one message at a time
		return downPods
	case slices.Contains(avoid, p.addr):
		return avoidedPods
	case p.shared != nil && p.shared.Asleep():
		return asleepPods
	case p.far && p.shared != nil:
		return farSharedPods
	case p.far:
		return farOwnPods
	case p.shared != nil:
		return sharedPods
	}
	return ownPods
}
