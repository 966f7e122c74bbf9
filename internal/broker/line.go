package broker

import (
	"slices"
	"sync"

	"eproxy/internal/config"
)

// lines are the messages of ordered routes under way, of each client and route in
// the order in which they came: the first one may be sent.
type lines struct {
	mu sync.Mutex
	m  map[lineKey][]*place
}

// lineKey is of a client, not of a session: what one session has left under way comes
// before what the next one sends.
type lineKey struct {
	client, filter string
}

// place is a message's in its line.
type place struct {
	key  lineKey
	head chan struct{} // closed when it is the first
}

// join puts a message last in its line.
func (l *lines) join(client string, route *config.Route) *place {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &place{lineKey{client, route.Filter}, make(chan struct{})}
	if l.m == nil {
		l.m = make(map[lineKey][]*place)
	}
	l.m[p.key] = append(l.m[p.key], p)
	if len(l.m[p.key]) == 1 {
		close(p.head)
	}
	return p
}

// first is closed when it is the message's turn; nil, always, without a line.
func (p *place) first() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.head
}

// leave takes a message out of its line, nil: it was in none.
func (l *lines) leave(p *place) {
	if p == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.m[p.key]
	i := slices.Index(line, p)
	line = slices.Delete(line, i, i+1)
	switch {
	case len(line) == 0:
		delete(l.m, p.key)
		return
	case i == 0:
		close(line[0].head)
	}
	l.m[p.key] = line
}
