package mochi

import (
	"bytes"

	"github.com/mochi-mqtt/server/v2/packets"
)

// postpone keeps a packet back until all is on disk that was put before it; false: there is nothing to
// wait for. The library acknowledges a message before it gives it to the subscribers: that one waits until it has. A message to a client with a
// session waits, too: after a crash its packet identifier would be another's, and the client, which has begun its exchange, takes one for the other.
func (c *conn) postpone(p []byte) bool {
	if c.server.keep == nil || len(p) == 0 {
		return false
	}
	switch p[0] >> 4 {
	case packets.Puback, packets.Pubrec:
		if id, ok := packetID(p); ok && c.publishing.Load() == publishing(id) {
			c.withheld = append(c.withheld, p...)
			return true
		}
	case packets.Pubrel, packets.Pubcomp, packets.Unsuback:
	case packets.Publish:
		if p[0]>>1&3 == 0 || !lasts(c.client) {
			return false
		}
		if !c.server.keep.behind() && c.acks.Full(0) != nil { // behind those that have waited, and are not written yet
			c.acks.Put(bytes.Clone(p))
			c.acks.Flush()
			return true
		}
	default:
		return false
	}
	if !c.server.keep.behind() {
		return false
	}
	c.after(bytes.Clone(p))
	return true
}

// packetID is that of an acknowledgement, behind its type and length (MQTT 5 section 2.2.1).
func packetID(p []byte) (id uint16, ok bool) {
	at := 1
	for at < len(p) && p[at]&0x80 != 0 {
		at++
	}
	if at++; at+2 > len(p) {
		return 0, false
	}
	return uint16(p[at])<<8 | uint16(p[at+1]), true
}

// after writes packets when all is on disk that was put before.
func (c *conn) after(p []byte) {
	c.server.keep.store.After(func() {
		c.acks.Put(p)
		c.acks.Flush()
	})
}

// publishing is conn.publishing while the library has an ordinary message with this packet identifier.
func publishing(id uint16) uint32 { return 1<<16 | uint32(id) }

// published is called when subscribers have the message, or when the connection has ended before; then who sends the
// message again sends it for the first time.
func (c *conn) published(done bool) {
	id := c.publishing.Swap(0)
	if id == 0 {
		return
	}
	if c.exactly {
		c.server.keep.received(c.client, uint16(id), done)
	}
	if !done && !servers(c.client, uint16(id)) {
		c.client.State.Inflight.Delete(uint16(id))
	}
	if w := c.withheld; w != nil && done {
		c.withheld = nil
		c.after(w)
	}
}
