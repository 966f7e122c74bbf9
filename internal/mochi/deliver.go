package mochi

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// publish gives a message to the subscribers, but for its publisher's that want nothing of their own, and keeps it if it is to be
// retained. by: the publisher's client identifier; empty: the server.
func (s *Server) publish(pk packets.Packet, by string) error {
	if pk.PacketID = 0; pk.FixedHeader.Qos > 0 {
		pk.PacketID = 1 // it is valid with one only, and each subscriber gets another
	}
	pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = 0, false
	if code := pk.PublishValidate(0); code != packets.CodeSuccess {
		return code
	}
	pk.ProtocolVersion = 5 // else it does not expire
	pk.Created, pk.Origin = time.Now().Unix(), by
	if i := pk.Properties.MessageExpiryInterval; i > 0 {
		pk.Expiry = pk.Created + int64(i)
	}
	if pk.FixedHeader.Retain {
		s.retain(&pk)
	}
	subscribers := s.mqtt.Topics.Subscribers(pk.TopicName)
	if len(subscribers.Shared) > 0 {
		subscribers.SelectShared()
		subscribers.MergeSharedSelected()
	}
	for id, sub := range subscribers.Subscriptions {
		if cl, ok := s.mqtt.Clients.Get(id); ok {
			s.send(cl, sub, &pk, (*conn).send)
		}
	}
	return nil
}

// retain keeps a message for later subscribers. Of several for one topic the same is the last in memory and on disk.
func (s *Server) retain(pk *packets.Packet) {
	kept := pk.Copy(false)
	kept.TopicName = strings.Clone(pk.TopicName) // it may be a part of the packet that it came in
	s.retaining.Lock()
	defer s.retaining.Unlock()
	s.mqtt.Topics.RetainMessage(kept)
	s.clock.retain(pk)
	s.keep.retained(pk)
	atomic.StoreInt64(&s.mqtt.Info.Retained, int64(s.mqtt.Topics.Retained.Len()))
}

// send has a message sent to a client that subscribes to its topic, for which it is put into the client's queue. It waits for nobody.
func (s *Server) send(cl *mochi.Client, sub packets.Subscription, pk *packets.Packet, put func(*conn, *packets.Packet) bool) {
	if sub.NoLocal && pk.Origin == cl.ID || !s.mayReceive(cl, pk.TopicName) { // [MQTT-3.8.3-3]
		return
	}
	out := shared(pk)
	if !sub.FwdRetainedFlag && (cl.Properties.ProtocolVersion < 5 || !sub.RetainAsPublished) {
		out.FixedHeader.Retain = false // [MQTT-3.3.1-12]
	}
	for _, id := range sub.Identifiers {
		out.Properties.SubscriptionIdentifier = append(out.Properties.SubscriptionIdentifier, id) // [MQTT-3.3.4-3]
	}
	slices.Sort(out.Properties.SubscriptionIdentifier)
	out.FixedHeader.Qos = min(out.FixedHeader.Qos, sub.Qos)
	c, _ := cl.Net.Conn.(*conn) // nil: the session was restored, and has had no connection
	if out.FixedHeader.Qos > 0 && !s.number(cl, c, &out) || c == nil || cl.Closed() {
		return
	}
	if !put(c, &out) {
		atomic.AddInt64(&s.mqtt.Info.MessagesDropped, 1)
		s.complete(cl, &out)
	}
}

// shared is a copy of a message for one subscriber; all have the payload together, in which nobody writes.
func shared(pk *packets.Packet) packets.Packet {
	bare := *pk
	bare.Payload = nil
	out := bare.Copy(false)
	out.Payload = pk.Payload
	return out
}

// mayReceive says whether a client may have what is published on a topic.
func (s *Server) mayReceive(cl *mochi.Client, topic string) (ok bool) {
	defer s.endOnPanic(cl)
	x := sessionOf(cl)
	return x == nil || x.MaySubscribe(topic)
}
