//go:build cgo

package native

// #include "calls.h"
import "C"

import "unsafe"

// Rx is conn_rx; it returns an RxAction.
func (t *Table) Rx(c *Conn, s *Segment, v *RxVerdict, now uint32) int {
	return int(C.call_rx(t.t, c, s, v, u32(now)))
}

// Tx is conn_tx, with the framing of the payload followed.
func (t *Table) Tx(c *Conn, s *Segment, payload []byte, v *TxVerdict, now uint32) {
	C.call_tx(t.t, c, s, (*u8)(unsafe.SliceData(payload)), v, u32(now))
}

// Front is conn_front.
func (t *Table) Front(c *Conn, s *Segment) uint32 { return uint32(C.call_front(t.t, c, s)) }

// Compact is ledger_compact of the receive direction.
func (t *Table) Compact(c *Conn) { C.call_compact(t.t, c) }

// CaughtUp is conn_caught_up.
func (t *Table) CaughtUp(c *Conn) bool { return C.call_caught_up(t.t, c) != 0 }

// Seed is conn_seed.
func (t *Table) Seed(c *Conn, rcvNxt, queued uint32) { C.call_seed(t.t, c, u32(rcvNxt), u32(queued)) }

// Next is conn_next.
func (t *Table) Next(c *Conn, seq uint32) bool { return C.call_next(t.t, c, u32(seq)) != 0 }

// Follow is conn_follow.
func (t *Table) Follow(c *Conn, have uint32) bool { return C.call_follow(t.t, c, u32(have)) != 0 }

// Boundary is conn_boundary.
func (t *Table) Boundary(c *Conn, at uint32) bool { return C.call_boundary(t.t, c, u32(at)) != 0 }

// Dups is conn_dups.
func (t *Table) Dups(c *Conn) int { return int(C.call_dups(t.t, c)) }

// Quoted is conn_quoted.
func (t *Table) Quoted(c *Conn, seq uint32) (kernel uint32, flying bool) {
	var k u32
	flying = C.call_quoted(t.t, c, u32(seq), &k) != 0
	return uint32(k), flying
}

// Absorb is conn_absorb.
func (t *Table) Absorb(c *Conn, s *Segment, v *RxVerdict, now uint32) bool {
	return C.call_absorb(t.t, c, s, v, u32(now)) != 0
}

// Stamp is conn_stamp.
func (t *Table) Stamp(c *Conn, s *Stamp) { C.call_stamp(t.t, c, s) }

// RxFull is ledger_full of the receive direction.
func (t *Table) RxFull(c *Conn, limit int) bool { return C.call_rx_full(t.t, c, u32(limit)) != 0 }

// CanInsert is conn_can_insert.
func (t *Table) CanInsert(c *Conn, n int) bool { return C.call_can_insert(t.t, c, u32(n)) != 0 }

// Insert is conn_insert; it returns the wire position.
func (t *Table) Insert(c *Conn, n int, now uint32) uint32 {
	return uint32(C.call_insert(t.t, c, u32(n), u32(now)))
}

// Uninsert is conn_uninsert.
func (t *Table) Uninsert(c *Conn, seq uint32, n int) bool {
	return C.call_uninsert(t.t, c, u32(seq), u32(n)) != 0
}

// Done is conn_done.
func (t *Table) Done(c *Conn, slot, seq uint32) bool {
	return C.call_done(t.t, c, u32(slot), u32(seq)) != 0
}

// Taken does what a hook does after RxRemove: it names who answers for the
// youngest graft, and its state.
func (t *Table) Taken(c *Conn, slot, state uint32) {
	C.call_taken(t.t, c, u32(slot), u32(state))
}
