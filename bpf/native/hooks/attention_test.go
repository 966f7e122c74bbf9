//go:build cgo

package hooks

import "fmt"

// attended checks that the sweeper will look at every connection that needs it, and
// that its timer runs while there is one.
func (w *world) attended() error {
	for i := range connCount {
		marked := w.m.Attention()>>i&1 == 1
		if marked && !w.m.TimerRuns() {
			return fmt.Errorf("conn %d is to be looked at, but the timer does not run", i)
		}
		if why := w.needsSweep(i); why != "" && !marked {
			return fmt.Errorf("conn %d: %s, and the sweeper will not look at it", i, why)
		}
	}
	return nil
}

// needsSweep is what only the sweeper will see to at a connection if no packet comes; empty: nothing.
func (w *world) needsSweep(i int) string {
	c := w.m.Conn(i)
	if i < slotCount {
		switch s := w.m.Slot(i); {
		case s.head != s.tail:
			return "requests in flight"
		case s.state == SlotRetired && c.state != ConnFree:
			return "retired"
		}
	}
	switch {
	case c.state != ConnOpen:
		return ""
	case c.kind == KindDevice && c.tx.count > 0:
		return "PUBACK not acknowledged"
	case c.kind == KindDevice && c.flags&FlagBroken != 0:
		return "to be aborted"
	case int32(ackOf(c)-uint32(c.rx_acked)) > 0:
		return "acknowledgement not sent"
	}
	return ""
}

// ackOf is the acknowledgement that the peer may be sent.
func ackOf(c *Conn) uint32 {
	ack := uint32(c.rx_kack + c.rx.base)
	for i := range int(c.rx.count) {
		switch g := &c.rx.ring[(int(c.rx.head)+i)%Ring]; {
		case int32(ack-uint32(g.seq)) < 0:
			return ack
		case g.state == GraftOpen:
			return uint32(g.seq)
		default:
			ack += uint32(g.len)
		}
	}
	return ack
}
