package mochi

import (
	"fmt"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/codec"
	"eproxy/internal/mqtt"
)

// emptyWill stands for the empty payload of a will, which the library refuses,
// until the library has checked CONNECT.
var emptyWill = []byte{0}

// OnPacketRead sees every packet of a client before the library does anything
// with it, and mends what the library reads wrongly.
func (h *hook) OnPacketRead(cl *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return pk, nil
	}
	switch pk.FixedHeader.Type {
	case packets.Connect:
		return c.connecting(cl, pk), nil
	case packets.Publish:
		c.resolve(&pk)
		h.s.accept(c, pk)
		return done, nil
	case packets.Puback, packets.Pubrec, packets.Pubcomp:
		if m, ok := cl.State.Inflight.Get(pk.PacketID); ok {
			if e := outOfTurn(m, pk); e != nil {
				return pk, fmt.Errorf("%w: %w", packets.ErrRejectPacket, c.refuse(e))
			}
		}
		c.keepStep(cl, pk)
		c.quota.settled(cl, pk)
	case packets.Pubrel:
		return done, c.release(pk.PacketID)
	case packets.Subscribe:
		return done, c.subscribe(&pk)
	case packets.Unsubscribe:
		c.asked, pk.PacketID, pk.FixedHeader.Qos = pk.PacketID, 0, 0 // with a QoS the library wants an identifier
	case packets.Disconnect:
		pk.ReasonCode = c.gate.Reason() // the library does not see it without properties
		c.goodbye(pk)
	}
	return pk, nil
}

// connecting remembers whose connection this is, and changes what is valid in
// CONNECT and the library refuses.
func (c *conn) connecting(cl *mochi.Client, pk packets.Packet) packets.Packet {
	c.client = cl
	c.expiry.Store(pk.Properties.SessionExpiryInterval)
	c.bridge = pk.ProtocolVersion&mqtt.BridgeBit != 0
	pk.ProtocolVersion &^= mqtt.BridgeBit
	pk.ReservedBit = 0 // checked already, and none in MQTT 3.1
	if len(pk.Connect.Password) == 0 {
		pk.Connect.PasswordFlag = false
	}
	if pk.Connect.WillFlag && len(pk.Connect.WillPayload) == 0 {
		pk.Connect.WillPayload = emptyWill
	}
	return pk
}

// goodbye: the client ends its session, with or without its will.
func (c *conn) goodbye(pk packets.Packet) {
	x := c.session.Load()
	if x == nil {
		return
	}
	x.Stop()
	if pk.Properties.SessionExpiryIntervalFlag {
		c.expiry.Store(pk.Properties.SessionExpiryInterval)
		x.SetExpiry(codec.Seconds(pk.Properties.SessionExpiryInterval))
	}
	if pk.ReasonCode != packets.CodeDisconnectWillMessage.Code {
		x.DiscardWill()
	}
	// Who sees the connection end and comes back at once is not to meet the session of this one. Who did not wait for the end has the
	// turn, or waits for it, and for this connection to have been left: that must not wait for the turn.
	c.parted.Store(true)
	if c.turn == nil {
		c.turn = c.server.turns.Try(c.client.ID)
	}
}

// keepStep keeps that a client has received a message of QoS 2, before the library sends PUBREL.
func (c *conn) keepStep(cl *mochi.Client, pk packets.Packet) {
	m, ok := cl.State.Inflight.Get(pk.PacketID)
	if c.server.keep == nil || !ok || pk.FixedHeader.Type != packets.Pubrec || pk.ReasonCode >= packets.ErrUnspecifiedError.Code {
		return
	}
	c.server.keep.message(cl, &packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, ProtocolVersion: pk.ProtocolVersion, PacketID: pk.PacketID, Created: m.Created})
}

// Violations of the exchanges of section 4.3, which the library does not notice.
var (
	errAckQoS = &mqtt.Error{Code: mqtt.CodeProtocolError, Clause: "MQTT-4.3.2-3", Text: "PUBACK for a message of QoS 2"}
	errRecQoS = &mqtt.Error{Code: mqtt.CodeProtocolError, Clause: "MQTT-4.3.3-4", Text: "PUBREC for a message of QoS 1"}
	errComp   = &mqtt.Error{Code: mqtt.CodeProtocolError, Clause: "MQTT-4.3.3-5", Text: "PUBCOMP without PUBREL"}
)

// outOfTurn says whether an acknowledgement of a client's is not the next step of
// the message that it names, m.
func outOfTurn(m, pk packets.Packet) *mqtt.Error {
	published := m.FixedHeader.Type == packets.Publish
	released := m.FixedHeader.Type == packets.Pubrel
	switch pk.FixedHeader.Type {
	case packets.Puback:
		if published && m.FixedHeader.Qos == 2 || released {
			return errAckQoS
		}
	case packets.Pubrec:
		if published && m.FixedHeader.Qos == 1 {
			return errRecQoS
		}
	case packets.Pubcomp:
		if published {
			return errComp
		}
	}
	return nil
}

// OnPacketEncode mends packets that the library sends. What gets the type 0, the
// library does not send.
func (h *hook) OnPacketEncode(cl *mochi.Client, pk packets.Packet) packets.Packet {
	defer h.s.endOnPanic(cl) // who acknowledges may be another client's goroutine
	switch pk.FixedHeader.Type {
	case packets.Publish:
		c, ok := cl.Net.Conn.(*conn)
		switch {
		case ok && c.parted.Load(): // it is for the client's next connection
			leaveOut(&pk)
		case pk.FixedHeader.Qos > 0 && !waiting(cl, &pk):
			leaveOut(&pk)
		case expired(&pk), ok && tooLarge(pk):
			h.s.complete(cl, &pk)
			leaveOut(&pk)
		case ok && pk.FixedHeader.Qos > 0 && !c.quota.admit(cl, pk): // not now
			leaveOut(&pk)
		case pk.FixedHeader.Qos > 0:
			pk.FixedHeader.Dup = sent(cl, pk.PacketID)
		}
	case packets.Unsuback:
		if c, ok := cl.Net.Conn.(*conn); ok {
			pk.PacketID = c.asked
		}
		pk.Properties.User = nil // the client's own
	case packets.Disconnect: // the library would keep it behind what waits, and close
		if x := sessionOf(cl); x != nil {
			x.Stop() // before the client hears of it
		}
		if cl.Properties.ProtocolVersion == 5 { // MQTT 3.1.1 servers send none
			sendDisconnect(cl, pk)
		}
		leaveOut(&pk)
	case packets.Connack:
		if c, ok := cl.Net.Conn.(*conn); ok {
			if pk.ReasonCode == packets.CodeSuccess.Code {
				h.s.keep.begun(cl, pk.SessionPresent)
				h.s.inherit(cl) // after it has become this client's, before it is sent
			}
			c.endTurn()
		}
		if pk.ReasonCode == packets.CodeSuccess.Code { // [MQTT-3.2.2-15]
			h.s.keep.settle(cl)
			pk.Properties.MaximumPacketSize = h.s.mqtt.Options.Capabilities.MaximumPacketSize
			pk.Properties.TopicAliasMaximum = topicAliases
		}
	}
	return pk
}
