package mochi

import (
	"cmp"
	"errors"
	"slices"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// inOrder has the library send what waits for a client in the order in which it came [MQTT-4.6.0-6 of MQTT 3.1.1]. The library sorts it by the lower 16 bits of
// the second in which it came, and what came in one second not at all. Identifiers are given in ascending order.
func inOrder(cl *mochi.Client) {
	all := cl.State.Inflight.GetAll(false)
	slices.SortStableFunc(all, func(a, b packets.Packet) int {
		if c := cmp.Compare(a.Created, b.Created); c != 0 {
			return c
		}
		return cmp.Compare(int16(a.PacketID-b.PacketID), 0) // they begin anew behind 65,535
	})
	for i, m := range all {
		m.Created = int64(i) // before what comes from now on, whose seconds are many
		cl.State.Inflight.Set(m)
	}
}

// resend writes what waits for a client that has come back [MQTT-4.4.0-1].
func resend(cl *mochi.Client) error {
	for _, m := range cl.State.Inflight.GetAll(false) {
		if err := cl.WritePacket(m); err != nil && !errors.Is(err, errLeftOut) {
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
	cl.State.Inflight.Set(m)
	return false
}
