package mochi

import (
	"errors"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
)

// errFull: there is no room on disk for what would have to be kept.
var errFull = errors.New("persistence.bytes are used up")

// ordinary lets the library have a message that is not routed, if there is room for what has to be kept of it.
func (s *Server) ordinary(cl *mochi.Client, x *broker.Session, pk packets.Packet) (packets.Packet, error) {
	if (pk.FixedHeader.Qos > 0 || pk.FixedHeader.Retain) && s.keep.full() {
		s.broker.Refused("persistence_full", "message refused: there is no room on disk for it", x.Remote, "client", x.ClientID, "topic", pk.TopicName)
		if pk.FixedHeader.Qos > 0 {
			s.refuseFull(cl, x, &pk)
			return pk, packets.ErrRejectPacket
		}
		pk.FixedHeader.Retain = false
	}
	if c, ok := cl.Net.Conn.(*conn); ok && pk.FixedHeader.Qos > 0 {
		c.publishing.Store(publishing(c.real(pk.PacketID)))
		if c.exactly = pk.FixedHeader.Qos == 2; c.exactly {
			s.keep.publish()
		}
	}
	return pk, nil
}

// refuseFull says no to a message; MQTT 3.1.1 can only disconnect (section 3.3.5).
func (s *Server) refuseFull(cl *mochi.Client, x *broker.Session, pk *packets.Packet) {
	p := &peer{s: s, cl: cl, conn: cl.Net.Conn.(*conn)}
	if cl.Properties.ProtocolVersion == 5 {
		_ = p.Acknowledge(p.conn.real(pk.PacketID), pk.FixedHeader.Qos, broker.CodeQuotaExceeded, nil)
		return
	}
	x.Stop()
	p.Disconnect(broker.CodeQuotaExceeded, errFull.Error())
}
