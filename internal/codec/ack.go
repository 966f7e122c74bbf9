package codec

import "github.com/mochi-mqtt/server/v2/packets"

// AppendPuback appends a PUBACK. A reason code is left out where it may be (MQTT 5 section 3.4.2.1).
func AppendPuback(dst []byte, version byte, id uint16, code byte) []byte {
	return AppendAck(dst, packets.Puback, version, id, code)
}

// AppendAck appends a PUBACK, PUBREC or PUBCOMP; only the two first have reason codes that are written.
func AppendAck(dst []byte, kind, version byte, id uint16, code byte) []byte {
	if version == 5 && code >= packets.ErrUnspecifiedError.Code {
		return append(dst, kind<<4, 3, byte(id>>8), byte(id), code)
	}
	return append(dst, kind<<4, 2, byte(id>>8), byte(id))
}
