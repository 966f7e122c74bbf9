package mochi

import (
	"errors"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
)

// errFull: there is no room on disk for what would have to be kept.
var errFull = errors.New("persistence.bytes are used up")

// room says whether there is room for what has to be kept of a message that is not routed. What is only to be retained goes to
// the subscribers of now without.
func (s *Server) room(cl *mochi.Client, x *broker.Session, pk *packets.Packet) bool {
	if pk.FixedHeader.Qos == 0 && !pk.FixedHeader.Retain || !s.keep.full() {
		return true
	}
	s.broker.Refused("persistence_full", "message refused: there is no room on disk for it", x.Remote, "client", x.ClientID, "topic", pk.TopicName)
	pk.FixedHeader.Retain = false
	if pk.FixedHeader.Qos > 0 {
		s.refuseFull(cl, x, pk)
	}
	return pk.FixedHeader.Qos == 0
}

// refuseFull says no to a message; MQTT 3.1.1 can only disconnect (section 3.3.5).
func (s *Server) refuseFull(cl *mochi.Client, x *broker.Session, pk *packets.Packet) {
	p := &peer{s: s, cl: cl, conn: cl.Net.Conn.(*conn)}
	if cl.Properties.ProtocolVersion == 5 {
		_ = p.Acknowledge(pk.PacketID, pk.FixedHeader.Qos, broker.CodeQuotaExceeded, nil)
		return
	}
	x.Stop()
	p.Disconnect(broker.CodeQuotaExceeded, errFull.Error())
}
