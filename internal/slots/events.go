package slots

import (
	"eproxy/internal/bpf"
)

// Handle does what an event of the programs asks for that is about a pod or a slot: of e.Conn. It says whether
// it is such a one.
func (p *Pods) Handle(e *bpf.EproxyEvent) bool {
	switch bpf.EproxyEventKind(e.Kind) {
	case bpf.EproxyEventKindEVENT_SLOT:
		if s := p.table.Slot(e.Conn); s != nil {
			s.Retired(e.Gen)
		}
	case bpf.EproxyEventKindEVENT_OVERDUE:
		p.overdue(e, bpf.EproxyTakeOnlyTAKE_OVERDUE)
	case bpf.EproxyEventKindEVENT_TRIAL:
		p.overdue(e, bpf.EproxyTakeOnlyTAKE_TRIAL)
	case bpf.EproxyEventKindEVENT_SLOTS:
		if ps := p.table.Pod(e.Conn); ps != nil {
			ps.scale.Grow()
		}
	case bpf.EproxyEventKindEVENT_PROVEN:
		if ps := p.table.Pod(e.Conn); ps != nil && !ps.gone.Load() {
			ps.trials.Proved()
		}
	case bpf.EproxyEventKindEVENT_STALLED:
		if s, ps := p.table.Slot(e.Conn), p.table.Of(e.Conn); s != nil && ps != nil {
			ps.scale.SlotStalled(s, e.Gen)
		}
	case bpf.EproxyEventKindEVENT_LOST:
		p.resend(e.Conn, e.Gen)
	default:
		return false
	}
	return true
}

// overdue has a slot's oldest message taken over, in the background.
func (p *Pods) overdue(e *bpf.EproxyEvent, only bpf.EproxyTakeOnly) {
	if s, gen := p.table.Slot(e.Conn), e.Gen; s != nil {
		p.wg.Go(func() { s.Overdue(gen, only) })
	}
}

// resend has the programs send a slot's oldest request again, if its pod has still not acknowledged it: its time is up.
func (p *Pods) resend(slot, gen uint32) {
	if _, err := bpf.RunTC(p.Objects.RequestsSend, slot, gen); err != nil {
		p.Often.Warn("sending a request again", err.Error(), "error", err)
	}
}

// Function is the function of the pod of an index; false: none is in service there.
func (p *Pods) Function(index uint32) (name string, ok bool) {
	ps := p.table.Pod(index)
	if ps == nil {
		return "", false
	}
	return ps.id.Function, true
}
