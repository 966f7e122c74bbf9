package mqtt

import "errors"

// MaxAliases is the largest topic alias that a Decoder can allow.
const MaxAliases = 64

// Decoder checks everything that a client sends on one connection, from its
// first byte on, in whatever pieces it comes. It keeps no bytes and allocates
// nothing.
type Decoder struct {
	MaxConnect int    // bytes of the largest CONNECT
	MaxPacket  int    // bytes of the largest other packet
	TopicAlias uint16 // largest topic alias, at most MaxAliases

	version byte   // of the protocol: 3, 4 or 5; 0 before CONNECT
	open    bool   // CONNECT was let through
	ended   bool   // DISCONNECT was let through
	expires bool   // MQTT 5: the session ends with the connection
	reason  byte   // of DISCONNECT
	aliases uint64 // bit n-1: alias n has a topic
	payload int    // bytes of a PUBLISH's payload still to come
}

// Version is the protocol version that the client speaks, 3, 4 or 5, as soon as
// its CONNECT has been read; 0 if it is unknown.
func (d *Decoder) Version() byte { return d.version }

// Open says whether a valid CONNECT was let through.
func (d *Decoder) Open() bool { return d.open }

// Reason is the reason code of the DISCONNECT that was let through.
func (d *Decoder) Reason() byte { return d.reason }

// AtBoundary says whether what was let through ends with a whole packet.
func (d *Decoder) AtBoundary() bool { return d.payload == 0 }

// Next checks the next bytes of the stream, and says how many of them may pass;
// the rest must be given again, in front of what comes behind it. An error is a
// violation that begins right behind those that may pass; the Decoder must not
// be used any more.
//
// All packets pass whole, but for the payload of PUBLISH. Bytes may be changed:
// MQTT 3.1 lets clients set DUP in repetitions of packets in which later
// versions forbid it (its section 2.1), and the flag is cleared.
func (d *Decoder) Next(b []byte) (pass int, violation *Error) {
	for pass < len(b) {
		n, e := d.Step(b[pass:])
		if e != nil || n == 0 {
			return pass, e
		}
		pass += n
	}
	return pass, nil
}

// Step is Next for one packet, or one part of it; b is not empty.
func (d *Decoder) Step(b []byte) (pass int, violation *Error) {
	if d.payload > 0 {
		n := min(d.payload, len(b))
		d.payload -= n
		return n, nil
	}
	if d.ended {
		return 0, ErrAfterDisconnect
	}
	return d.packet(b)
}

// Publish is Step for a PUBLISH that is there whole, and reads its head. Returns 0 if b begins with
// anything else, or with what is not valid: that is Step's to find out.
func (d *Decoder) Publish(b []byte, p *Publish) (pass int) {
	if d.payload > 0 || d.ended || !d.open || len(b) == 0 || b[0]>>4 != typePublish {
		return 0
	}
	length, n, e := readLength(b[1:], d.version == 5)
	if total := 1 + n + length; e != nil || n == 0 || total > len(b) || total > d.MaxPacket {
		return 0
	}
	if head, e := d.publish(b, p); e != nil || head == 0 {
		return 0
	}
	d.payload = 0
	return p.Length
}

// Incomplete says whether b begins with a valid head of a PUBLISH of at most so many bytes, or a part of
// one, and the rest of the packet is missing.
func (d *Decoder) Incomplete(b []byte, most int) bool {
	if d.payload > 0 || d.ended || !d.open || len(b) == 0 || b[0]>>4 != typePublish {
		return false
	}
	if length, n, e := readLength(b[1:], d.version == 5); e != nil || n > 0 && 1+n+length <= len(b) {
		return false
	}
	var p Publish
	err := ReadPublish(b, d.version, &p)
	return err == nil && p.Length > len(b) && p.Length <= min(most, d.MaxPacket)
}

// packet checks the packet at the beginning of b and returns how many bytes of it
// may pass, 0 if more are needed to tell.
func (d *Decoder) packet(b []byte) (int, *Error) {
	if d.version == 3 {
		clearDup(b)
	}
	if e := d.first(b[0]); e != nil {
		if other := foreign(b); !d.open && other != nil {
			e = other
		}
		return 0, e
	}
	length, n, e := readLength(b[1:], d.version == 5)
	if e != nil || n == 0 {
		return 0, e
	}
	total, kind := 1+n+length, int(b[0]>>4)
	switch {
	case kind == typeConnect && total > d.MaxConnect:
		return 0, d.tooLarge(b[1+n:], length)
	case total > d.MaxPacket && d.open:
		return 0, errTooLarge
	case kind == typePublish:
		var p Publish
		return d.publish(b, &p)
	case total > len(b):
		return 0, nil
	}
	if e := d.body(kind, &cursor{b: b[1+n : total]}); e != nil {
		return 0, e
	}
	if kind == typeConnect {
		if _, _, e := readLength(b[1:], d.version == 5); e != nil { // known only now
			return 0, e
		}
	}
	d.open, d.ended = true, kind == typeDisconnect
	return total, nil
}

// clearDup clears the DUP flag of an MQTT 3.1 packet that may have it.
func clearDup(b []byte) {
	switch b[0] >> 4 {
	case typePubrel, typeSubscribe, typeUnsubscribe:
		b[0] &^= 8
	}
}

// first checks the first byte of a packet: may it come now, from a client?
func (d *Decoder) first(b byte) *Error {
	kind, flags := b>>4, b&15
	switch {
	case !d.open && kind != typeConnect:
		return errFirstPacket
	case d.open && kind == typeConnect:
		return errSecondConnect
	}
	switch kind {
	case 0:
		return errReservedType
	case typeConnack, typeSuback, typeUnsuback, typePingresp:
		return errServerOnly
	case typeAuth:
		if d.version != 5 {
			return errReservedType
		}
		return errAuth
	case typePublish:
		return publishFlags(b)
	case typePubrel, typeSubscribe, typeUnsubscribe:
		if flags != 2 {
			return errFlags
		}
	default:
		if flags != 0 {
			return errFlags
		}
	}
	return nil
}

// tooLarge refuses a CONNECT as soon as its version tells in which form.
func (d *Decoder) tooLarge(body []byte, length int) *Error {
	const prefix = 2 + len("MQIsdp") + 1
	if len(body) < min(prefix, length) {
		return nil
	}
	c := cursor{b: body}
	d.version = c.version()
	return errTooLarge
}

// publish checks the head of a PUBLISH, which passes as soon as it is whole.
func (d *Decoder) publish(b []byte, p *Publish) (int, *Error) {
	if err := ReadPublish(b, d.version, p); err != nil {
		e, _ := errors.AsType[*Error](err)
		return 0, e // nil: ErrShort
	}
	if p.TopicAlias > d.TopicAlias {
		return 0, errAliasInvalid
	}
	if p.TopicAlias > 0 {
		bit := uint64(1) << (p.TopicAlias - 1)
		if len(p.Topic) == 0 && d.aliases&bit == 0 {
			return 0, errAliasUnknown
		}
		d.aliases |= bit
	}
	d.payload = p.Length - p.Head
	return p.Head, nil
}

// body checks what lies behind the fixed header of a whole packet.
func (d *Decoder) body(kind int, c *cursor) *Error {
	switch kind {
	case typeConnect:
		return d.connect(c)
	case typePuback, typePubrec, typePubrel, typePubcomp:
		return c.acknowledgement(kind, d.version)
	case typeSubscribe:
		return c.subscribe(d.version)
	case typeUnsubscribe:
		return c.unsubscribe(d.version)
	case typeDisconnect:
		return d.disconnect(c)
	}
	return c.end() // PINGREQ
}
