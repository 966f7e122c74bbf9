package slots

import (
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
)

// control runs the control program of slots. A message that it takes over
// finish must get.
func (p *Pods) control(op bpf.EproxySlotOp, in bpf.EproxySlotArgs) (args bpf.EproxySlotArgs, err error) {
	if op == bpf.EproxySlotOpSLOT_OP_TAKE_OVER {
		p.Messages.Begin() // before the slot no longer counts it
		defer func() {
			if err != nil || args.Ok == 0 {
				p.Messages.Cancel()
			}
		}()
	}
	for {
		args = in
		args.Op = uint32(op)
		if _, err := p.Objects.SlotControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
			return args, fmt.Errorf("slot control: %w", err)
		}
		if args.Ok != uint32(bpf.EproxySlotResultSLOT_AGAIN) {
			return args, nil
		}
		runtime.Gosched() // another processor is about to finish with the slot
	}
}
