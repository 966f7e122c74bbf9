package mochi

import (
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
)

// subscribe does all that is to be done with SUBSCRIBE. The library would write retained messages by its own queue.
func (c *conn) subscribe(pk *packets.Packet) error {
	x := c.session.Load()
	if x == nil {
		return nil
	}
	c.out.hold() // SUBACK comes first
	defer c.begin()
	codes := make([]byte, len(pk.Filters))
	for i := range pk.Filters {
		f := &pk.Filters[i]
		if c.bridge { // it expects none of its own messages back, and RETAIN as it was published
			f.NoLocal, f.FwdRetainedFlag = !mochi.IsSharedFilter(f.Filter), true
		}
		var existed bool
		if existed, codes[i] = c.server.enroll(c.client, x, *f); codes[i] < packets.ErrUnspecifiedError.Code {
			c.server.sendRetained(c.client, *f, existed)
		}
	}
	c.server.keep.subscribed(c.client, pk.Filters, codes)
	return c.client.WritePacket(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Suback}, PacketID: pk.PacketID, ReasonCodes: codes}) // [MQTT-3.8.4-1]
}

// enroll enters a subscription, if the client may have it. existed: it has replaced one [MQTT-3.8.4-3]; code is SUBACK's.
func (s *Server) enroll(cl *mochi.Client, x *broker.Session, f packets.Subscription) (existed bool, code byte) {
	switch {
	case !mochi.IsValidFilter(f.Filter, false):
		code = packets.ErrTopicFilterInvalid.Code
	case f.NoLocal && mochi.IsSharedFilter(f.Filter):
		code = packets.ErrProtocolViolationInvalidSharedNoLocal.Code // [MQTT-3.8.3-4]
	case !x.MaySubscribe(f.Filter):
		x.RefusedSubscription(f.Filter)
		code = packets.ErrNotAuthorized.Code
	default:
		if existed = !s.mqtt.Topics.Subscribe(cl.ID, f); !existed {
			atomic.AddInt64(&s.mqtt.Info.Subscriptions, 1)
		}
		cl.State.Subscriptions.Add(f.Filter, f)
		return existed, f.Qos
	}
	if cl.Properties.ProtocolVersion < 5 { // it has one code for all errors
		code = packets.ErrUnspecifiedError.Code
	}
	return false, code
}

// sendRetained sends a client what is retained on the topics of a subscription that it has from now on: later messages of these topics are
// behind, and what is published when it has SUBACK comes once.
func (s *Server) sendRetained(cl *mochi.Client, f packets.Subscription, existed bool) {
	if mochi.IsSharedFilter(f.Filter) || f.RetainHandling == 1 && existed || f.RetainHandling == 2 { // MQTT 5 section 4.8.2, [MQTT-3.3.1-10], [MQTT-3.3.1-11]
		return
	}
	f.FwdRetainedFlag = true // [MQTT-3.3.1-8]
	if f.Identifier > 0 {
		f.Identifiers = map[string]int{f.Filter: f.Identifier}
	}
	for _, pk := range s.mqtt.Topics.Messages(f.Filter) {
		s.send(cl, f, &pk, (*conn).sendRetained)
	}
}
