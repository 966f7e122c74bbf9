package mochi

import (
	"bytes"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// togetherSize is how much is written to a client at once of what waits for it, in bytes, beside the last packet.
const togetherSize = 4 << 10

// begin lets what waits for the client be written: what is to come before it has been.
func (c *conn) begin() {
	if c.out.begin() {
		go c.drain()
	}
}

// send has a message written behind those that wait; false: there are too many.
func (c *conn) send(pk *packets.Packet) bool {
	start, ok := c.out.put(pk, c.server.outgoing)
	if start {
		go c.drain()
	}
	return ok
}

// sendRetained has a retained message written before all that has come since the queue is held; false: there are too many.
func (c *conn) sendRetained(pk *packets.Packet) bool {
	return c.out.putRetained(pk, max(c.server.outgoing, c.server.mqtt.Topics.Retained.Len()))
}

// drain writes what waits for the client.
func (c *conn) drain() {
	defer c.server.endOnPanic(c.client)
	for pk := c.out.next(); pk != nil; pk = c.out.next() {
		_ = c.client.WritePacket(*pk) // what the connection ends with, whoever reads from it sees
	}
	c.client.Lock()
	defer c.client.Unlock()
	_, _ = c.writeTogether(nil) // the last one may have been left out
}

// Write writes whole packets; the library holds the client's lock. While more messages wait, what is written is put together.
// A client that is too slow is disconnected, with RST: half a packet may have been written, so nothing can follow.
func (c *conn) Write(p []byte) (int, error) {
	switch {
	case c.postpone(p):
		return len(p), nil
	case c.server.keep == nil && c.out.more() && len(c.together)+len(p) < togetherSize: // with a disk some wait for that (see postpone)
		c.together = append(c.together, p...)
		return len(p), nil
	}
	return c.writeTogether(p)
}

// writeTogether writes a packet behind what was put together; the client's lock is held.
func (c *conn) writeTogether(p []byte) (int, error) {
	if len(c.together) > 0 {
		b := append(c.together, p...)
		c.together = nil
		n, err := c.write(b)
		return max(0, n-(len(b)-len(p))), err
	}
	if len(p) == 0 {
		return 0, nil
	}
	return c.write(p)
}

// errLeftOut is what the library says of a packet that was left out.
var errLeftOut = packets.ErrNoValidPacketAvailable

// leaveOut has the library not send a packet that it is about to encode.
func leaveOut(pk *packets.Packet) { pk.FixedHeader.Type = packets.Reserved }

// tooLarge says whether a PUBLISH is larger than its client takes: the library finds that out when it is encoded.
func tooLarge(pk packets.Packet) bool {
	if pk.Mods.MaxSize == 0 {
		return false
	}
	var b bytes.Buffer
	return pk.PublishEncode(&b) == nil && uint32(b.Len()) > pk.Mods.MaxSize
}

// complete ends a message that its client is never sent, as if it had been acknowledged [MQTT-3.1.2-25]: it would wait for that for ever, and
// keep one of the places that the session has for messages. It has none in the client's quota.
func (s *Server) complete(cl *mochi.Client, pk *packets.Packet) {
	if pk.FixedHeader.Qos > 0 {
		s.waitsNoMore(cl, pk.PacketID)
	}
}

// waiting says whether a PUBLISH of QoS 1 or 2 still waits for its client: it may have expired since it was put behind others, and its identifier be
// another message's.
func waiting(cl *mochi.Client, pk *packets.Packet) bool {
	m, ok := cl.State.Inflight.Get(pk.PacketID)
	if !ok || m.FixedHeader.Type != packets.Publish || m.TopicName != pk.TopicName || len(m.Payload) != len(pk.Payload) {
		return false
	}
	return len(m.Payload) == 0 || &m.Payload[0] == &pk.Payload[0]
}

// expired says whether a PUBLISH has come to its end before it was first sent [MQTT-3.3.2-5].
func expired(pk *packets.Packet) bool {
	return pk.Expiry > 0 && pk.Expiry < time.Now().Unix() && !pk.FixedHeader.Dup
}
