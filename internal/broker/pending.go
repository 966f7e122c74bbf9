package broker

import "sync"

// pendings are routed messages under way, by client and packet identifier: a
// repetition must not be delivered at the same time as its original.
type pendings struct {
	mu sync.Mutex
	m  map[pendingKey]*pending
	wg sync.WaitGroup
}

type pendingKey struct {
	client string
	id     uint16
}

type pending struct{ session *Session }

func (p *pendings) init() { p.m = make(map[pendingKey]*pending) }

// begin notes a message; false means that this repeats one under way, whose
// acknowledgement then goes to the new connection.
func (p *pendings) begin(x *Session, id uint16, dup bool) (*pending, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := pendingKey{x.ClientID, id}
	if old := p.m[key]; old != nil && id != 0 && (dup || old.session == x) {
		old.session = x
		return old, false
	}
	n := &pending{session: x}
	if id != 0 {
		p.m[key] = n
	}
	p.wg.Add(1)
	return n, true
}

// end forgets a message and says where its acknowledgement goes.
func (p *pendings) end(n *pending, id uint16) *Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := pendingKey{n.session.ClientID, id}
	if p.m[key] == n {
		delete(p.m, key)
	}
	p.wg.Done()
	return n.session
}
