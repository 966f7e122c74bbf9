package broker

import (
	"eproxy/internal/delivery"
	"eproxy/internal/request"
)

// Received is what is known of a client's message of QoS 2 until its PUBREL: whoever sends it again meanwhile,
// on this connection or the next one, repeats it (MQTT 5 section 4.3.3).
type Received struct {
	EventID string `json:"id"`             // its ce-id
	Done    bool   `json:"done,omitempty"` // its function has it, or the subscribers: what comes again is acknowledged, and not delivered
	Code    byte   `json:"code,omitempty"` // of its PUBREC

	by *Session // that has sent it; nil: one before the program began
}

// Keeper keeps on disk which messages of QoS 2 were received of clients whose sessions outlive the program.
type Keeper interface {
	// Received keeps what is known of a message, later.
	Received(client string, id uint16, r Received)
	// Released forgets it, later.
	Released(client string, id uint16)
	// Together keeps what do has kept, by whatever way, all or nothing.
	Together(do func())
	// Settled waits until all that is on disk; false: the frontend was closed first.
	Settled() bool
}

// Keep names who keeps. The frontend calls it before it serves anybody.
func (s *Server) Keep(k Keeper) { s.keeper = k }

// Restore is what a Keeper has kept. The frontend calls it before it serves anybody.
func (s *Server) Restore(client string, id uint16, r Received) {
	s.pending.mu.Lock()
	defer s.pending.mu.Unlock()
	s.pending.exchange(client).m[id] = r
}

// Forget is called when a client's session has ended: the next one knows nothing of what this one has received.
func (s *Server) Forget(client string) {
	s.pending.mu.Lock()
	defer s.pending.mu.Unlock()
	delete(s.pending.exchanges, client)
}

// Repeats says whether a message of QoS 2 is one that was acknowledged and not released, with the code of its PUBREC then. Without
// DUP that counts for the session's own connection alone: who comes back and has forgotten what it had sent begins anew.
func (s *Session) Repeats(id uint16, dup bool) (code byte, again bool) {
	p := &s.server.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.exchanges[s.ClientID]
	if e == nil {
		return 0, false
	}
	r := e.m[id]
	return r.Code, r.Done && (dup || r.by == s)
}

// Unreleased says whether as many messages of QoS 2 of the client's wait for PUBREL as may (ReceiveMaximum).
func (s *Session) Unreleased() bool {
	p := &s.server.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.exchanges[s.ClientID]
	if e == nil || len(e.m) < ReceiveMaximum {
		return false
	}
	n := 0
	for _, r := range e.m {
		if r.Done {
			n++
		}
	}
	return n >= ReceiveMaximum
}

// Receive has an ordinary message of QoS 2 given to the subscribers, and notes that it was received. What is kept of both is kept
// together.
func (s *Session) Receive(id uint16, give func()) {
	r := Received{Done: true, by: s}
	note := func() {
		p := &s.server.pending
		p.mu.Lock()
		defer p.mu.Unlock()
		p.exchange(s.ClientID).m[id] = r
	}
	if s.server.keeper == nil {
		give()
		note()
		return
	}
	s.server.keeper.Together(func() {
		give()
		if note(); s.lasts() {
			s.server.keeper.Received(s.ClientID, id, r)
		}
	})
}

// Released is called for a client's PUBREL: the packet identifier is free. false: no message was received by it.
func (s *Session) Released(id uint16) bool {
	p := &s.server.pending
	p.mu.Lock()
	e := p.exchanges[s.ClientID]
	known := e != nil && e.m[id].Done
	if known {
		e.drop(p, s.ClientID, id)
	}
	p.mu.Unlock()
	if known && s.kept() {
		s.server.keeper.Released(s.ClientID, id)
	}
	return known
}

// kept says whether what the session has received outlives the program.
func (s *Session) kept() bool { return s.server.keeper != nil && s.lasts() }

// lasts says whether the session outlives its connection.
func (s *Session) lasts() bool {
	if s.Version < 5 {
		return !s.clean
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expiry > 0
}

// exchange is the messages of QoS 2 of one client's session.
type exchange struct {
	m map[uint16]Received
}

// drop ends a message's exchange; p.mu is held. What is under way is in the exchange, so that nobody knows one that is empty.
func (e *exchange) drop(p *pendings, client string, id uint16) {
	if delete(e.m, id); len(e.m) == 0 {
		delete(p.exchanges, client)
	}
}

// exchange is that of a client's session; p.mu is held.
func (p *pendings) exchange(client string) *exchange {
	e := p.exchanges[client]
	if e == nil {
		e = &exchange{m: make(map[uint16]Received)}
		p.exchanges[client] = e
	}
	return e
}

// receive enters a new message of QoS 2, or one that was begun and has no outcome; it gets the ce-id of that. p.mu
// is held.
func (p *pendings) receive(n *pending, m *request.Message, newID func() string) {
	n.exchange = p.exchange(m.ClientID)
	if r, ok := n.exchange.m[m.PacketID]; ok && m.Dup {
		m.EventID, n.eventID, n.again = r.EventID, r.EventID, true
		return
	}
	n.eventID = newID()
	m.EventID = n.eventID
	n.exchange.m[m.PacketID] = Received{EventID: m.EventID}
}

// conclude notes the outcome of a message of QoS 2, before it is acknowledged, and returns what has changed: nothing where
// its session has ended. p.mu is held.
func (p *pendings) conclude(n *pending, client string, id uint16, o delivery.Outcome, version byte) (change func(Keeper)) {
	none := func(Keeper) {}
	if n.exchange == nil || p.exchanges[client] != n.exchange {
		return none
	}
	r := n.exchange.m[id]
	switch {
	case o.Acked || o.Rejected && version < 5:
		r.Done, r.Code, r.by = true, o.ReasonCode, n.session
		if version < 5 {
			r.Code = CodeSuccess // it has no reason codes, so the exchange goes on
		}
		n.exchange.m[id] = r
		return func(k Keeper) { k.Received(client, id, r) }
	case o.Interrupted || version < 5: // it comes again
		return none
	}
	n.exchange.drop(p, client, id) // PUBREC says no [MQTT-4.3.3-9]
	return func(k Keeper) { k.Released(client, id) }
}
