package mochi

import (
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/codec"
	"eproxy/internal/pool"
)

// peer is a client's connection as the broker sees it.
type peer struct {
	s    *Server
	cl   *mqtt.Client
	conn *conn
}

var _ broker.Peer = (*peer)(nil)

// acksWaiting is how many bytes of PUBACKs may wait for a client; nothing is read from it beyond.
const acksWaiting = 4 << 10

// Acknowledge writes PUBACK, or PUBREC for QoS 2.
func (p *peer) Acknowledge(id uint16, qos, code byte, b *pool.Batch) error {
	if b != nil && qos == 1 {
		return p.collect(id, code, b)
	}
	ack := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Puback},
		PacketID:    id,
		ReasonCode:  code,
		Created:     time.Now().Unix(),
	}
	if qos == 2 {
		ack.FixedHeader.Type = packets.Pubrec
	}
	return p.cl.WritePacket(ack)
}

// collect has a PUBACK written along with others.
func (p *peer) collect(id uint16, code byte, b *pool.Batch) error {
	err := p.put(id, code)
	if err == nil {
		b.Add(&p.conn.acks)
	}
	return err
}

// put puts a PUBACK behind those that wait to be written.
func (p *peer) put(id uint16, code byte) error {
	var packet [6]byte
	ack := codec.AppendPuback(packet[:0], p.cl.Properties.ProtocolVersion, id, code)
	if most := p.cl.Properties.Props.MaximumPacketSize; most > 0 && len(ack) > int(most) {
		return packets.ErrPacketTooLarge
	}
	if p.s.keep.behind() { // of a message that subscribers have, too
		p.conn.after(ack)
	} else {
		p.conn.acks.Put(ack)
	}
	atomic.AddInt64(&p.s.mqtt.Info.BytesSent, int64(len(ack)))
	atomic.AddInt64(&p.s.mqtt.Info.PacketsSent, 1)
	return nil
}

// collect has PUBACKs for a client written together. The library's lock on the connection keeps whole
// packets whole: it is kept while one is written in part, and Rest gets all of it at once.
func (c *conn) collect(cl *mqtt.Client) {
	locked := false
	c.acks.Try = func(b []byte) (int, error) {
		if locked = cl.TryLock(); !locked { // who has it may wait for the client
			return 0, nil
		}
		n, err := c.try(b)
		if n == len(b) || err != nil {
			cl.Unlock()
		}
		return n, err
	}
	c.acks.Rest = func(b []byte) (int, error) {
		if !locked {
			cl.Lock()
		}
		locked = false
		defer cl.Unlock()
		return c.write(b)
	}
	c.acks.Failed = func(err error) {
		c.server.log.Debug("acknowledgements not written", "client", cl.ID, "error", err)
	}
}

// Disconnect ends the connection; an MQTT 5 client gets DISCONNECT before.
func (p *peer) Disconnect(code byte, reason string) {
	_ = p.s.mqtt.DisconnectClient(p.cl, packets.Code{Code: code, Reason: reason})
}

// Abort ends the connection with RST.
func (p *peer) Abort() { p.conn.abort() }

// Closed says whether the connection has ended.
func (p *peer) Closed() bool { return p.cl.Closed() }
