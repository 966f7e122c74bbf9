package mochi

import (
	"bytes"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"eproxy/internal/mqtt"
)

// togetherSize is how much is written to a client at once of what waits for it, in bytes, beside the last packet.
const togetherSize = 4 << 10

// together is how much the library puts together while more waits for a client. With a disk each packet is written by itself: some wait for
// it (see postpone).
func (s *Server) together() int {
	if s.cfg.Persistence.Dir != "" {
		return 1
	}
	return togetherSize
}

// The library writes what it has put together with the last packet that waits. One that is not to be sent must not be kept from it, therefore:
// in its place goes a PINGREQ, which no server sends, and which is left out when the rest is written.

// nothing makes a packet that the library is about to encode one that is left out.
func (c *conn) nothing(pk *packets.Packet) {
	c.omitted.Add(1)
	*pk = packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}}
}

// tooLarge says whether a PUBLISH is larger than its client takes: the library finds that out when it is encoded.
func tooLarge(pk packets.Packet) bool {
	if pk.Mods.MaxSize == 0 {
		return false
	}
	var b bytes.Buffer
	return pk.PublishEncode(&b) == nil && uint32(b.Len()) > pk.Mods.MaxSize
}

// complete ends a message that its client is never sent, as if it had been acknowledged [MQTT-3.1.2-25]: it would wait for that for ever, and
// keep one of the places that the session has for messages. It has none in the client's quota.
func (s *Server) complete(cl *mochi.Client, pk *packets.Packet) {
	if pk.FixedHeader.Qos > 0 {
		s.waitsNoMore(cl, pk.PacketID)
	}
}

// without is what the library writes, whole packets, without what is to be left out.
func (c *conn) without(p []byte) []byte {
	if c.omitted.Load() == 0 {
		return p
	}
	out := make([]byte, 0, len(p))
	for len(p) > 0 {
		kind, total, n, e := mqtt.ReadHeader(p)
		if e != nil || n == 0 || total > len(p) {
			return append(out, p...)
		}
		if kind == packets.Pingreq {
			c.omitted.Add(-1)
		} else {
			out = append(out, p[:total]...)
		}
		p = p[total:]
	}
	return out
}
