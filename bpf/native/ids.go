//go:build cgo

package native

// #include "calls.h"
import "C"

// IDsOp is what is done with packet identifiers.
type IDsOp uint32

// The functions of ids.h.
const (
	IDsRoom    IDsOp = C.SHIM_IDS_ROOM    // of an identifier: whether it can be entered
	IDsKnown   IDsOp = C.SHIM_IDS_KNOWN   // of an identifier: whether it is under way
	IDsEnter   IDsOp = C.SHIM_IDS_ENTER   // an identifier; returns its hold
	IDsHeld    IDsOp = C.SHIM_IDS_HELD    // of a hold
	IDsRelease IDsOp = C.SHIM_IDS_RELEASE // of a hold
	IDsTable   IDsOp = C.SHIM_IDS_TABLE   // gives the connection the table; returns whether it had none
)

// IDs does one of them; table may be nil.
func (t *Table) IDs(ids *IDs, table *IDTable, op IDsOp, arg uint32) uint32 {
	return uint32(C.call_ids(t.t, ids, table, C.__u32(op), u32(arg)))
}

// ClaimTable marks a table as taken, with its number.
func ClaimTable(t *IDTable, number int) { t.taken, t.number = 1, C.__u16(number) }

// FullIDs has a connection's own entries all used.
func FullIDs() (ids IDs) {
	ids.used = ^C.__u64(0)
	return ids
}
