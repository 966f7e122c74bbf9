// Package codec is between eproxy's own messages and the packets of the library mochi-mqtt, and writes the few
// packets that need no library. What it reads was checked by internal/mqtt before.
package codec

import (
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/request"
)

// Message is a PUBLISH as eproxy has messages.
func Message(pk *packets.Packet) *request.Message {
	m := &request.Message{
		Topic: pk.TopicName, Payload: pk.Payload, QoS: pk.FixedHeader.Qos,
		Retain: pk.FixedHeader.Retain, Dup: pk.FixedHeader.Dup, PacketID: pk.PacketID,
	}
	setProperties(m, &pk.Properties)
	return m
}

func setProperties(m *request.Message, p *packets.Properties) {
	m.ContentType, m.ResponseTopic, m.CorrelationData = p.ContentType, p.ResponseTopic, p.CorrelationData
	m.MessageExpiry = p.MessageExpiryInterval
	if p.PayloadFormatFlag {
		m.PayloadFormat = p.PayloadFormat
	}
	for _, u := range p.User {
		m.UserProperties = append(m.UserProperties, request.UserProperty{Name: u.Key, Value: u.Val})
	}
}

// Packet is a message as the library has them, without a packet identifier.
func Packet(m *request.Message) packets.Packet {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: m.QoS, Retain: m.Retain},
		TopicName:   m.Topic,
		Payload:     m.Payload,
		Properties: packets.Properties{
			ContentType: m.ContentType, ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData,
			MessageExpiryInterval: m.MessageExpiry, PayloadFormat: m.PayloadFormat, PayloadFormatFlag: m.PayloadFormat != 0,
		},
	}
	for _, u := range m.UserProperties {
		pk.Properties.User = append(pk.Properties.User, packets.UserProperty{Key: u.Name, Val: u.Value})
	}
	return pk
}
