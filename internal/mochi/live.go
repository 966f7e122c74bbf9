package mochi

import (
	"maps"
	"slices"
	"sync"
)

// IdleBytes is how much of the process's memory a client takes at most that is connected and sends nothing, nearly, in bytes: beside its socket,
// and what the kernel path has for it.
const IdleBytes = 16 << 10

// live are the connections that are served, also those that have no session yet:
// the library knows a client only from some moment behind its CONNECT on.
type live struct {
	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
	over   chan struct{} // closed when no more are served and the last has ended; made by shut
}

// add enters a connection; false if no more are served.
func (l *live) add(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if l.conns == nil {
		l.conns = make(map[*conn]struct{})
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *live) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if delete(l.conns, c); l.closed && len(l.conns) == 0 {
		close(l.over)
	}
}

// shut lets no more in, and returns what is closed when the last has ended; once.
func (l *live) shut() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed, l.over = true, make(chan struct{})
	if len(l.conns) == 0 {
		close(l.over)
	}
	return l.over
}

// all are the connections now.
func (l *live) all() []*conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.conns))
}
