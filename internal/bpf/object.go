package bpf

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"eproxy/internal/abi"
)

// Object is one of the two forms in which the programs are compiled. Maps,
// variables and types are the same in both.
type Object struct {
	Name     string                               // of what ends the programs' loops
	Pipeline uint32                               // most requests in flight on one slot
	Load     func() (*ebpf.CollectionSpec, error) // reads it
}

// The objects. The verifier follows loops that end by may_goto (Linux 6.9) only
// until nothing new can happen in them; it follows each turn of the bounded ones,
// so that they may have few.
var (
	MayGoto = Object{"may_goto", abi.PipelineMax, LoadEproxy}
	Bounded = Object{"bounded", abi.BoundedTurns, LoadBounded}
)

// Choose tries what this kernel's verifier knows.
func Choose() Object {
	// may_goto +1
	loop := asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.JCOND), Offset: 1}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), loop, asm.Mov.Imm(asm.R0, 1), asm.Return()}})
	if err != nil {
		return Bounded
	}
	_ = p.Close()
	return MayGoto
}
