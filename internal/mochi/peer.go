package mochi

import (
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
)

// peer is a client's connection as the broker sees it.
type peer struct {
	s    *Server
	cl   *mqtt.Client
	conn *conn
}

var _ broker.Peer = (*peer)(nil)

// Acknowledge writes PUBACK, or PUBREC for QoS 2.
func (p *peer) Acknowledge(id uint16, qos, code byte) error {
	ack := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Puback},
		PacketID:    id,
		ReasonCode:  code,
		Created:     time.Now().Unix(),
	}
	if qos == 2 {
		ack.FixedHeader.Type = packets.Pubrec
		if code < packets.ErrUnspecifiedError.Code {
			// PUBREL finds it here; a repetition of the PUBLISH too.
			p.cl.State.Inflight.DecreaseReceiveQuota()
			p.cl.State.Inflight.Set(ack)
		}
	}
	return p.cl.WritePacket(ack)
}

// Disconnect ends the connection; an MQTT 5 client gets DISCONNECT before.
func (p *peer) Disconnect(code byte, reason string) {
	_ = p.s.mqtt.DisconnectClient(p.cl, packets.Code{Code: code, Reason: reason})
}

// Abort ends the connection with RST.
func (p *peer) Abort() { p.conn.abort() }

// Closed says whether the connection has ended.
func (p *peer) Closed() bool { return p.cl.Closed() }
