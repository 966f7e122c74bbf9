package relay

import (
	"bytes"
	"fmt"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/codec"
	"eproxy/internal/mqtt"
)

// welcome is the broker's CONNACK.
type welcome struct {
	packet     []byte        // for the client
	code       byte          // 0: accepted
	present    bool          // the session goes on
	assigned   string        // MQTT 5: the client identifier; empty: the client's own
	keepAlive  time.Duration // MQTT 5: in place of the client's; negative: not named
	aliases    uint16        // MQTT 5: the largest that may be used here
	packetSize int           // MQTT 5: the largest packet in bytes that the broker takes; 0: any
	expiry     time.Duration // MQTT 5: of the session, in place of the client's; negative: not named
}

// readWelcome reads a CONNACK, and limits what it announces to what holds here: packets of at most so many bytes.
func readWelcome(packet []byte, version byte, packetSize int) (*welcome, error) {
	_, total, n, e := mqtt.ReadHeader(packet)
	if e != nil || n == 0 || total != len(packet) || total-n < 2 {
		return nil, fmt.Errorf("CONNACK of %d bytes is malformed", len(packet))
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack, Remaining: total - n}, ProtocolVersion: version}
	if err := pk.ConnackDecode(packet[n:]); err != nil {
		return nil, fmt.Errorf("CONNACK: %w", err)
	}
	w := &welcome{packet: packet, code: pk.ReasonCode, present: pk.SessionPresent, keepAlive: -1, expiry: -1}
	if version != 5 || w.code != 0 {
		return w, nil
	}
	p := &pk.Properties
	w.assigned = p.AssignedClientID
	if p.ServerKeepAliveFlag {
		w.keepAlive = time.Duration(p.ServerKeepAlive) * time.Second
	}
	if p.SessionExpiryIntervalFlag {
		w.expiry = codec.Seconds(p.SessionExpiryInterval)
	}
	w.packetSize = int(p.MaximumPacketSize)
	w.aliases = min(p.TopicAliasMaximum, topicAliases)
	if w.packetSize == 0 || w.packetSize > packetSize || p.TopicAliasMaximum > topicAliases {
		w.packet = w.limited(packet, n, packetSize)
	}
	return w, nil
}

// Identifiers of properties (MQTT 5 section 2.2.2.2).
const (
	propertyAliasMaximum  = 0x22
	propertyPacketMaximum = 0x27
)

// limited is the CONNACK with what holds here in place of what the broker allows; every other byte stays.
func (w *welcome) limited(packet []byte, n, packetSize int) []byte {
	var properties bytes.Buffer
	mqtt.EachProperty(packet[n+2:], func(id byte, whole []byte) {
		if id != propertyAliasMaximum && id != propertyPacketMaximum {
			properties.Write(whole)
		}
	})
	size := uint32(packetSize)
	if w.packetSize > 0 {
		size = min(size, uint32(w.packetSize))
	}
	properties.Write([]byte{propertyPacketMaximum, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)})
	if w.aliases > 0 {
		properties.Write([]byte{propertyAliasMaximum, 0, byte(w.aliases)})
	}
	length := appendLength(nil, properties.Len())
	out := appendLength([]byte{packet[0]}, 2+len(length)+properties.Len())
	out = append(out, packet[n], packet[n+1])
	out = append(out, length...)
	return append(out, properties.Bytes()...)
}
