package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// MQTT makes devices that publish QoS 1 messages (MQTT 3.1.1).
type MQTT struct {
	Dial    func(ctx context.Context) (net.Conn, error)
	Topic   func(device int) string
	Payload int // bytes
}

// Open connects device i; a Dialer.
func (m MQTT) Open(ctx context.Context, i int) (Conn, error) {
	c, err := m.Dial(ctx)
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("dev-%d", i)
	connect := []byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, byte(len(id))}
	if _, err := c.Write(append(connect, id...)); err != nil {
		c.Close()
		return nil, err
	}
	ack := make([]byte, 4)
	if _, err := io.ReadFull(c, ack); err != nil || ack[0] != 0x20 || ack[3] != 0 {
		c.Close()
		return nil, fmt.Errorf("CONNACK %x: %w", ack, errors.Join(err, errors.New("refused")))
	}
	message, at := publish(m.Topic(i), m.Payload)
	return &mqttConn{Conn: c, message: message, id: at, buf: make([]byte, 4096)}, nil
}

// publish is a PUBLISH without its packet identifier, and the place for it.
func publish(topic string, payload int) (b []byte, id int) {
	n := 2 + len(topic) + 2 + payload
	b = []byte{0x32}
	for n > 127 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	b = append(b, byte(n), 0, byte(len(topic)))
	b = append(b, topic...)
	id = len(b)
	b = append(b, 0, 0)
	for i := range payload {
		b = append(b, 'a'+byte(i%26))
	}
	return b, id
}

type mqttConn struct {
	net.Conn
	message []byte
	id      int // offset of the packet identifier
	buf     []byte
	have    int
	next    int // responses so far
	ids     []int
}

// Send publishes message n; its packet identifier is n modulo 60000, plus one.
func (c *mqttConn) Send(n int) error {
	binary.BigEndian.PutUint16(c.message[c.id:], uint16(n%60000+1))
	_, err := c.Write(c.message)
	return err
}

// Receive reads PUBACKs. They come in any order; which message each ends
// follows from its identifier, near the number of responses so far.
func (c *mqttConn) Receive() ([]int, error) {
	n, err := c.Read(c.buf[c.have:])
	c.have += n
	c.ids = c.ids[:0]
	at := 0
	for c.have-at >= 4 {
		if c.buf[at] != 0x40 || c.buf[at+1] != 2 {
			return c.ids, fmt.Errorf("not a PUBACK: %x", c.buf[at:at+4])
		}
		id := int(binary.BigEndian.Uint16(c.buf[at+2:])) - 1
		c.ids = append(c.ids, near(id, c.next))
		c.next++
		at += 4
	}
	c.have = copy(c.buf, c.buf[at:c.have])
	return c.ids, err
}

// near is the number with that remainder modulo 60000 that is nearest to n.
func near(id, n int) int {
	base := n - n%60000 + id
	switch {
	case base-n > 30000 && base >= 60000:
		return base - 60000
	case n-base > 30000:
		return base + 60000
	}
	return base
}

// Interrupt ends a waiting Receive.
func (c *mqttConn) Interrupt() { _ = c.SetReadDeadline(time.Unix(1, 0)) }
