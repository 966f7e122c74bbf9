//go:build cgo

package native

// #include "calls.h"
import "C"

// LineOp is what is done with lines.
type LineOp uint32

// The functions of line.h.
const (
	LineAdmit    LineOp = C.SHIM_LINE_ADMIT
	LineCancel   LineOp = C.SHIM_LINE_CANCEL
	LinePush     LineOp = C.SHIM_LINE_PUSH
	LineBack     LineOp = C.SHIM_LINE_BACK
	LineAnswered LineOp = C.SHIM_LINE_ANSWERED
	LineTakeOver LineOp = C.SHIM_LINE_TAKE_OVER
	LineHold     LineOp = C.SHIM_LINE_HOLD
	LineWatch    LineOp = C.SHIM_LINE_WATCH
	LineRelease  LineOp = C.SHIM_LINE_RELEASE
	LinePlaced   LineOp = C.SHIM_LINE_PLACED
	LineTake     LineOp = C.SHIM_LINE_TAKE
)

// LineArgs are what these functions are given, and Line and Flag what they give back beside their result.
type LineArgs struct {
	Name                       uint64
	Queue, Family, Line, N, Ms uint32
	Flag                       bool
}

// Line does op; what it returns is that function's result, 1 for true.
func (t *Table) Line(p *Parking, q *Queue, op LineOp, a *LineArgs) uint32 {
	c := C.struct_shim_line_args{name: C.__u64(a.Name), queue: u32(a.Queue), family: u32(a.Family), line: u32(a.Line), n: u32(a.N), ms: u32(a.Ms)}
	n := uint32(C.call_line(t.t, p, q, u32(op), &c))
	a.Line, a.Flag = uint32(c.line), c.flag != 0
	return n
}
