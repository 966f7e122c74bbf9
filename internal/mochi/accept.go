package mochi

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/codec"
)

// The library has one map of packet identifiers for a connection, and the two ends of it assign theirs apart (MQTT 5 section 2.2.1): of two
// exchanges with the same one, it would end the other's, or refuse one. So its map is of those of the server's messages to the client alone.
// The client's own exchanges of QoS 1 and 2 are the broker's, and SUBSCRIBE and UNSUBSCRIBE come to the library without identifier, which
// SUBACK and UNSUBACK get back.

// done is what the library gets in place of a packet that is done with: an acknowledgement of nothing.
var done = packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}}

// accept does all that is to be done with a client's PUBLISH, which is valid and has its topic's name.
func (s *Server) accept(c *conn, pk packets.Packet) {
	x := c.session.Load()
	if x == nil {
		return
	}
	p := &peer{s, c.client, c}
	if pk.FixedHeader.Qos == 2 {
		if code, again := x.Repeats(pk.PacketID, pk.FixedHeader.Dup); again { // [MQTT-4.3.3-10]
			_ = p.Acknowledge(pk.PacketID, 2, code, nil)
			return
		}
		if x.Unreleased() {
			p.Disconnect(packets.ErrReceiveMaximum.Code, packets.ErrReceiveMaximum.Reason)
			return
		}
	}
	if !s.broker.Publish(x, codec.Message(&pk)) || !s.room(c.client, x, &pk) {
		return
	}
	s.ordinary(p, x, pk)
}

// ordinary gives a message that is not routed to the subscribers, and acknowledges it.
func (s *Server) ordinary(p *peer, x *broker.Session, pk packets.Packet) {
	give := func() {
		if err := s.publish(pk, x.ClientID); err != nil {
			s.log.Warn("publish to subscribers", "topic", pk.TopicName, "error", err)
		}
	}
	switch pk.FixedHeader.Qos {
	case 0:
		give()
		return
	case 1:
		give()
		_ = p.put(pk.PacketID, broker.CodeSuccess) // flush writes it, with others
	default:
		x.Receive(pk.PacketID, give)
		_ = p.Acknowledge(pk.PacketID, 2, broker.CodeSuccess, nil)
	}
}

// release ends the exchange of a message of QoS 2 from the client.
func (c *conn) release(id uint16) error {
	x := c.session.Load()
	if x == nil {
		return nil
	}
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubcomp}, PacketID: id}
	if !x.Released(id) {
		ack.ReasonCode = packets.ErrPacketIdentifierNotFound.Code
	}
	return c.client.WritePacket(ack)
}

// resolve gives a PUBLISH the name of its topic where it has an alias, which the kernel path is told of.
func (c *conn) resolve(pk *packets.Packet) {
	if !pk.Properties.TopicAliasFlag {
		return
	}
	pk.TopicName = strings.Clone(pk.TopicName) // a part of the packet, all of which the table would keep
	pk.TopicName = c.client.State.TopicAliases.Inbound.Set(pk.Properties.TopicAlias, pk.TopicName)
	if x := c.session.Load(); x != nil {
		x.Alias(pk.Properties.TopicAlias, pk.TopicName)
	}
}
