package broker

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/delivery"
	"eproxy/internal/request"
)

// Session is one client's time between CONNECT and the end of its connection:
// who it is, what it may do, and the kernel path's hold on its connection.
// Whatever ends it or changes its rights goes through it, and is true for both
// paths when the method returns.
type Session struct {
	Identity
	Version byte // MQTT protocol level: 3, 4 or 5
	Since   time.Time

	server *Server
	peer   Peer
	acks   *ackQueue
	queued *delivery.Publisher // what it has in the functions' queues
	gone   chan struct{}       // closed by Stop
	will   *Will
	expiry time.Duration
	clean  bool

	mu       sync.Mutex
	rights   rights
	version  uint32      // of the rights, as the kernel path knows them
	expiring *time.Timer // ends the session with the client's account; nil: it does not expire
	renewing *time.Timer // has its account asked for again; nil: that is not needed
	graft    Graft       // nil: the connection is the frontend's alone
	conn     net.Conn    // that graft has
	over     bool        // the server has decided that the session has ended
	heir     *Session    // the session that took this one over

	routed   atomic.Pointer[routed] // of its latest message
	routes   atomic.Bool            // one of its messages was routed
	ordering atomic.Bool            // one of its messages was of a route that Orders names
	copies   copies
}

// kernelRights is the word by which the programs know the rights of a session.
func kernelRights(version uint32, all bool) uint32 {
	word := version << 1
	if all {
		word |= 1
	}
	return word
}

// arm offers the connection to the kernel path.
func (s *Session) arm(g Grafter, t *Transport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || g == nil || t == nil {
		return
	}
	s.conn = t.Conn
	s.graft = g.Established(ConnInfo{
		Conn: t.Conn, ClientID: s.ClientID, Username: s.account(), Version: s.Version, Read: t.Read, AtBoundary: t.AtBoundary,
		Clear:  s.server.lines.clear(s.ClientID, func() bool { return true }),
		Rights: kernelRights(s.version, s.rights.all()),
		Complete: func(id uint16, h Hold, o delivery.Outcome) {
			if id != 0 {
				s.acks.add(ack{id, h, o})
			}
		},
		Copy:  s.copied,
		Abort: s.peer.Abort,
	})
}

// Stop says that the session is over: from its return on nothing more that this
// client sends becomes a message, on either path. The frontend calls it as soon
// as it knows, before it closes the connection or sends a last packet.
func (s *Session) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over = true
	close(s.gone)
	for _, t := range []*time.Timer{s.expiring, s.renewing} {
		if t != nil {
			t.Stop()
		}
	}
	if s.graft != nil {
		s.graft.Stop()
	}
}

// yield ends the session for another that takes it over. The kernel path takes
// nothing more at once; what has arrived and not been read is the client's last
// word, often a message and its goodbye, and is heard before the session is over.
func (s *Session) yield(heir *Session) {
	s.mu.Lock()
	s.heir = heir
	if s.graft != nil && !s.over {
		s.graft.Stop()
	}
	s.mu.Unlock()
	s.peer.Settle()
	s.Stop()
	s.settleCopies(s.server.ctx)
}

// Over says whether the session has ended.
func (s *Session) Over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// end stops the session and disconnects the client.
func (s *Session) end(code byte, reason string) {
	s.Stop()
	s.peer.Disconnect(code, reason)
}

// judge gives the session the rights of a configuration, as far as one that is about to replace it, if next is not
// nil, gives them too. Who may not be connected is disconnected.
func (s *Session) judge(r, next *rules) {
	now := r.rights(s.Identity)
	valid := now.valid
	if next != nil {
		now = now.within(next.rights(s.Identity))
	}
	s.mu.Lock()
	s.authorize(now)
	s.mu.Unlock()
	if !valid {
		s.Revoke("the account was removed or changed, or access is denied")
	}
}

// Revoke ends the session of a client that may not be connected any more. It does not wait for the client.
func (s *Session) Revoke(reason string) {
	s.Stop()
	go func() { // may wait for the client
		defer s.server.absorb(s.ClientID)
		s.peer.Disconnect(CodeNotAuthorized, reason)
	}()
}

// restrict leaves the session those of its rights that a new configuration gives
// it, too. Whom that does not let in at all is disconnected when it is in force.
func (s *Session) restrict(next *rules) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authorize(s.rights.within(next.rights(s.Identity)))
}

// authorize gives the session other rights, on both paths; s.mu is held.
func (s *Session) authorize(now rights) {
	before := s.rights
	s.rights = now
	if s.over || now.samePublish(before) {
		return
	}
	s.version++
	if s.graft != nil {
		s.graft.Authorize(kernelRights(s.version, now.all()))
	}
}

// valid says whether the client may be connected at all.
func (s *Session) valid() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rights.valid
}

// MaySubscribe says whether the client may receive what the filter matches. It is asked of every message for the client,
// too: what is not for it is no refusal, of which it knows nothing.
func (s *Session) MaySubscribe(filter string) bool {
	s.mu.Lock()
	r := s.rights
	s.mu.Unlock()
	return r.maySubscribe(filter)
}

// RefusedSubscription counts and logs that the client asked for a subscription that it may not have.
func (s *Session) RefusedSubscription(filter string) {
	s.server.Refused("not_authorized", "client may not subscribe to this topic", s.Remote, "client", s.ClientID, "topic", filter)
}

// MayPublish says whether the client may publish to a topic, while its session lasts.
func (s *Session) MayPublish(topic string) bool {
	ok, over, _ := s.mayPublish(topic)
	return ok && !over
}

// mayPublish says whether the client may publish to a topic, and under which
// version of its rights that was found; over: the session has ended.
func (s *Session) mayPublish(topic string) (ok, over bool, version uint32) {
	s.mu.Lock()
	r, over, version := s.rights, s.over, s.version
	s.mu.Unlock()
	return r.mayPublish(topic), over, version
}

// granted lets the kernel path take a topic that was allowed under this version
// of the rights.
func (s *Session) granted(topic string, version uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.graft != nil && !s.over && !s.rights.all() {
		s.graft.Granted(topic, kernelRights(version, false))
	}
}

// Alias is called for each PUBLISH with a topic alias, in the order of the stream, before Boundary: the alias stands for this topic.
func (s *Session) Alias(alias uint16, topic string) {
	g := s.armed()
	if g == nil || alias == 0 {
		return
	}
	if !s.server.Routed(topic) {
		topic = ""
	}
	g.Alias(alias, topic)
}

// Boundary is called when all bytes read so far ended at a packet boundary and
// the frontend is about to wait for more.
func (s *Session) Boundary(read uint64) {
	g := s.armed()
	if g == nil {
		return
	}
	g.Boundary(read)
	if s.ordering.Load() && !s.copies.many() {
		s.server.lines.clear(s.ClientID, func() bool { return g.Clear(read) })
		if s.copies.many() { // meanwhile: who has said so may have come before
			g.Behind()
		}
	}
}

// Orders says whether the server has had messages of the client on ordered or also_broker routes: the kernel path takes such messages only
// behind what the server has named.
func (s *Session) Orders() bool { return s.ordering.Load() }

// Routes says whether the client has published to functions, on either path: of others the kernel path has nothing to take.
func (s *Session) Routes() bool {
	if !s.routes.Load() && !s.LastReceive().IsZero() {
		s.routes.Store(true)
	}
	return s.routes.Load()
}

// Behind says whether the client was not read from because its messages wait.
func (s *Session) Behind() bool { return s.queued.Behind() }

// Flush writes what messages of the client have put together for pods. The frontend calls it
// before it waits for anything.
func (s *Session) Flush() { s.queued.Batch().Gather() }

// CaughtUp is called when all that the client has sent is read.
func (s *Session) CaughtUp() { s.queued.CaughtUp() }

// LastReceive is when the kernel path last took a message; zero: never.
func (s *Session) LastReceive() time.Time {
	if g := s.armed(); g != nil {
		return g.LastReceive()
	}
	return time.Time{}
}

func (s *Session) armed() Graft {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.graft
}

// hold enters a QoS 1 message that the frontend has got among those under way on
// the kernel path, too. repeated: it repeats one.
func (s *Session) hold(id uint16, dup bool) (h Hold, repeated bool) {
	if g := s.armed(); g != nil {
		return g.Hold(id, dup)
	}
	return NoHold, false
}

// release ends a message and says whether it may be acknowledged.
func (s *Session) release(h Hold) bool {
	if g := s.armed(); g != nil && h != NoHold {
		return g.Release(h)
	}
	return true
}

// Closed is called once when the socket is closed.
func (s *Session) Closed() {
	s.Stop()
	if g := s.armed(); g != nil {
		g.Close()
	}
}

// DiscardWill is called when the client has said goodbye [MQTT-3.14.4-3].
func (s *Session) DiscardWill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.will = nil
}

// SetExpiry is called when DISCONNECT changes how long the session lives on (MQTT
// 5 section 3.14.2.2.2).
func (s *Session) SetExpiry(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expiry = d
}

// stamp names the session's client as a message's publisher.
func (s *Session) stamp(m *request.Message) {
	s.Identity.stamp(m)
	m.Version = s.Version
}
