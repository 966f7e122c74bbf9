//go:build cgo

package native

// #include "calls.h"
import "C"

// sackOf has a TCP header's options, unread.
func sackOf(options []byte) (k Sack) {
	for i, b := range options {
		k.before[i] = u8(b)
	}
	k.len = u32(len(options))
	return k
}

// Sack reads and translates a TCP header's options as the hooks do: of a segment
// that came from the peer with the acknowledgement ack, or of one of the local
// socket with kack, which becomes ack on the wire.
func (t *Table) Sack(c *Conn, options []byte, received bool, kack, ack uint32) (k Sack) {
	k = sackOf(options)
	C.call_sack(t.t, c, &k, truth(received), u32(kack), u32(ack))
	return k
}

// Loss does what tc_device_in does with a segment without payload and its options before
// Rx: whether PUBACKs may be missing, and which of them are sent again now.
func (t *Table) Loss(c *Conn, s *Segment, options []byte, now uint32) (p Pubacks, shown bool) {
	k := sackOf(options)
	shown = C.call_loss(t.t, c, s, &k, &p, u32(now)) != 0
	return p, shown
}

// Overdue is loss_overdue: the PUBACKs whose time is up, and when the oldest was due.
func (t *Table) Overdue(c *Conn, more, now uint32) (p Pubacks, due uint32) {
	due = uint32(C.call_overdue(t.t, c, &p, u32(more), u32(now)))
	return p, due
}
