package mochi

import (
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// inherit drops what a session has inherited from an earlier connection and its
// client may not receive now: the library asks for permission when a message is
// queued, of who was connected then, and never again.
func (s *Server) inherit(cl *mochi.Client) {
	x := sessionOf(cl)
	if x == nil {
		return
	}
	for _, pk := range cl.State.Inflight.GetAll(false) {
		if pk.FixedHeader.Type == packets.Publish && !x.MaySubscribe(pk.TopicName) {
			s.waitsNoMore(cl, pk.PacketID)
		}
	}
	for filter := range cl.State.Subscriptions.GetAll() {
		if !x.MaySubscribe(filter) {
			x.RefusedSubscription(filter)
			if s.mqtt.Topics.Unsubscribe(filter, cl.ID) {
				atomic.AddInt64(&s.mqtt.Info.Subscriptions, -1)
			}
			cl.State.Subscriptions.Delete(filter)
			s.keep.unsubscribed(cl, packets.Subscriptions{{Filter: filter}})
		}
	}
}

// waitsNoMore forgets a message that waits for a client, in memory and on disk.
func (s *Server) waitsNoMore(cl *mochi.Client, id uint16) {
	if cl.State.Inflight.Delete(id) {
		atomic.AddInt64(&s.mqtt.Info.Inflight, -1)
		s.keep.settled(cl, id)
	}
}
