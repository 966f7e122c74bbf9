package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// MQTT makes devices that publish QoS 1 messages (MQTT 3.1.1), or groups of QoS 0
// messages with one of QoS 1 at their end, whose PUBACK answers all of them.
type MQTT struct {
	Dial    func(ctx context.Context) (net.Conn, error)
	Topic   func(device int) string
	Payload int  // bytes
	Stamp   bool // payloads of QoS 1 begin with the time of sending
	Group   int  // messages; 0, 1: all have QoS 1. 60000 is a multiple of it

	Subscribe string // filter that each device subscribes to with QoS 0; empty: none
	Pushes    int    // messages of it that a device must receive before it is done
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
	if m.Subscribe != "" {
		if err := subscribe(c, m.Subscribe); err != nil {
			c.Close()
			return nil, err
		}
	}
	message, at := publish(m.Topic(i), 1, m.Payload)
	qos0, _ := publish(m.Topic(i), 0, m.Payload)
	conn := &mqttConn{Conn: c, group: max(m.Group, 1), qos0: qos0, message: message, id: at, buf: make([]byte, 4096)}
	conn.awaited.Store(int64(m.Pushes))
	if m.Stamp {
		conn.stamped = message[len(message)-m.Payload:]
	}
	return conn, nil
}

func subscribe(c net.Conn, filter string) error {
	b := append([]byte{0x82, byte(5 + len(filter)), 0, 1, 0, byte(len(filter))}, filter...)
	if _, err := c.Write(append(b, 0)); err != nil {
		return err
	}
	ack := make([]byte, 5)
	if _, err := io.ReadFull(c, ack); err != nil || ack[0] != 0x90 || ack[4] != 0 {
		return fmt.Errorf("SUBACK %x: %w", ack, errors.Join(err, errors.New("refused")))
	}
	return nil
}

// Push publishes QoS 0 messages to the topic of device -1, one each gap.
func (m MQTT) Push(ctx context.Context, messages int, gap time.Duration) error {
	c, err := m.Open(ctx, -1)
	if err != nil {
		return err
	}
	defer c.Close()
	b, _ := publish(m.Topic(-1), 0, m.Payload)
	tick := time.NewTicker(gap)
	defer tick.Stop()
	for range messages {
		if _, err := c.(*mqttConn).Write(b); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// publish is a PUBLISH without its packet identifier, and the place for it, if
// the QoS is 1.
func publish(topic string, qos byte, payload int) (b []byte, id int) {
	n := 2 + len(topic) + 2*int(qos) + payload
	b = []byte{0x30 | qos<<1}
	for n > 127 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	b = append(b, byte(n), 0, byte(len(topic)))
	b = append(b, topic...)
	id = len(b)
	b = append(b, make([]byte, 2*qos)...)
	for i := range payload {
		b = append(b, 'a'+byte(i%26))
	}
	return b, id
}

type mqttConn struct {
	net.Conn
	group   int
	qos0    []byte
	message []byte // of QoS 1
	id      int    // offset of the packet identifier
	stamped []byte // the payload of QoS 1, if it has the time of sending
	buf     []byte
	have    int
	next    int // responses so far
	ids     []int
	awaited atomic.Int64 // messages that have yet to come
}

// Send publishes message n; its packet identifier is n modulo 60000, plus one.
func (c *mqttConn) Send(n int) error {
	if n%c.group != c.group-1 {
		_, err := c.Write(c.qos0)
		return err
	}
	binary.BigEndian.PutUint16(c.message[c.id:], uint16(n%60000+1))
	if c.stamped != nil {
		putStamp(c.stamped)
	}
	_, err := c.Write(c.message)
	return err
}

// Receive reads PUBACKs, and messages, which are counted. PUBACKs come in any order; which message each ends
// follows from its identifier, near the number of responses so far.
func (c *mqttConn) Receive() ([]int, error) {
	n, err := c.Read(c.buf[c.have:])
	c.have += n
	c.ids = c.ids[:0]
	at := 0
	for {
		p := c.buf[at:c.have]
		length, whole := packetLength(p)
		if !whole {
			break
		}
		switch {
		case p[0] == 0x40 && length == 4:
			id := int(binary.BigEndian.Uint16(p[2:])) - 1
			last := near(id, c.next)
			for n := last - c.group + 1; n <= last; n++ {
				c.ids = append(c.ids, n)
			}
			c.next += c.group
		case p[0] == 0x30:
			c.awaited.Add(-1)
		default:
			return c.ids, fmt.Errorf("neither PUBACK nor PUBLISH: %x", p[:min(len(p), 4)])
		}
		at += length
	}
	c.have = copy(c.buf, c.buf[at:c.have])
	return c.ids, err
}

// Done says whether all messages came that are not responses.
func (c *mqttConn) Done() bool { return c.awaited.Load() <= 0 }

// packetLength is the length of the first MQTT packet in b, if it is whole (MQTT 3.1.1
// section 2.2.3).
func packetLength(b []byte) (n int, whole bool) {
	for i := 1; i < len(b); i++ {
		n |= int(b[i]&0x7f) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			n += i + 1
			return n, len(b) >= n
		}
	}
	return 0, false
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
