//go:build cgo

package native

// #include "calls.h"
import "C"

// RecoveryAck is recovery_ack.
func (t *Table) RecoveryAck(r *Recovery, c *Conn, s *Segment) bool {
	return C.call_recovery_ack(t.t, r, c, s) != 0
}

// RecoveryMeasure is recovery_measure.
func (t *Table) RecoveryMeasure(r *Recovery, c *Conn, ms int32, bare bool) {
	C.call_recovery_measure(t.t, r, c, C.__s32(ms), truth(bare))
}

// RecoveryDue is recovery_due.
func (t *Table) RecoveryDue(r *Recovery, c *Conn, sent uint32) uint32 {
	return uint32(C.call_recovery_due(t.t, r, c, u32(sent)))
}

// RecoveryExpire is recovery_expire.
func (t *Table) RecoveryExpire(r *Recovery, c *Conn) { C.call_recovery_expire(t.t, r, c) }

// RecoveryMissing is recovery_missing.
func (t *Table) RecoveryMissing(c *Conn, sent, now uint32) bool {
	return C.call_recovery_missing(t.t, c, u32(sent), u32(now)) != 0
}

// RecoveryFar is recovery_far.
func (t *Table) RecoveryFar(c *Conn) bool { return C.call_recovery_far(t.t, c) != 0 }
