package mochi

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// numbering has one lock for several client identifiers. Under it a message gets into what waits for a client, and a session changes its
// connection or ends: what publishers put there is seen by the connection that takes the session over, and no two get the same packet identifier.
type numbering [64]sync.Mutex

var numberingSeed = maphash.MakeSeed()

func (n *numbering) of(client string) *sync.Mutex {
	return &n[maphash.String(numberingSeed, client)%uint64(len(n))]
}

// holder is who has a client's session now, itself or the one that has taken it over; nil: it has ended.
func (s *Server) holder(cl *mochi.Client) *mochi.Client {
	if now, ok := s.mqtt.Clients.Get(cl.ID); ok && now.State.Inflight == cl.State.Inflight {
		return now
	}
	return nil
}

// number gives a message of QoS 1 or 2 an identifier, under which it waits for the client's acknowledgement; false: the caller has nothing more to
// do with it, because too many wait, because the connection c is about to write all that do, or because another has taken the session over, which gets it here.
func (s *Server) number(cl *mochi.Client, c *conn, out *packets.Packet) bool {
	mu := s.numbering.of(cl.ID)
	mu.Lock()
	defer mu.Unlock()
	now := s.holder(cl)
	if now == nil {
		return false
	}
	if now != cl {
		c, _ = now.Net.Conn.(*conn)
	}
	switch {
	case now != cl && !s.mayReceive(now, out.TopicName):
		return false
	case now.State.Inflight.Len() >= int(s.mqtt.Options.Capabilities.MaximumInflight):
		atomic.AddInt64(&s.mqtt.Info.InflightDropped, 1)
		return false
	case c != nil:
		out.PacketID = c.out.identifier(func(id uint16) bool { return waits(now, id) })
	default:
		id, _ := now.NextPacketID() // fails if 65,535 messages wait
		out.PacketID = uint16(id)
	}
	if now.State.Inflight.Set(*out) {
		atomic.AddInt64(&s.mqtt.Info.Inflight, 1)
		s.clock.hold(now)
		s.keep.message(now, out)
	}
	if c != nil && !c.resumed {
		return false
	}
	if now != cl && !c.send(out) {
		atomic.AddInt64(&s.mqtt.Info.MessagesDropped, 1)
		s.complete(now, out)
	}
	return now == cl
}

// resume returns what waits for a client that has come back, in the order in which it came [MQTT-4.6.0-6 of MQTT 3.1.1], for the connection to write: what comes
// from now on is put behind it. The library sorts it by the lower 16 bits of the second in which it came, and what came in one second not at
// all; identifiers are given in ascending order.
func (s *Server) resume(c *conn) []packets.Packet {
	mu := s.numbering.of(c.client.ID)
	mu.Lock()
	c.resumed = true
	all := c.client.State.Inflight.GetAll(false)
	mu.Unlock()
	inOrder(all)
	return all
}

// succeed gives a session to another client, with all that waits, also what is just being put there by who still has the one before: so
// both have the same [MQTT-3.1.2-5]. In the index subscriptions stay where they are, they are by identifier.
func (s *Server) succeed(old, cl *mochi.Client) {
	mu := s.numbering.of(cl.ID)
	mu.Lock()
	defer mu.Unlock()
	cl.State.Inflight, cl.State.Subscriptions = old.State.Inflight, old.State.Subscriptions
	if before, ok := old.Net.Conn.(*conn); ok {
		cl.Net.Conn.(*conn).out.follow(&before.out)
	}
	s.mqtt.Clients.Add(cl)
}

// end ends the session that a client has. It is nobody's first: nothing gets into what is then cleared.
func (s *Server) end(cl *mochi.Client) {
	s.broker.Forget(cl.ID)
	mu := s.numbering.of(cl.ID)
	mu.Lock()
	s.mqtt.Clients.Delete(cl.ID)
	mu.Unlock()
	cl.ClearInflights()
	s.mqtt.UnsubscribeClient(cl)
	s.keep.forget(cl.ID)
}
