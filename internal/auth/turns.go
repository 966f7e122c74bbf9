package auth

import (
	"context"
	"net/netip"
	"slices"
	"sync"
)

// maxWaiting is how many logins may wait for their turn. At a usual cost of 10,
// the last of them waits some four seconds.
const maxWaiting = 64

// turns lets some logins at a time compute their hashes, or ask. Those that wait get
// their turns address by address, so that one address with many keeps the others
// waiting for one of its own at a time.
type turns struct {
	atOnce int // turns
	most   int // waiting

	mu      sync.Mutex
	taken   int
	closed  bool
	total   int                          // waiting
	waiting map[netip.Prefix][]chan bool // by origin, the first is the longest there
	order   []netip.Prefix               // origins that wait, the next one first
}

func newTurns(atOnce, most int) *turns {
	return &turns{atOnce: atOnce, most: most, waiting: make(map[netip.Prefix][]chan bool)}
}

// origin is what counts as one address: an IPv6 host has a /64 of them.
func origin(a netip.Addr) netip.Prefix {
	bits := 32
	if a = a.Unmap(); a.Is6() {
		bits = 64
	}
	p, _ := a.WithZone("").Prefix(bits) // the zero address is an origin, too
	return p
}

// take waits for a turn until ctx ends; end must follow. false: there is none to be had.
func (t *turns) take(ctx context.Context, from netip.Addr) bool {
	o := origin(from)
	turn := t.ask(o)
	select {
	case ok := <-turn:
		return ok
	case <-ctx.Done():
		t.withdraw(o, turn)
		return <-turn // it may have been granted meanwhile
	}
}

// ask queues up for a turn. The channel says once whether it is granted.
func (t *turns) ask(from netip.Prefix) chan bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	turn := make(chan bool, 1)
	switch {
	case t.closed:
		turn <- false
	case t.taken < t.atOnce:
		t.taken++
		turn <- true
	case t.total >= t.most && !t.displace(from):
		turn <- false
	default:
		t.queue(from, turn)
	}
	return turn
}

// withdraw refuses a turn that waits; one that does not is left as it is.
func (t *turns) withdraw(from netip.Prefix, turn chan bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.waiting[from]
	i := slices.Index(q, turn)
	if i < 0 {
		return
	}
	turn <- false
	t.total--
	if t.waiting[from] = slices.Delete(q, i, i+1); len(q) == 1 {
		delete(t.waiting, from)
		t.order = slices.DeleteFunc(t.order, func(o netip.Prefix) bool { return o == from })
	}
}

func (t *turns) queue(from netip.Prefix, turn chan bool) {
	if len(t.waiting[from]) == 0 {
		t.order = append(t.order, from)
	}
	t.waiting[from] = append(t.waiting[from], turn)
	t.total++
}

// displace refuses the last login of the origin that has the most waiting, unless
// the new one's would then have more.
func (t *turns) displace(from netip.Prefix) bool {
	most := slices.MaxFunc(t.order, func(a, b netip.Prefix) int { return len(t.waiting[a]) - len(t.waiting[b]) })
	q := t.waiting[most]
	last := len(q) - 1
	if last <= len(t.waiting[from]) {
		return false
	}
	q[last] <- false
	t.waiting[most] = q[:last]
	t.total--
	return true
}

// end gives the turn to the next login.
func (t *turns) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.total == 0 {
		t.taken--
		return
	}
	next := t.order[0]
	q := t.waiting[next]
	t.order = t.order[1:]
	if t.waiting[next] = q[1:]; len(q) > 1 {
		t.order = append(t.order, next)
	} else {
		delete(t.waiting, next)
	}
	t.total--
	q[0] <- true
}

// close refuses all that wait and all that come.
func (t *turns) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, q := range t.waiting {
		for _, turn := range q {
			turn <- false
		}
	}
	t.waiting, t.order, t.total = nil, nil, 0
}
