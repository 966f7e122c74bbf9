// Package mqttref is a small, strict reader of MQTT PUBLISH packets and of
// packet framing. It exists as a reference for the kernel path's parser: it is
// written from the specification, shares nothing with it, and favours clarity
// over speed.
package mqttref

import (
	"errors"
	"unicode/utf8"
)

// Errors of ReadLength and ParsePublish.
var (
	// ErrShort: the packet continues beyond the bytes at hand.
	ErrShort = errors.New("packet is not complete")
	// ErrMalformed: no valid packet begins with these bytes.
	ErrMalformed = errors.New("packet is malformed")
	// ErrNotPublish: another control packet.
	ErrNotPublish = errors.New("packet is not a publish")
)

// Publish is a PUBLISH packet (MQTT 3.1.1 section 3.3, MQTT 5 section 3.3).
type Publish struct {
	Dup, Retain bool
	QoS         byte   // 0 to 2
	Topic       []byte // empty only in MQTT 5 (topic alias)
	PacketID    uint16 // 0 for QoS 0
	Properties  []byte // MQTT 5: without their length; contents are not examined
	Payload     []byte
	Length      int // bytes of the whole packet
}

// ReadLength reads a variable byte integer (MQTT 5 section 1.5.5; 3.1.1
// section 2.2.3) and returns it with the number of its bytes. minimal demands
// the shortest encoding [MQTT-1.5.5-1].
func ReadLength(b []byte, minimal bool) (value, n int, err error) {
	for n < 4 {
		if n == len(b) {
			return 0, 0, ErrShort
		}
		c := b[n]
		value += int(c&0x7f) << (7 * n)
		n++
		if c < 0x80 {
			if minimal && n > 1 && c == 0 {
				return 0, 0, ErrMalformed
			}
			return value, n, nil
		}
	}
	return 0, 0, ErrMalformed
}

// ParsePublish reads the PUBLISH at the beginning of b for a protocol version
// 3, 4 or 5. What follows it in b is ignored.
func ParsePublish(b []byte, version byte) (*Publish, error) {
	if len(b) == 0 {
		return nil, ErrShort
	}
	if b[0]>>4 != 3 {
		return nil, ErrNotPublish
	}
	p := &Publish{Dup: b[0]&8 != 0, QoS: b[0] >> 1 & 3, Retain: b[0]&1 != 0}
	if p.QoS == 3 { // [MQTT-3.3.1-4]
		return nil, ErrMalformed
	}
	if p.Dup && p.QoS == 0 { // [MQTT-3.3.1-2]
		return nil, ErrMalformed
	}
	length, n, err := ReadLength(b[1:], version == 5)
	if err != nil {
		return nil, err
	}
	p.Length = 1 + n + length
	if len(b) < p.Length {
		return nil, ErrShort
	}
	body := b[1+n : p.Length]
	take := func(n int) (v []byte, ok bool) {
		if n > len(body) {
			return nil, false
		}
		v, body = body[:n], body[n:]
		return v, true
	}
	size, ok := take(2)
	if !ok {
		return nil, ErrMalformed
	}
	if p.Topic, ok = take(int(size[0])<<8 | int(size[1])); !ok || !ValidTopic(p.Topic) {
		return nil, ErrMalformed
	}
	if p.QoS > 0 {
		id, ok := take(2)
		if !ok {
			return nil, ErrMalformed
		}
		if p.PacketID = uint16(id[0])<<8 | uint16(id[1]); p.PacketID == 0 { // [MQTT-2.2.1-3]
			return nil, ErrMalformed
		}
	}
	if version == 5 {
		length, n, err := ReadLength(body, true)
		if err != nil {
			return nil, ErrMalformed
		}
		body = body[n:]
		if p.Properties, ok = take(length); !ok {
			return nil, ErrMalformed
		}
	}
	if len(p.Topic) == 0 && (version != 5 || len(p.Properties) == 0) { // [MQTT-4.7.3-1]; else an alias
		return nil, ErrMalformed
	}
	p.Payload = body
	return p, nil
}

// ValidTopic reports whether name could be a topic name as far as its
// characters go: UTF-8 without surrogates, NUL and wildcards [MQTT-1.5.4-1],
// [MQTT-1.5.4-2], [MQTT-3.3.2-2].
func ValidTopic(name []byte) bool {
	if !utf8.Valid(name) { // refuses surrogates and overlong forms too
		return false
	}
	for _, c := range name {
		if c == 0 || c == '+' || c == '#' {
			return false
		}
	}
	return true
}

// Framing follows packet framing over a stream that comes in any pieces.
type Framing struct {
	head []byte // of the packet that has begun
	left int    // bytes of its body still to come
	bad  bool
}

// Write consumes a piece of the stream. It returns ErrMalformed from the
// first byte on that cannot be framing.
func (w *Framing) Write(b []byte) (int, error) {
	for i, c := range b {
		switch {
		case w.bad:
			return i, ErrMalformed
		case w.left > 0:
			w.left--
		default:
			w.head = append(w.head, c)
			if len(w.head) == 1 {
				continue
			}
			n, _, err := ReadLength(w.head[1:], false)
			switch {
			case err == nil:
				w.left, w.head = n, nil
			case errors.Is(err, ErrMalformed):
				w.bad = true
				return i, err
			}
		}
	}
	return len(b), nil
}

// Pending is how far the packet that has begun is: the bytes of its fixed header
// so far, or those of its body still to come.
func (w *Framing) Pending() (head, left int) { return len(w.head), w.left }

// AtBoundary reports whether the next byte begins a packet.
func (w *Framing) AtBoundary() bool { return !w.bad && w.left == 0 && len(w.head) == 0 }
