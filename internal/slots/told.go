package slots

import (
	"errors"
	"sync/atomic"

	"eproxy/internal/config"
	"eproxy/internal/depth"
	"eproxy/internal/places"
	"eproxy/internal/pool"
	"eproxy/internal/scale"
	"eproxy/internal/slot"
)

// What a pod's parts ask it, and tell it.
var (
	_ slot.Pod   = (*Pod)(nil)
	_ scale.Pod  = (*Pod)(nil)
	_ places.Pod = (*Pod)(nil)
)

// unseenLimit is how many slots of a pod must come up unseen, and none seen,
// before Events.Unseen is told.
const unseenLimit = 3

// Function is the current configuration of the pod's function; slot.Pod, scale.Pod.
func (ps *Pod) Function() *config.Function { return ps.fn.Load() }

// Deep says whether its slots have memory for several requests; slot.Pod.
func (ps *Pod) Deep() bool { return ps.trials.Deep() }

// Freed sees to what waits for a slot of the pod's function: one is free again, or there is one less; slot.Pod, scale.Pod, places.Pod.
func (ps *Pod) Freed() { ps.all.Queues.Tend(atomic.LoadUint32(&ps.mem.Queue)) }

// Parked says whether the programs could send messages that wait to the pod; places.Pod.
func (ps *Pod) Parked() bool {
	return ps.all.Queues.Ready(atomic.LoadUint32(&ps.mem.Queue), ps.mem.Ipv6)
}

// CloseIdle closes idle connections of the fallback's; scale.Pod.
func (ps *Pod) CloseIdle() int { return ps.all.Idle.CloseIdle(ps.id.Function, ps.id.Address) }

// Connected notes that a slot came up; slot.Pod.
func (ps *Pod) Connected() {
	if !ps.seen.Swap(true) {
		ps.all.Events.Reached(ps)
	}
	ps.Freed()
	ps.first.Do(func() { close(ps.tried) })
	ps.scale.Connected()
}

// NotConnected notes that a slot did not come up; slot.Pod.
func (ps *Pod) NotConnected(err error) {
	ps.first.Do(func() { close(ps.tried) })
	if ps.gone.Load() || ps.all.ctx.Err() != nil {
		return
	}
	pool.Unreachable(ps.all.Often, ps.id.Function, ps.id.Address, err)
	ps.all.record(func(rec Recorder) { rec.ConnectFailed(ps.id.Function, ps.id.Address.String()) })
	if errors.Is(err, slot.ErrUnseen) && !ps.seen.Load() && ps.unseen.Add(1) == unseenLimit {
		ps.all.Events.Unseen(ps)
	}
}

// Ended says whether a slot is dialled again; slot.Pod.
func (ps *Pod) Ended(s *slot.Slot, e slot.Ending) (again bool) { return ps.scale.Ended(s, e) }

// Troubled notes that the pod did not answer several requests on a connection; slot.Pod, pool.Shared.
func (ps *Pod) Troubled(why depth.Why, cause error) {
	if ps.gone.Load() {
		return
	}
	ps.all.record(func(rec Recorder) { rec.PipelineTrouble(ps.id.Function, ps.id.Address.String(), why.Name()) })
	ps.trials.Failed(why, cause)
	ps.scale.Settle()
}
