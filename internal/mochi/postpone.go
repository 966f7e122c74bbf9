package mochi

import (
	"bytes"

	"github.com/mochi-mqtt/server/v2/packets"
)

// postpone keeps a packet back until all is on disk that was put before it; false: there is nothing to wait for. A message to a client with a
// session waits as acknowledgements do: after a crash its packet identifier would be another's, and the client, which has begun its exchange, takes
// one for the other.
func (c *conn) postpone(p []byte) bool {
	if c.server.keep == nil || len(p) == 0 {
		return false
	}
	switch p[0] >> 4 {
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp, packets.Unsuback:
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

// after writes packets when all is on disk that was put before.
func (c *conn) after(p []byte) {
	c.server.keep.store.After(func() {
		c.acks.Put(p)
		c.acks.Flush()
	})
}
