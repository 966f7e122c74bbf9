package mochi

import (
	"math"
	"slices"
	"sync"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// heldMax is how many messages may wait for a client's acknowledgements before
// those are looked for that have expired: as many as the library keeps for a client.
const heldMax = 8192

// quota holds messages of QoS 1 and 2 back while a client has as many
// unacknowledged as it allows, its Receive Maximum (MQTT 5 section 3.1.2.11.3)
// [MQTT-3.3.4-9]. The library counts them too, but takes a read lock twice over it:
// a message for the client between the two stops the client, the publisher, and
// in the end the server. So the library is told that there is no limit.
type quota struct {
	mu      sync.Mutex
	limit   int // 0: none
	open    map[uint16]struct{}
	held    []uint16 // packet identifiers, in order; the library has the messages
	pumping bool
	sending uint16 // the held one that pump is writing
}

// takeOver makes the library forget the limit of a client.
func (q *quota) takeOver(cl *mochi.Client) {
	if q.limit = int(cl.Properties.Props.ReceiveMaximum); q.limit > 0 {
		q.open = make(map[uint16]struct{})
	}
	cl.Properties.Props.ReceiveMaximum = 0 // for when a session is inherited
	cl.State.Inflight.ResetSendQuota(0)
	cl.State.Inflight.ResetReceiveQuota(math.MaxInt32) // see Session.Unreleased
}

// admit says whether a message may be sent now, for the first time or again; otherwise it is kept.
func (q *quota) admit(cl *mochi.Client, pk packets.Packet) bool {
	if q.limit == 0 {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.sending == pk.PacketID:
	case q.pumping || len(q.held) > 0 || len(q.open) >= q.limit:
		if len(q.held) >= heldMax {
			q.held = slices.DeleteFunc(q.held, func(id uint16) bool { return !waits(cl, id) })
		}
		q.held = append(q.held, pk.PacketID)
		return false
	}
	q.open[pk.PacketID] = struct{}{}
	return true
}

// settled frees the place of a message when the client's acknowledgement ends it
// (PUBACK, PUBCOMP, or a PUBREC that refuses it), and sends what waits for one.
func (q *quota) settled(cl *mochi.Client, ack packets.Packet) {
	if q.limit == 0 || ack.FixedHeader.Type == packets.Pubrec && ack.ReasonCode < packets.ErrUnspecifiedError.Code {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.open, ack.PacketID)
	q.pumping = true // what comes meanwhile stays behind
	for len(q.held) > 0 && len(q.open) < q.limit {
		id := q.held[0]
		q.held = q.held[1:]
		next, ok := cl.State.Inflight.Get(id)
		if _, sent := q.open[id]; sent || !ok || id == ack.PacketID || next.FixedHeader.Type != packets.Publish {
			continue // expired, and perhaps the identifier is another message's
		}
		q.sending = next.PacketID
		q.mu.Unlock()
		_ = cl.WritePacket(next)
		q.mu.Lock()
		q.sending = 0
	}
	q.pumping = false
}

// waits says whether the library still has the message; it forgets one that expires.
func waits(cl *mochi.Client, id uint16) bool {
	_, ok := cl.State.Inflight.Get(id)
	return ok
}
