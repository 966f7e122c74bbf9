package mqtt

import "eproxy/internal/topic"

// Publish is the head of a PUBLISH packet (MQTT 3.1.1 section 3.3, MQTT 5 section 3.3).
type Publish struct {
	Dup, Retain bool
	QoS         byte   // 0 to 2
	Topic       []byte // empty only in MQTT 5, with a topic alias
	PacketID    uint16 // 0 for QoS 0
	Properties  []byte // MQTT 5: without their length; they are valid
	TopicAlias  uint16 // 0: none
	Head        int    // bytes up to the payload
	Length      int    // bytes of the whole packet
}

// ReadPublish reads the head of the PUBLISH at the beginning of b for a protocol
// version 3, 4 or 5; its payload need not be there. The result is nil, ErrShort,
// ErrNotPublish, or an *Error. Topic and Properties are parts of b.
func ReadPublish(b []byte, version byte, p *Publish) error {
	if len(b) == 0 {
		return ErrShort
	}
	if b[0]>>4 != typePublish {
		return ErrNotPublish
	}
	if e := publishFlags(b[0]); e != nil {
		return e
	}
	length, n, e := readLength(b[1:], version == 5)
	if e != nil {
		return e
	}
	if n == 0 {
		return ErrShort
	}
	*p = Publish{Dup: b[0]&8 != 0, QoS: b[0] >> 1 & 3, Retain: b[0]&1 != 0, Length: 1 + n + length}
	head, err := publishHead(b[1+n:min(p.Length, len(b))], length, version, p.QoS > 0)
	if err != nil {
		return err
	}
	p.Head = 1 + n + head
	if e := p.fields(b[1+n:p.Head], version); e != nil {
		return e
	}
	return nil
}

func publishFlags(first byte) *Error {
	switch qos := first >> 1 & 3; {
	case qos == 3:
		return errQoS
	case qos == 0 && first&8 != 0:
		return errDup
	}
	return nil
}

// publishHead is how many bytes of a PUBLISH lie between the fixed header and the
// payload, with as much of them as is at hand in body. remaining is the packet's
// Remaining Length. The result is ErrShort until all of them are there.
func publishHead(body []byte, remaining int, version byte, id bool) (int, error) {
	head := 2
	if id {
		head += 2
	}
	if remaining < head {
		return 0, errTruncated
	}
	if len(body) < 2 {
		return 0, ErrShort
	}
	if head += int(body[0])<<8 | int(body[1]); head > remaining {
		return 0, errTruncated
	}
	if version == 5 {
		length, n, e := readLength(body[min(head, len(body)):], true)
		switch {
		case e != nil:
			return 0, e
		case n == 0 && len(body) == remaining:
			return 0, errTruncated
		case n == 0:
			return 0, ErrShort
		}
		if head += n + length; head > remaining {
			return 0, errTruncated
		}
	}
	if head > len(body) {
		return 0, ErrShort
	}
	return head, nil
}

// fields reads what lies between the fixed header and the payload.
func (p *Publish) fields(head []byte, version byte) *Error {
	c := cursor{b: head}
	p.Topic = c.binary()
	if p.QoS > 0 {
		p.PacketID = c.packetID()
	}
	if version == 5 {
		props := c.properties(in(typePublish))
		p.Properties, p.TopicAlias = props.raw, props.topicAlias
		c.check(!props.has(propSubscriptionID), errSubscriptionID)
	}
	if p.TopicAlias == 0 || len(p.Topic) > 0 {
		c.checkError(nameError(topic.ValidateName(p.Topic)))
	}
	return c.end()
}
