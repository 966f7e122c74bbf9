package codec

import (
	"fmt"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt"
	"eproxy/internal/request"
)

// Publish reads a whole PUBLISH packet of a client of this MQTT protocol level, which says its topic itself. The message has parts of it.
func Publish(version byte, packet []byte) (*request.Message, error) {
	var p mqtt.Publish
	if err := mqtt.ReadPublish(packet, version, &p); err != nil {
		return nil, err
	}
	if p.Length != len(packet) || len(p.Topic) == 0 {
		return nil, fmt.Errorf("PUBLISH of %d bytes with a topic of %d in %d", p.Length, len(p.Topic), len(packet))
	}
	if len(p.Properties) == 0 {
		return &request.Message{Topic: string(p.Topic), Payload: packet[p.Head:], QoS: p.QoS, Retain: p.Retain, Dup: p.Dup, PacketID: p.PacketID}, nil
	}
	pk := packets.Packet{ProtocolVersion: version, FixedHeader: packets.FixedHeader{
		Type: packets.Publish, Dup: p.Dup, Qos: p.QoS, Retain: p.Retain, Remaining: p.Length,
	}}
	_, _, n, _ := mqtt.ReadHeader(packet)
	if err := pk.PublishDecode(packet[n:]); err != nil {
		return nil, err
	}
	return Message(&pk), nil
}
