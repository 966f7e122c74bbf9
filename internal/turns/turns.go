// Package turns lets what is done for one client identifier be done one after the other.
package turns

import "sync"

// Turns lets the connections of one client identifier come and go one after the
// other. The library looks for the session that a connection takes over and enters
// the connection in two steps, and forgets a session without looking whose it is:
// between the steps of one connection, another would be missed, or forgotten.
type Turns struct {
	mu   sync.Mutex
	open map[string]*turn
}

// turn is the lock of one client identifier.
type turn struct {
	sync.Mutex
	wanted int // connections that have it or wait for it
}

// Begin waits for the turn of a client identifier and returns what ends it.
func (t *Turns) Begin(clientID string) (end func()) {
	x := t.enter(clientID, false)
	x.Lock()
	return func() { t.end(clientID, x) }
}

// Try takes the turn of a client identifier if no connection has it or waits for it, and returns what ends it; otherwise nil.
func (t *Turns) Try(clientID string) (end func()) {
	x := t.enter(clientID, true)
	if x == nil {
		return nil
	}
	x.Lock()
	return func() { t.end(clientID, x) }
}

// enter counts one more connection that wants the turn; nil, and it does not, if only a free one will do and it is not.
func (t *Turns) enter(clientID string, free bool) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = make(map[string]*turn)
	}
	x := t.open[clientID]
	switch {
	case x == nil:
		x = &turn{}
		t.open[clientID] = x
	case free:
		return nil
	}
	x.wanted++
	return x
}

// end lets the next connection have the turn.
func (t *Turns) end(clientID string, x *turn) {
	x.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.wanted--; x.wanted == 0 {
		delete(t.open, clientID)
	}
}
