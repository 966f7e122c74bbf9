package samples

import "strings"

// Packet makes a packet: its first byte, its remaining length and its fields.
func Packet(first byte, fields ...string) string {
	body := strings.Join(fields, "")
	return string([]byte{first}) + VarInt(len(body)) + body
}

// VarInt is a variable byte integer.
func VarInt(n int) string {
	var b []byte
	for {
		c := byte(n & 0x7f)
		if n >>= 7; n == 0 {
			return string(append(b, c))
		}
		b = append(b, c|0x80)
	}
}

// String is a string or binary data with its length.
func String(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }

// Properties are properties with their length.
func Properties(p ...string) string {
	all := strings.Join(p, "")
	return VarInt(len(all)) + all
}

// Connect is CONNECT with its Connect Flags; rest is what follows the keep
// alive, properties included.
func Connect(version, flags byte, rest ...string) string {
	name := "MQTT"
	if version&^0x80 == 3 {
		name = "MQIsdp"
	}
	return Packet(0x10, append([]string{String(name), string([]byte{version, flags, 0, 60})}, rest...)...)
}

// Hello is a plain CONNECT.
func Hello(version byte) string {
	if version == 5 {
		return Connect(5, 2, Properties(), String("c"))
	}
	return Connect(version, 2, String("c"))
}
