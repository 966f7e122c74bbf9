package dataplane

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/pool"
)

// pollInterval is how often a waiting caller looks for a slot that the
// programs gave back: they cannot wake anyone.
const pollInterval = 2 * time.Millisecond

var _ pool.Pool = (*Plane)(nil)

// Acquire borrows an idle slot of the function for one exchange, so that the
// fallback and the kernel path share one concurrency limit, or a connection of
// the fallback's own to a pod that has no slots; pool.Pool.
func (p *Plane) Acquire(ctx context.Context, function string, avoid []netip.AddrPort) (pool.Lease, error) {
	for {
		l, err := p.acquireSlot(ctx, function, avoid)
		if !errors.Is(err, errNoSlots) {
			return l, err
		}
		l, err = p.direct.Acquire(ctx, function, avoid)
		if errors.Is(err, pool.ErrNoPod) && p.hasSlots(function) {
			continue // a reload has given its pods slots
		}
		return l, err
	}
}

// errNoSlots means that no pod of a function has slots.
var errNoSlots = errors.New("no pod with slots")

// acquireSlot waits for a place at any pod of a function with slots.
func (p *Plane) acquireSlot(ctx context.Context, function string, avoid []netip.AddrPort) (pool.Lease, error) {
	t := time.NewTimer(pollInterval)
	defer t.Stop()
	var release func()
	defer func() {
		if release != nil {
			release()
		}
	}()
	for {
		changed := p.idleChange()
		l, err := p.tryAcquire(function, avoid)
		if l != nil || err != nil {
			return l, err
		}
		if release == nil {
			release = p.reserve(function)
		}
		t.Reset(pollInterval)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		case <-t.C:
		}
	}
}

// hasSlots says whether some pod of the function has slots.
func (p *Plane) hasSlots(function string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ps := range p.podByID {
		if ps.id.function == function {
			return true
		}
	}
	return false
}

// tryAcquire takes a place without waiting; nil if there is none. Pods to avoid,
// and such as refuse connections, are used when there are no others. Pods without
// slots come first: only the fallback can use them.
func (p *Plane) tryAcquire(function string, avoid []netip.AddrPort) (pool.Lease, error) {
	p.mu.Lock()
	var good, rest []*podState
	for _, ps := range p.podByID {
		if ps.id.function != function {
			continue
		}
		if slices.Contains(avoid, ps.id.addr) {
			rest = append(rest, ps)
		} else {
			good = append(good, ps)
		}
	}
	p.mu.Unlock()
	if len(good)+len(rest) == 0 {
		return nil, errNoSlots
	}
	rand.Shuffle(len(good), func(i, j int) { good[i], good[j] = good[j], good[i] })
	if len(good) > 1 && p.idleCount(good[1]) > p.idleCount(good[0]) {
		good[0], good[1] = good[1], good[0]
	}
	if l := p.direct.TryAcquire(function, avoid, true); l != nil {
		return l, nil
	}
	for _, ps := range append(good, rest...) {
		if l := ps.claim(p); l != nil {
			return l, nil
		}
	}
	return p.direct.TryAcquire(function, avoid, false), nil
}

// reserve keeps a slot of one of the function's pods from the programs. Nil if
// enough are kept already.
func (p *Plane) reserve(function string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ps := range p.podByID {
		if ps.id.function == function {
			if release := ps.reserve(p); release != nil {
				return release
			}
		}
	}
	return nil
}

func (p *Plane) idleCount(ps *podState) int {
	return bits.OnesCount64(atomic.LoadUint64(ps.idle(p)))
}

// lend makes a claimed slot the caller's. Nil if it is no longer usable: its
// bit stays clear and its goroutine replaces it.
func (s *slot) lend() *lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	args, err := s.plane.slotControl(bpf.EproxySlotOpSLOT_OP_LEND, bpf.EproxySlotArgs{Slot: s.index, Gen: s.gen})
	if err != nil || args.Ok == 0 {
		return nil
	}
	s.pod.lent.Add(1)
	return &lease{s: s, gen: s.gen}
}

// lease is a slot lent to the fallback.
type lease struct {
	s    *slot
	gen  uint32
	used bool
}

// Pod is the address of the pod; pool.Lease.
func (l *lease) Pod() netip.AddrPort { return l.s.pod.id.addr }

// Do sends the request and waits for the response, which the slot's goroutine
// reads; pool.Lease.
func (l *lease) Do(ctx context.Context, request []byte) (*pool.Response, error) {
	s := l.s
	l.used = true
	response := make(chan result, 1)
	s.mu.Lock()
	conn := s.conn
	if conn == nil || s.gen != l.gen {
		s.mu.Unlock()
		return nil, fmt.Errorf("connection to %s was replaced: %w", s.pod.id.addr, pool.ErrUnread)
	}
	s.lent = response
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { abort(conn) })
	defer stop()
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetWriteDeadline(d)
	}
	if _, err := conn.Write(request); err != nil {
		abort(conn)
		<-response
		return nil, fmt.Errorf("send to %s: %w", s.pod.id.addr, err)
	}
	r := <-response
	if r.err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", s.pod.id.addr, context.Cause(ctx))
	}
	return r.resp, r.err
}

// Release gives an unused slot back; after Do its goroutine has done so
// already; pool.Lease.
func (l *lease) Release() {
	l.s.pod.lent.Add(-1)
	if l.used {
		return
	}
	if _, err := l.s.plane.slotControl(bpf.EproxySlotOpSLOT_OP_READY, bpf.EproxySlotArgs{Slot: l.s.index, Gen: l.gen, Position: l.s.position.Load()}); err == nil {
		l.s.plane.notifyIdle()
	}
}
