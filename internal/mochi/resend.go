package mochi

import (
	"cmp"
	"errors"
	"slices"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// inOrder sorts messages by when they came.
func inOrder(all []packets.Packet) {
	slices.SortFunc(all, func(a, b packets.Packet) int {
		if c := cmp.Compare(a.Created, b.Created); c != 0 {
			return c
		}
		return cmp.Compare(int16(a.PacketID-b.PacketID), 0) // they begin anew behind 65,535
	})
}

// resend writes what waits for a client that has come back [MQTT-4.4.0-1].
func (s *Server) resend(c *conn) error {
	for _, m := range s.resume(c) {
		if err := c.client.WritePacket(m); err != nil && !errors.Is(err, errLeftOut) {
			return err
		}
	}
	return nil
}

// sent notes that a message is sent to its client, and says whether it has been before: then, and only then, it has DUP [MQTT-3.3.1-3].
func sent(cl *mochi.Client, id uint16) (before bool) {
	m, ok := cl.State.Inflight.Get(id)
	if !ok || m.FixedHeader.Type != packets.Publish || m.FixedHeader.Dup {
		return ok && m.FixedHeader.Dup
	}
	m.FixedHeader.Dup = true
	if m.FixedHeader.Qos == 2 {
		m.Expiry = 0 // its exchange is completed [MQTT-4.3.3-7]
	}
	if cl.State.Inflight.Set(m) { // it has just expired
		cl.State.Inflight.Delete(id)
	}
	return false
}
