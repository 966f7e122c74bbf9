package relay

import (
	"fmt"
	"io"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt"
)

// downlink copies what the broker sends to the client, but for answers to what the client has not sent, until the broker
// sends nothing more; then the client's connection ends.
func (c *conn) downlink() {
	defer close(c.done)
	defer c.client.release()
	defer c.contain()
	var stream io.Reader
	if c.brokerRaw == nil {
		stream = c.broker
	}
	read := reader(c.brokerRaw, stream, &c.out, c.out.Idle)
	left := 0 // bytes of a packet still to come
	for {
		var err error
		if left, err = c.deliver(left); err != nil {
			break
		}
		if _, err = read(); err != nil {
			break
		}
	}
	x := c.session.Load()
	x.Stop() // what the client sends from now on, nobody takes
	if left == 0 {
		c.ending.Do(func() {}) // the broker has said what it had to say
	}
	if !c.goodbye.Load() { // else the uplink parts with the client
		c.finish()
		c.close()
	}
}

// deliver gives the client what was read of the broker, of which so many bytes belong to a packet that has begun. Returns
// how many bytes of the last one are still to come.
func (c *conn) deliver(left int) (int, error) {
	b := c.out.Rest()
	from, at := 0, 0
	flush := func(whole bool) error {
		run := b[from:at]
		if from = at; len(run) == 0 {
			return nil
		}
		return c.client.copy(run, whole)
	}
	defer func() { c.out.Use(at) }()
	for at < len(b) {
		if left > 0 {
			n := min(left, len(b)-at)
			at, left = at+n, left-n
			continue
		}
		kind, total, n, e := mqtt.ReadHeader(b[at:])
		switch {
		case e != nil:
			return 0, fmt.Errorf("from the broker: %w", e)
		case looked(kind) && total > connectSize:
			return 0, fmt.Errorf("acknowledgement of %d bytes from the broker", total)
		case n == 0, looked(kind) && at+total > len(b):
			return 0, flush(true)
		case looked(kind) && c.swallow(b[at:at+total]):
			if err := flush(true); err != nil {
				return 0, err
			}
			at += total
			from = at
		default:
			if kind == packets.Disconnect {
				c.ending.Do(func() {})
				c.session.Load().Stop() // before the client hears of it
			}
			left = total
		}
	}
	return left, flush(left == 0)
}

// looked says whether packets of a type may be answers to what the client has not sent.
func looked(kind byte) bool {
	switch kind {
	case packets.Puback, packets.Pubrec, packets.Pubcomp, packets.Pingresp:
		return true
	}
	return false
}

// swallow says whether a packet of the broker's is not for the client, and does what it demands.
func (c *conn) swallow(packet []byte) bool {
	kind := packet[0] >> 4
	if kind == packets.Pingresp {
		return c.pings.answered()
	}
	if len(packet) < 4 {
		return false
	}
	id, code := packetID(packet), byte(0)
	if c.version == 5 && len(packet) > 4 {
		code = packet[4]
	}
	ours, reply, answer := c.copies.acknowledged(kind, id, code)
	if code >= packets.ErrUnspecifiedError.Code && ours {
		x := c.session.Load()
		c.server.often.Warn("copy for subscribers refused by the broker", x.ClientID, "client", x.ClientID, "code", code)
	}
	if reply != nil {
		go func() { _ = c.upstream.packet(reply) }() // whoever writes to the broker may wait for it
	}
	if answer != nil {
		c.reply(answer)
	}
	return ours
}
