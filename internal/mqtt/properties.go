package mqtt

// where is a set of packets that a property may be in: bit n is the control
// packet type n, bit 0 the will properties of CONNECT.
type where uint16

const inWill where = 1

func in(types ...int) where {
	var w where
	for _, t := range types {
		w |= 1 << t
	}
	return w
}

// kind is the data type of a property.
type kind byte

const (
	kindByte kind = iota + 1
	kindUint16
	kindUint32
	kindVarint
	kindText
	kindBinary
	kindPair
)

// Identifiers of the properties whose values matter here (MQTT 5 section 2.2.2.2).
const (
	propPayloadFormat   = 0x01
	propResponseTopic   = 0x08
	propSubscriptionID  = 0x0b
	propSessionExpiry   = 0x11
	propAuthMethod      = 0x15
	propAuthData        = 0x16
	propProblemInfo     = 0x17
	propResponseInfo    = 0x19
	propReceiveMaximum  = 0x21
	propTopicAlias      = 0x23
	propUser            = 0x26
	propMaximumPacket   = 0x27
	propertyIdentifiers = 0x2b
)

// property says what a property is and which packets may have it.
type property struct {
	kind kind
	in   where
}

// table is that of MQTT 5 section 2.2.2.2, as far as packets of clients go.
// What only a server sends is known, and allowed in no packet.
var table = [propertyIdentifiers]property{
	propPayloadFormat:  {kindByte, in(typePublish) | inWill},
	0x02:               {kindUint32, in(typePublish) | inWill}, // message expiry interval
	0x03:               {kindText, in(typePublish) | inWill},   // content type
	propResponseTopic:  {kindText, in(typePublish) | inWill},
	0x09:               {kindBinary, in(typePublish) | inWill}, // correlation data
	propSubscriptionID: {kindVarint, in(typePublish, typeSubscribe)},
	propSessionExpiry:  {kindUint32, in(typeConnect, typeDisconnect)},
	0x12:               {kindText, 0},   // assigned client identifier
	0x13:               {kindUint16, 0}, // server keep alive
	propAuthMethod:     {kindText, in(typeConnect)},
	propAuthData:       {kindBinary, in(typeConnect)},
	propProblemInfo:    {kindByte, in(typeConnect)},
	0x18:               {kindUint32, inWill}, // will delay interval
	propResponseInfo:   {kindByte, in(typeConnect)},
	0x1a:               {kindText, 0},                  // response information
	0x1c:               {kindText, in(typeDisconnect)}, // server reference
	0x1f:               {kindText, in(typePuback, typePubrec, typePubrel, typePubcomp, typeDisconnect)},
	propReceiveMaximum: {kindUint16, in(typeConnect)},
	0x22:               {kindUint16, in(typeConnect)}, // topic alias maximum
	propTopicAlias:     {kindUint16, in(typePublish)},
	0x24:               {kindByte, 0}, // maximum QoS
	0x25:               {kindByte, 0}, // retain available
	propUser: {kindPair, in(typeConnect, typePublish, typePuback, typePubrec, typePubrel, typePubcomp,
		typeSubscribe, typeUnsubscribe, typeDisconnect) | inWill},
	propMaximumPacket: {kindUint32, in(typeConnect)},
	0x28:              {kindByte, 0}, // wildcard subscription available
	0x29:              {kindByte, 0}, // subscription identifier available
	0x2a:              {kindByte, 0}, // shared subscription available
}

// properties are those of a packet, as far as they matter here.
type properties struct {
	raw           []byte // without their length
	seen          uint64 // bit per identifier
	sessionExpiry uint32
	topicAlias    uint16
}

func (p *properties) has(id int) bool { return p.seen&(1<<id) != 0 }

// properties reads and checks the properties of a packet, with their length.
func (c *cursor) properties(at where) properties {
	p := properties{raw: c.take(c.varint())}
	inner := cursor{b: p.raw}
	for len(inner.b) > 0 {
		inner.property(at, &p)
	}
	if inner.err == errTruncated {
		inner.err = errPropertyLength
	}
	c.checkError(inner.err)
	return p
}

func (c *cursor) property(at where, p *properties) {
	id := c.varint()
	if c.err != nil {
		return
	}
	if id >= len(table) || table[id].kind == 0 {
		c.fail(errPropertyUnknown)
		return
	}
	c.check(table[id].in&at != 0, errPropertyForeign)
	c.check(id == propUser || !p.has(id), errPropertyDuplicate)
	p.seen |= 1 << id
	var value uint32
	switch table[id].kind {
	case kindByte:
		value = uint32(c.u8())
	case kindUint16:
		value = uint32(c.u16())
	case kindUint32:
		value = c.u32()
	case kindVarint:
		value = uint32(c.varint())
	case kindBinary:
		c.binary()
	case kindText:
		if id == propResponseTopic { // [MQTT-3.3.2-13], [MQTT-3.3.2-14]
			c.name()
		} else {
			c.text()
		}
	case kindPair:
		c.text()
		c.text()
	}
	if c.err == nil {
		p.value(c, id, value)
	}
}

// value checks and keeps the value of a numeric property.
func (p *properties) value(c *cursor, id int, v uint32) {
	switch id {
	case propPayloadFormat, propProblemInfo, propResponseInfo:
		c.check(v <= 1, errPropertyValue)
	case propReceiveMaximum, propMaximumPacket, propSubscriptionID:
		c.check(v != 0, errPropertyValue)
	case propSessionExpiry:
		p.sessionExpiry = v
	case propTopicAlias:
		c.check(v != 0, errAliasInvalid)
		p.topicAlias = uint16(v)
	}
}

// EachProperty calls f with the identifier and all bytes of each property of a list that begins with its length (MQTT 5 section
// 2.2.2), as far as it is valid. Which packet they are in is not looked at.
func EachProperty(b []byte, f func(id byte, whole []byte)) {
	outer := cursor{b: b}
	c := cursor{b: outer.take(outer.varint())}
	for len(c.b) > 0 {
		before := c.b
		id := c.varint()
		if c.err != nil || id >= len(table) || table[id].kind == 0 {
			return
		}
		c.skip(table[id].kind)
		if c.err != nil {
			return
		}
		f(byte(id), before[:len(before)-len(c.b)])
	}
}

// skip reads a value.
func (c *cursor) skip(k kind) {
	switch k {
	case kindByte:
		c.u8()
	case kindUint16:
		c.u16()
	case kindUint32:
		c.u32()
	case kindVarint:
		c.varint()
	case kindText, kindBinary:
		c.binary()
	case kindPair:
		c.binary()
		c.binary()
	}
}
