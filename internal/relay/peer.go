package relay

import (
	"bytes"
	"fmt"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/codec"
	"eproxy/internal/outbox"
	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// peer is a client's connection as the broker of the sessions sees it.
type peer struct{ c *conn }

var _ broker.Peer = (*peer)(nil)

// Acknowledge writes PUBACK, or PUBREC for QoS 2.
func (p *peer) Acknowledge(id uint16, qos, code byte, b *pool.Batch) error {
	c, kind := p.c, packets.Puback
	if qos == 2 {
		kind = packets.Pubrec
		if code < packets.ErrUnspecifiedError.Code {
			c.exchanges.set(id)
		}
	}
	ack := codec.AppendAck(nil, kind, c.version, id, code)
	if c.copies.hold(id, ack) {
		return nil
	}
	if b != nil {
		c.acks.Put(ack)
		b.Add(&c.acks)
		return nil
	}
	c.reply(ack)
	if full := c.acks.Full(acksWaiting); full != nil {
		<-full // or the client is disconnected
	}
	return nil
}

// reply gives the client a packet of the server's own. It does not wait for the client.
func (c *conn) reply(packet []byte) {
	c.acks.Put(packet)
	c.acks.Flush()
}

// collect has acknowledgements for the client written together.
func (c *conn) collect() {
	locked := false
	c.acks.Try = func(b []byte) (int, error) {
		if locked = c.client.mu.TryLock(); !locked { // who has it may wait for the client
			return 0, nil
		}
		n, err := c.try(b)
		if n == len(b) || err != nil {
			c.client.mu.Unlock()
		}
		return n, err
	}
	c.acks.Rest = func(b []byte) (int, error) {
		if !locked {
			c.client.mu.Lock()
		}
		locked = false
		defer c.client.mu.Unlock()
		return c.writeClient(b)
	}
	c.acks.Failed = func(error) { c.close() }
}

// try writes of b what can be written without waiting.
func (c *conn) try(b []byte) (int, error) {
	if c.from.Conn != nil {
		return 0, nil // it may have to wait for any byte of it
	}
	return outbox.Try(c.raw, b)
}

// Settle waits until everything that the client had sent when it was called is done with, or for a second: a client may
// publish, say goodbye, and come back before that is read.
func (p *peer) Settle() {
	c := p.c
	if c.raw == nil || c.closed.Load() {
		return
	}
	t := time.NewTimer(lastWords)
	defer t.Stop()
	select {
	case <-c.progress.Until(c.progress.Read.Load() + uint64(c.unread())):
	case <-t.C:
	}
}

// Disconnect ends the connection; an MQTT 5 client gets DISCONNECT before. The broker sees it end without: it publishes
// the client's will.
func (p *peer) Disconnect(code byte, reason string) { p.c.end(code, reason) }

// Abort ends the connection with RST.
func (p *peer) Abort() { p.c.abort() }

// Broker is the address of the client's broker.
func (p *peer) Broker() string { return p.c.backend.Address }

// Closed says whether the connection has ended.
func (p *peer) Closed() bool { return p.c.closed.Load() }

// publish gives the broker a message on the client's connection: a copy of what the client has published, with its packet
// identifier, or, without one, in the client's name.
func (c *conn) publish(m *request.Message) error {
	pk := codec.Packet(m)
	pk.ProtocolVersion, pk.PacketID, pk.FixedHeader.Dup = c.version, m.PacketID, m.Dup && m.QoS > 0
	var b bytes.Buffer
	if err := pk.PublishEncode(&b); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	if c.packetMax > 0 && b.Len() > c.packetMax {
		return fmt.Errorf("message of %d bytes: the broker takes %d", b.Len(), c.packetMax)
	}
	if m.QoS > 0 {
		c.copies.begin(m.PacketID)
	}
	return c.upstream.packet(b.Bytes())
}
