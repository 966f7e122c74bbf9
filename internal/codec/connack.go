package codec

import (
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/broker"
	"eproxy/internal/mqtt"
)

// Refusal is the CONNACK with a reason code of MQTT 5, or the nearest return code
// of MQTT 3.1.1 (section 3.2.2.3).
func Refusal(version, code byte) []byte {
	if version == 5 {
		return []byte{packets.Connack << 4, 3, 0, code, 0}
	}
	old := byte(5) // not authorized
	switch code {
	case broker.CodeBadCredentials:
		old = 4
	case broker.CodeBusy, broker.CodeQuotaExceeded, broker.CodeUnavailable:
		old = 3
	}
	return []byte{packets.Connack << 4, 2, 0, old}
}

// Violation is the CONNACK that refuses a CONNECT; empty where there is none to
// send [MQTT-3.1.4-1 of MQTT 3.1.1].
func Violation(version byte, e *mqtt.Error) []byte {
	switch {
	case version == 5:
		return []byte{packets.Connack << 4, 3, 0, e.Code, 0}
	case e.Connack != 0:
		return []byte{packets.Connack << 4, 2, 0, e.Connack}
	}
	return nil
}
