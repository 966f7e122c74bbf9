package bpf

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
)

// Where struct __sk_buff has cb, and where cb ends.
const (
	skbCB    = 48
	skbCBEnd = skbCB + 5*4
)

// RunTC runs a TC program on a packet that only lends its memory, with at most five args in its cb.
func RunTC(prog *ebpf.Program, args ...uint32) (uint32, error) {
	skb := make([]byte, skbCBEnd)
	for i, a := range args {
		binary.NativeEndian.PutUint32(skb[skbCB+4*i:], a)
	}
	return prog.Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: skb})
}

// ControlSlot runs the program slot_control, whose arguments are its results, too. After an error it has not run.
func ControlSlot(prog *ebpf.Program, args *EproxySlotArgs) error {
	_, err := prog.Run(&ebpf.RunOptions{Context: args, ContextOut: args})
	return err
}
