package relay

import (
	"sync"
	"time"
)

// exactMax is of how many clients that are gone the open exchanges of QoS 2 are kept.
const exactMax = 4096

// exact are the exchanges of QoS 2 of taken messages, by client identifier: those that have got PUBREC and wait for
// PUBREL, over the connections of a session (MQTT 5 section 4.1).
type exact struct {
	mu      sync.Mutex
	clients map[string]*exchanges
}

// exchanges are those of one client.
type exchanges struct {
	mu       sync.Mutex
	received map[uint16]struct{}
	until    time.Time // when they may be forgotten; zero: the client is connected
}

// begin are the exchanges of a client that connects. present: the broker has gone on with its session; otherwise both ends
// have forgotten it.
func (e *exact) begin(client string, present bool) *exchanges {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := e.clients[client]
	delete(e.clients, client)
	if x == nil || !present {
		return &exchanges{}
	}
	return x
}

// keep keeps what is open of a client that has gone, for as long as its session lives on, unless there is no room, or
// another connection of the client's has kept some.
func (e *exact) keep(client string, x *exchanges, expiry time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if expiry <= 0 || x.open() == 0 {
		return
	}
	now := time.Now()
	for name, old := range e.clients {
		if len(e.clients) >= exactMax && old.until.Before(now) {
			delete(e.clients, name)
		}
	}
	if len(e.clients) >= exactMax {
		return
	}
	if e.clients == nil {
		e.clients = make(map[string]*exchanges)
	}
	x.until = now.Add(expiry)
	e.clients[client] = x
}

func (x *exchanges) open() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.received)
}

// has says whether a message with this identifier waits for PUBREL.
func (x *exchanges) has(id uint16) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.received[id]
	return ok
}

// set notes that PUBREC is sent.
func (x *exchanges) set(id uint16) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.received == nil {
		x.received = make(map[uint16]struct{})
	}
	x.received[id] = struct{}{}
}

// end ends an exchange, and says whether there was one.
func (x *exchanges) end(id uint16) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.received[id]
	delete(x.received, id)
	return ok
}
