package mochi

import (
	"sync"
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// The library counts a message of QoS 1 or 2 for a client and has it kept (OnQosPublish), and where too much is queued for the client
// already it drops the message and forgets the identifier that it gave it, but neither ends the count nor says which identifier that was: OnPublishDropped
// has the message as it was published. Both are called one after the other by the goroutine that gives the message to its subscribers:
// who publishes it, or for a retained one that the library has kept the client's own, while it subscribes.

// note is what the copies of a message for its subscribers share: they have the slice Filters in common, which a PUBLISH has no use for. Filter is the client
// that a copy was last counted for, Identifier its identifier there, and NoLocal says that all subscribers have been given theirs.
type note struct{ *packets.Subscription }

// noteOn gives a message that is to be published one.
func noteOn(pk *packets.Packet) note {
	pk.Filters = make(packets.Subscriptions, 1)
	return note{&pk.Filters[0]}
}

// noteOf is a message's; false: it is given to a client by the client's own goroutine. d.mu is held.
func (d *dropped) noteOf(pk *packets.Packet) (n note, ok bool) {
	if len(pk.Filters) == 0 {
		return n, false
	}
	n = note{&pk.Filters[0]}
	return n, !n.NoLocal
}

// dropped finds out which messages the library has dropped.
type dropped struct {
	mu sync.Mutex // what notes say: retained messages are given to others while they are published
}

// published: a message was given to all subscribers. What the library has retained of it is given to later ones by their own goroutines.
func (d *dropped) published(n note) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n.NoLocal = true
}

// queueing: a message is counted for a client, and about to be queued.
func (d *dropped) queueing(cl *mochi.Client, pk *packets.Packet) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n, ok := d.noteOf(pk); ok {
		n.Filter, n.Identifier = cl.ID, int(pk.PacketID)
	} else if c, ok := cl.Net.Conn.(*conn); ok && pk.FixedHeader.Type == packets.Publish {
		c.queued = append(c.queued, pk.PacketID)
	}
}

// from is which identifier of a client's a message had that was dropped; false: none, or it is not known yet.
func (d *dropped) from(cl *mochi.Client, pk *packets.Packet) (id uint16, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.noteOf(pk)
	if !ok {
		if c, ok := cl.Net.Conn.(*conn); ok {
			c.lost = true
		}
		return 0, false
	}
	if n.Filter != cl.ID || n.Identifier == 0 { // it is of QoS 0 for this one
		return 0, false
	}
	id, n.Identifier = uint16(n.Identifier), 0
	return id, true
}

// OnPublishDropped is called when there is no room for a message in what is queued for a client.
func (h *hook) OnPublishDropped(cl *mochi.Client, pk packets.Packet) {
	if id, ok := h.s.dropped.from(cl, &pk); ok {
		h.s.droppedOf(cl, id)
	}
}

// droppedOf ends what is known of a message that the library has dropped.
func (s *Server) droppedOf(cl *mochi.Client, id uint16) {
	atomic.AddInt64(&s.mqtt.Info.Inflight, -1)
	s.keep.settled(cl, id)
}

// settleLost ends what is known of retained messages that were dropped while the client subscribed: they were queued by its own
// goroutine, which calls this before it does anything with the client's next packet, or end.
func (c *conn) settleLost() {
	if c.lost {
		for _, id := range c.queued {
			if _, ok := c.client.State.Inflight.Get(id); !ok {
				c.server.droppedOf(c.client, id)
			}
		}
	}
	c.queued, c.lost = nil, false
}
