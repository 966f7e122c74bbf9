package mochi

import (
	"bytes"

	"github.com/mochi-mqtt/server/v2/packets"
)

// postpone keeps an acknowledgement back until all is on disk that was put before it; false: there is nothing to
// wait for.
func (c *conn) postpone(p []byte) bool {
	if c.server.keep == nil || len(p) == 0 {
		return false
	}
	switch p[0] >> 4 {
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp, packets.Unsuback:
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
