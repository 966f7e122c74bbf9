package mqtt

import (
	"bytes"
	"unicode/utf8"

	"eproxy/internal/topic"
)

// cursor reads the fields of a packet one after the other. The first thing that
// is wrong stays in err, and nothing can be read any more.
type cursor struct {
	b   []byte // what is left
	err *Error
}

func (c *cursor) fail(e *Error) {
	if c.err == nil {
		c.err = e
	}
	c.b = nil
}

// check fails with e if something is wrong.
func (c *cursor) check(ok bool, e *Error) {
	if !ok {
		c.fail(e)
	}
}

// take returns the next n bytes, or nil.
func (c *cursor) take(n int) []byte {
	if n > len(c.b) {
		c.fail(errTruncated)
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) u8() byte {
	if v := c.take(1); v != nil {
		return v[0]
	}
	return 0
}

// u16 reads a two byte integer (MQTT 5 section 1.5.2).
func (c *cursor) u16() uint16 {
	if v := c.take(2); v != nil {
		return uint16(v[0])<<8 | uint16(v[1])
	}
	return 0
}

// u32 reads a four byte integer (section 1.5.3).
func (c *cursor) u32() uint32 { return uint32(c.u16())<<16 | uint32(c.u16()) }

// varint reads a variable byte integer (section 1.5.5).
func (c *cursor) varint() int {
	v, n, e := readLength(c.b, true)
	switch {
	case e != nil:
		c.fail(e)
	case n == 0:
		c.fail(errTruncated)
	default:
		c.b = c.b[n:]
	}
	return v
}

// binary reads binary data (section 1.5.6).
func (c *cursor) binary() []byte { return c.take(int(c.u16())) }

// text reads a UTF-8 encoded string (section 1.5.4; MQTT 3.1.1 section 1.5.3).
func (c *cursor) text() []byte {
	v := c.binary()
	c.check(utf8.Valid(v), errUTF8) // refuses surrogates and overlong forms too
	c.check(bytes.IndexByte(v, 0) < 0, errNUL)
	return v
}

// name reads a topic name.
func (c *cursor) name() {
	v := c.binary()
	if c.err == nil {
		c.checkError(nameError(topic.ValidateName(v)))
	}
}

// filter reads a topic filter.
func (c *cursor) filter() []byte {
	v := c.binary()
	if c.err == nil {
		c.checkError(filterError(topic.ValidateFilter(v)))
	}
	return v
}

func (c *cursor) checkError(e *Error) {
	if e != nil {
		c.fail(e)
	}
}

// packetID reads a packet identifier, which is never 0.
func (c *cursor) packetID() uint16 {
	id := c.u16()
	c.check(id != 0, errPacketID)
	return id
}

// end returns what was wrong, bytes that are left over included.
func (c *cursor) end() *Error {
	c.check(len(c.b) == 0, errTrailing)
	return c.err
}

// readLength reads a variable byte integer (MQTT 5 section 1.5.5; 3.1.1 section
// 2.2.3) and returns it with the number of its bytes, 0 if it goes on behind b.
// minimal demands the shortest encoding [MQTT-1.5.5-1].
func readLength(b []byte, minimal bool) (value, n int, e *Error) {
	for n < 4 {
		if n == len(b) {
			return 0, 0, nil
		}
		c := b[n]
		value += int(c&0x7f) << (7 * n)
		n++
		if c < 0x80 {
			if minimal && n > 1 && c == 0 {
				return 0, 0, errLengthMinimal
			}
			return value, n, nil
		}
	}
	return 0, 0, errLengthLong
}
