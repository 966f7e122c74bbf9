package codec

import (
	"net/netip"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/mqtt"
)

// Connect is what a client has said of itself. Its identifier need not be the packet's, which may be empty; the bit of
// a bridge is no part of the version.
func Connect(pk *packets.Packet, clientID string, remote netip.AddrPort) *broker.Connect {
	c := &broker.Connect{
		ClientID: clientID, Username: string(pk.Connect.Username), Password: pk.Connect.Password,
		Version: pk.ProtocolVersion &^ mqtt.BridgeBit, Clean: pk.Connect.Clean, Remote: remote,
		KeepAlive: time.Duration(pk.Connect.Keepalive) * time.Second,
	}
	if pk.Properties.SessionExpiryIntervalFlag {
		c.SessionExpiry = Seconds(pk.Properties.SessionExpiryInterval)
	}
	if pk.Connect.WillFlag {
		w := &broker.Will{Delay: Seconds(pk.Connect.WillProperties.WillDelayInterval)}
		w.Message.Topic, w.Message.Payload = pk.Connect.WillTopic, pk.Connect.WillPayload
		w.Message.QoS, w.Message.Retain, w.Message.Version = pk.Connect.WillQos, pk.Connect.WillRetain, c.Version
		setProperties(&w.Message, &pk.Connect.WillProperties)
		c.Will = w
	}
	return c
}

// Seconds is an interval of MQTT's.
func Seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }
