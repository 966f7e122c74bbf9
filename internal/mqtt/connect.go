package mqtt

// Bits of the Connect Flags (MQTT 5 section 3.1.2.3).
const (
	flagReserved   = 1
	flagClean      = 2
	flagWill       = 4
	flagWillQoS    = 0x18
	flagWillRetain = 0x20
	flagPassword   = 0x40
	flagUsername   = 0x80
)

// BridgeBit in the protocol version is how bridges of mosquitto say that they
// are bridges, in MQTT 3.1 and 3.1.1.
const BridgeBit = 0x80

// version reads protocol name and version: 3, 4 or 5.
func (c *cursor) version() byte {
	name, level := string(c.text()), c.u8()
	switch {
	case c.err != nil:
	case name != "MQTT" && name != "MQIsdp":
		c.fail(errProtocolName)
	case name == "MQIsdp" && level&^BridgeBit == 3, name == "MQTT" && level&^BridgeBit == 4:
		return level &^ BridgeBit
	case name == "MQTT" && level == 5:
		return level
	default:
		c.fail(errProtocolVersion)
	}
	return 0
}

// connect reads CONNECT (MQTT 5 section 3.1) behind the fixed header.
func (d *Decoder) connect(c *cursor) *Error {
	d.version = c.version()
	flags := c.u8()
	c.u16() // keep alive
	if e := c.err; e != nil {
		return e
	}
	if e := connectFlags(flags, d.version); e != nil {
		return e
	}
	var p properties
	if d.version == 5 {
		p = c.properties(in(typeConnect))
		c.check(p.has(propAuthMethod) || !p.has(propAuthData), errAuthData)
		d.expires = p.sessionExpiry == 0
	}
	id := c.text()
	c.check(len(id) > 0 || d.version != 3, errClientID31)
	c.check(len(id) > 0 || d.version != 4 || flags&flagClean != 0, errClientID)
	if flags&flagWill != 0 {
		c.will(d.version)
	}
	if flags&flagUsername != 0 {
		c.text()
	}
	if flags&flagPassword != 0 {
		c.binary()
	}
	if e := c.end(); e != nil {
		return e
	}
	if p.has(propAuthMethod) {
		return errAuthMethod
	}
	return nil
}

// connectFlags checks the Connect Flags. MQTT 3.1 says nothing of the lowest one.
func connectFlags(flags, version byte) *Error {
	switch {
	case flags&flagReserved != 0 && version != 3:
		return errConnectReserved
	case flags&flagWill == 0 && flags&(flagWillQoS|flagWillRetain) != 0: // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
		return errWillFlags
	case flags&flagWillQoS == flagWillQoS:
		return errWillQoS
	case flags&flagPassword != 0 && flags&flagUsername == 0 && version != 5:
		return errPasswordFlag
	}
	return nil
}

// will reads the last will, whose payload may be empty.
func (c *cursor) will(version byte) {
	if version == 5 {
		c.properties(inWill)
	}
	c.name()
	c.binary()
}
