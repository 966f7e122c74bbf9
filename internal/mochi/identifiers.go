package mochi

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// The packet identifiers that a client gives its packets and those that the server gives its own have nothing to do with each other (MQTT 5
// section 2.2.1), and most clients and the library count both from 1. But the library has one table for both, and takes one for the other: it refuses a
// subscription, and forgets a message that a client has not acknowledged. So a client's packet whose identifier is that of a message of the
// server's gets another one for as long as the library has it.

// swap is that of a client's packet that the library has now; the connection's goroutine alone has it.
type swap struct {
	real, internal uint16 // internal 0: there is none
	release        bool   // it is a PUBREL
}

// both are, by client identifier, the packet identifiers of messages of QoS 2 from a client, not released, for which there is no place
// in the library's table: a message of the server's has it.
type both struct {
	mu sync.Mutex
	m  map[string]map[uint16]struct{}
}

func (b *both) has(client string, id uint16) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.m[client][id]
	return ok
}

func (b *both) add(client string, id uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m == nil {
		b.m = make(map[string]map[uint16]struct{})
	}
	if b.m[client] == nil {
		b.m[client] = make(map[uint16]struct{})
	}
	b.m[client][id] = struct{}{}
}

func (b *both) remove(client string, id uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if delete(b.m[client], id); len(b.m[client]) == 0 {
		delete(b.m, client)
	}
}

// forget: a client's session has ended.
func (b *both) forget(client string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.m, client)
}

// servers says whether a packet identifier is that of a message to the client.
func servers(cl *mochi.Client, id uint16) bool {
	m, ok := cl.State.Inflight.Get(id)
	return ok && (m.FixedHeader.Type == packets.Publish || m.FixedHeader.Type == packets.Pubrel)
}

// exchange gives a client's packet another identifier, where that is needed.
func (c *conn) exchange(cl *mochi.Client, pk packets.Packet) packets.Packet {
	c.swap = swap{}
	id, kind := pk.PacketID, pk.FixedHeader.Type
	received := c.server.both.has(cl.ID, id) && (kind == packets.Pubrel || kind == packets.Publish && pk.FixedHeader.Qos == 2)
	if id == 0 || !received && !servers(cl, id) {
		return pk
	}
	c.swap = swap{real: id, internal: unused(cl), release: kind == packets.Pubrel}
	pk.PacketID = c.swap.internal
	if received { // the library finds it as its own
		atomic.AddInt64(&c.server.mqtt.Info.Inflight, 1)
		cl.State.Inflight.Set(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrec}, PacketID: pk.PacketID, Created: time.Now().Unix()})
	}
	return pk
}

// unused is an identifier that nothing in the library's table has.
func unused(cl *mochi.Client) uint16 {
	for {
		id := uint16(1 + rand.N(0xffff))
		if _, ok := cl.State.Inflight.Get(id); !ok {
			return id
		}
	}
}

// real is the identifier that the client has given the packet that the library has now.
func (c *conn) real(id uint16) uint16 {
	if c.swap.internal != 0 && c.swap.internal == id {
		return c.swap.real
	}
	return id
}

// exchanged ends what exchange has begun: the library has done with the packet.
func (c *conn) exchanged(cl *mochi.Client) {
	s := c.swap
	c.swap = swap{}
	if s.internal == 0 {
		return
	}
	if m, ok := cl.State.Inflight.Get(s.internal); ok {
		atomic.AddInt64(&c.server.mqtt.Info.Inflight, -1)
		cl.State.Inflight.Delete(s.internal)
		if m.FixedHeader.Type == packets.Pubrec {
			c.server.both.add(cl.ID, s.real)
		}
	}
	if s.release {
		c.server.both.remove(cl.ID, s.real)
	}
}
