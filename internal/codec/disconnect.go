package codec

import (
	"bytes"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Disconnect is the DISCONNECT with which a server ends the connection of an MQTT 5 client (section 3.14).
func Disconnect(code byte, reason string) []byte {
	var b bytes.Buffer
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}, ProtocolVersion: 5, ReasonCode: code}
	pk.Properties.ReasonString = reason
	if pk.DisconnectEncode(&b) != nil {
		return []byte{packets.Disconnect << 4, 1, code}
	}
	return b.Bytes()
}
