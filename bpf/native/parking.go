//go:build cgo

package native

// #include "calls.h"
import "C"

// ParkOp is what is done with messages that wait.
type ParkOp uint32

// The functions of parking.h.
const (
	ParkAdmit  ParkOp = C.SHIM_PARK_ADMIT
	ParkCancel ParkOp = C.SHIM_PARK_CANCEL
	ParkPush   ParkOp = C.SHIM_PARK_PUSH
	ParkPop    ParkOp = C.SHIM_PARK_POP
	ParkBack   ParkOp = C.SHIM_PARK_BACK
	ParkFree   ParkOp = C.SHIM_PARK_FREE
	ParkOld    ParkOp = C.SHIM_PARK_OLD
	ParkHand   ParkOp = C.SHIM_PARK_HAND

	ParkedMax = C.PARKED_MAX
	TurnsMax  = C.TURNS_MAX
	ParkLines = C.PARK_LINES
)

// ParkLimit says for how many messages there is memory.
func ParkLimit(p *Parking, n int) { p.limit = u32(n) }

// Park does op; what it returns is that function's result, 1 for true.
func (t *Table) Park(p *Parking, q *Queue, op ParkOp, client, n, ms uint32) uint32 {
	return uint32(C.call_park(t.t, p, q, u32(op), u32(client), u32(n), u32(ms)))
}
