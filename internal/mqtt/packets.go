package mqtt

import (
	"bytes"
	"slices"
)

// Reason codes that a client may send.
var (
	ackReasons        = []byte{0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99}                               // sections 3.4.2.1, 3.5.2.1
	releaseReasons    = []byte{0x00, 0x92}                                                                         // sections 3.6.2.1, 3.7.2.1
	disconnectReasons = []byte{0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99} // section 3.14.2.1
)

// acknowledgement reads PUBACK, PUBREC, PUBREL or PUBCOMP behind the fixed header.
func (c *cursor) acknowledgement(kind int, version byte) *Error {
	c.packetID()
	if version == 5 && len(c.b) > 0 {
		reasons := ackReasons
		if kind == typePubrel || kind == typePubcomp {
			reasons = releaseReasons
		}
		c.check(slices.Contains(reasons, c.u8()), errReason)
		if len(c.b) > 0 {
			c.properties(in(kind))
		}
	}
	return c.end()
}

// subscribe reads SUBSCRIBE behind the fixed header.
func (c *cursor) subscribe(version byte) *Error {
	c.packetID()
	if version == 5 {
		c.properties(in(typeSubscribe))
	}
	c.check(len(c.b) > 0, errFilters)
	for len(c.b) > 0 {
		filter := c.filter()
		c.options(c.u8(), version, bytes.HasPrefix(filter, []byte("$share/")))
	}
	return c.end()
}

// options checks the subscription options (MQTT 5 section 3.8.3.1; MQTT 3.1.1:
// the requested QoS).
func (c *cursor) options(b, version byte, shared bool) {
	reserved := byte(0xfc)
	if version == 5 {
		reserved = 0xc0
	}
	c.check(b&reserved == 0, errOptions)
	c.check(b&3 != 3, errOptionsQoS)
	c.check(b&0x30 != 0x30, errRetainHandling)
	c.check(!shared || b&4 == 0, errNoLocal)
}

// unsubscribe reads UNSUBSCRIBE behind the fixed header.
func (c *cursor) unsubscribe(version byte) *Error {
	c.packetID()
	if version == 5 {
		c.properties(in(typeUnsubscribe))
	}
	c.check(len(c.b) > 0, errFilters)
	for len(c.b) > 0 {
		c.filter()
	}
	return c.end()
}

// disconnect reads DISCONNECT behind the fixed header.
func (d *Decoder) disconnect(c *cursor) *Error {
	d.reason = 0
	if d.version == 5 && len(c.b) > 0 {
		d.reason = c.u8()
		c.check(slices.Contains(disconnectReasons, d.reason), errReason)
		if len(c.b) > 0 {
			p := c.properties(in(typeDisconnect))
			c.check(!d.expires || p.sessionExpiry == 0, errExpiryRaised)
		}
	}
	return c.end()
}
