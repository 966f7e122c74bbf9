package broker

import (
	"sync"
	"sync/atomic"

	"eproxy/internal/delivery"
	"eproxy/internal/request"
)

// pendings are routed messages under way, by client and packet identifier: a
// repetition must not be delivered at the same time as its original. Those of
// QoS 1 on a connection that the kernel path has, too, are entered there as well
// (Graft.Hold).
type pendings struct {
	mu sync.Mutex
	m  map[pendingKey]*pending
	// exchanges are what the clients' sessions have received of QoS 2 and not released, by client identifier.
	exchanges map[string]*exchange
	// open is how many are under way, with what follows from them. No WaitGroup: new
	// ones may come while Drain waits.
	open atomic.Int64
}

type pendingKey struct {
	client string
	id     uint16
}

// pending is a message under way. Its acknowledgement goes to the session that
// has sent it last.
type pending struct {
	session *Session
	hold    Hold // on the packet identifier, of that session

	exchange *exchange // of QoS 2; nil: it is none
	eventID  string    // its ce-id, of QoS 2
	again    bool      // it was begun before, and its outcome is not known
}

func (p *pendings) init() {
	p.m, p.exchanges = make(map[pendingKey]*pending), make(map[string]*exchange)
}

// begin notes a message; false means that this repeats one under way, whose
// acknowledgement then goes to the new connection. A message of QoS 1 without DUP
// is a new one, whatever its identifier: its client has had the acknowledgement
// of the one before [MQTT-2.2.1-4]. For QoS 2 the identifier is in use until PUBREL,
// on whatever connection of the session: done is what is known of a message that its function has had already.
// newID makes a ce-id.
func (p *pendings) begin(x *Session, m *request.Message, newID func() string) (n *pending, first bool, done *Received) {
	n = &pending{session: x, hold: NoHold}
	if m.QoS == 1 {
		var repeated bool
		if n.hold, repeated = x.hold(m.PacketID, m.Dup); repeated {
			return nil, false, nil
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := pendingKey{x.ClientID, m.PacketID}
	if old := p.m[key]; old != nil && m.QoS > 0 && (m.Dup || m.QoS == 2 && old.session == x) {
		if old.session == x {
			x.release(n.hold)
		} else {
			old.session, old.hold = x, n.hold
		}
		if m.QoS == 2 && p.exchanges[x.ClientID] != old.exchange { // its client has begun anew, and goes on with it
			old.exchange = p.exchange(x.ClientID)
			old.exchange.m[m.PacketID] = Received{EventID: old.eventID}
		}
		return old, false, nil
	}
	if e := p.exchanges[x.ClientID]; m.QoS == 2 && m.Dup && e != nil && e.m[m.PacketID].Done {
		r := e.m[m.PacketID]
		return nil, false, &r
	}
	if m.QoS == 2 {
		p.receive(n, m, newID)
	}
	if m.QoS > 0 {
		p.m[key] = n
	}
	p.open.Add(1)
	return n, true, nil
}

// end forgets a message and says where its acknowledgement goes; nil: nowhere,
// its packet identifier is another message's by now. What is known of a message of QoS 2 from then on is kept first.
func (p *pendings) end(n *pending, id uint16, o delivery.Outcome) *Session {
	p.mu.Lock()
	key := pendingKey{n.session.ClientID, id}
	to, hold, own := n.session, n.hold, id == 0 || p.m[key] == n
	if p.m[key] == n {
		delete(p.m, key)
	}
	change := p.conclude(n, key.client, id, o, to.Version)
	p.mu.Unlock()
	if n.exchange != nil && to.kept() {
		change(to.server.keeper)
	}
	p.open.Add(-1)
	if !to.release(hold) || !own {
		return nil
	}
	return to
}
