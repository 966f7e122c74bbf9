package doctor

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// passProgram is a TC program that does nothing (TC_ACT_UNSPEC).
func passProgram() *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		License:      "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	}
}
