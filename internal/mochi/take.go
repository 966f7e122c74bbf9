package mochi

import (
	"bytes"
	"sync/atomic"
	"time"

	"eproxy/internal/mqtt"
	"eproxy/internal/request"
)

// take hands a PUBLISH to the broker without the library, if it is a routed one and the library has no part
// in it; false: the library gets it. Everything before it the library has done with.
func (c *conn) take(p *mqtt.Publish, packet []byte) bool {
	x := c.session.Load()
	switch {
	case x == nil || !c.running.Load() || c.client.Closed():
		return false
	case p.QoS > 1 || p.Retain || len(p.Properties) > 0: // what the library keeps, or reads
		return false
	case c.client.State.Inflight.Len() > 0: // and where it may know the packet identifier
		return false
	}
	if string(p.Topic) != c.topic {
		c.topic = string(p.Topic)
	}
	if !x.Routed(c.topic) {
		return false
	}
	m := &request.Message{Topic: c.topic, Payload: bytes.Clone(packet[p.Head:]), QoS: p.QoS, Dup: p.Dup, PacketID: p.PacketID}
	if c.server.broker.Publish(x, m) {
		return false // a reload came in between
	}
	c.heard = time.Now()
	info := c.server.mqtt.Info
	atomic.AddInt64(&info.BytesReceived, int64(p.Length))
	atomic.AddInt64(&info.PacketsReceived, 1)
	atomic.AddInt64(&info.MessagesReceived, 1)
	return true
}
