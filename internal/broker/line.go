package broker

import (
	"slices"
	"sync"

	"eproxy/internal/config"
)

// lines are the messages of ordered routes that the server has under way, of each client and route in
// the order in which they came: the first one may be sent. Lines are of clients, not of sessions: what one session has left under way comes
// before what the next one sends.
//
// The programs have messages of the same lines. What they had before the server got one of its own comes first; then the server stands in front
// with all that it gets, a batch, and lets the programs take what follows. What it gets behind that is the next batch.
type lines struct {
	programs Orderer // nil: there are none

	mu sync.Mutex
	m  map[string]map[string]*line // by client and filter
}

// line is the batches of one client and route.
type line struct {
	client, filter string
	batches        []*batch // never empty; only in the first one are messages sent
}

// batch is messages between which the programs have none.
type batch struct {
	places []*place
	first  bool  // the programs have none in front of it
	front  Front // the server's place, then
	sealed bool  // they may have some behind it
}

// place is a message's in its line.
type place struct {
	line *line
	head chan struct{} // closed when it is the first
}

// join puts a message last in its line.
func (l *lines) join(client string, route *config.Route) *place {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = make(map[string]map[string]*line)
	}
	of := l.m[client]
	if of == nil {
		of = make(map[string]*line)
		l.m[client] = of
	}
	x := of[route.Filter]
	if x == nil {
		x = &line{client: client, filter: route.Filter}
		of[route.Filter] = x
	}
	if n := len(x.batches); n == 0 || x.batches[n-1].sealed {
		x.batches = append(x.batches, &batch{})
	}
	p := &place{x, make(chan struct{})}
	last := x.batches[len(x.batches)-1]
	if last.places = append(last.places, p); len(last.places) == 1 {
		l.advance(x)
	}
	return p
}

// advance gives the first message of a line its turn, once the programs have none in front; l.mu is held.
func (l *lines) advance(x *line) {
	b := x.batches[0]
	if !b.first {
		b.first = true
		if l.programs != nil {
			b.front, b.first = l.programs.Hold(x.client, x.filter, func() { l.again(x, b) })
		}
	}
	if b.first {
		b.places[0].open()
	}
}

// again looks whether a batch is the first now.
func (l *lines) again(x *line, b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(x.batches) > 0 && x.batches[0] == b {
		l.advance(x)
	}
}

// open closes head, once.
func (p *place) open() {
	select {
	case <-p.head:
	default:
		close(p.head)
	}
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
	x := p.line
	at := slices.IndexFunc(x.batches, func(b *batch) bool { return slices.Contains(b.places, p) })
	b := x.batches[at]
	b.places = slices.DeleteFunc(b.places, func(o *place) bool { return o == p })
	if len(b.places) == 0 {
		x.batches = slices.Delete(x.batches, at, at+1)
		if b.front.Number != 0 {
			l.programs.Release(b.front)
		}
	}
	switch {
	case len(x.batches) == 0:
		delete(l.m[x.client], x.filter)
		if len(l.m[x.client]) == 0 {
			delete(l.m, x.client)
		}
	case at == 0:
		l.advance(x)
	}
}

// clear calls may if the server stands in front in all lines of a client where it has messages: the programs may take what follows, if
// may says so. Returns whether they may.
func (l *lines) clear(client string, may func() bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.m[client] {
		if len(x.batches) > 1 || x.batches[0].front.Number == 0 {
			return false
		}
	}
	if !may() {
		return false
	}
	for _, x := range l.m[client] {
		x.batches[0].sealed = true
	}
	return true
}
