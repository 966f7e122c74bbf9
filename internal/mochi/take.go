package mochi

import (
	"bytes"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt"
	"eproxy/internal/request"
)

// take does with a PUBLISH that is whole all that is to be done, without the library; false: the library gets it, and accept sees
// what it has read. Everything before it the library has done with.
func (c *conn) take(p *mqtt.Publish, packet []byte) bool {
	x := c.session.Load()
	if x == nil || !c.running.Load() || c.client.Closed() {
		return false
	}
	if len(p.Topic) > 0 && string(p.Topic) != c.topic {
		c.topic = string(p.Topic)
	}
	if p.QoS > 1 || p.Retain || len(p.Properties) > 0 || !x.Routed(c.topic) {
		pk, err := c.read(p, packet)
		if err != nil { // the library says it its way
			return false
		}
		c.server.accept(c, pk)
	} else if m := (&request.Message{Topic: c.topic, Payload: bytes.Clone(packet[p.Head:]), QoS: p.QoS, Dup: p.Dup, PacketID: p.PacketID}); c.server.broker.Publish(x, m) {
		return false // a reload came in between
	}
	c.heard = time.Now()
	info := c.server.mqtt.Info
	atomic.AddInt64(&info.BytesReceived, int64(p.Length))
	atomic.AddInt64(&info.PacketsReceived, 1)
	atomic.AddInt64(&info.MessagesReceived, 1)
	return true
}

// read is a PUBLISH as the library has it.
func (c *conn) read(p *mqtt.Publish, packet []byte) (packets.Packet, error) {
	pk := packets.Packet{ProtocolVersion: c.gate.Version(), FixedHeader: packets.FixedHeader{
		Type: packets.Publish, Dup: p.Dup, Qos: p.QoS, Retain: p.Retain, Remaining: p.Length,
	}}
	if len(p.Properties) == 0 {
		pk.TopicName, pk.PacketID, pk.Payload = c.topic, p.PacketID, bytes.Clone(packet[p.Head:])
		return pk, nil
	}
	_, _, n, _ := mqtt.ReadHeader(packet)
	err := pk.PublishDecode(bytes.Clone(packet[n:]))
	c.resolve(&pk)
	return pk, err
}
