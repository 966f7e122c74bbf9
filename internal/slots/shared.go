package slots

import (
	"time"

	"eproxy/internal/pool"
)

// What the fallback's pool asks a pod, and tells it: pool.Shared.
var _ pool.Shared = (*Pod)(nil)

// Enter takes a place for the fallback, unless it has its share, or it is not its turn; pool.Shared.
func (ps *Pod) Enter() bool {
	entered := ps.places.Enter()
	if entered {
		ps.rouse() // behind the place that is taken: who puts the pod to sleep looks for that
	}
	return entered
}

// Leave gives a place of the fallback's back; pool.Shared.
func (ps *Pod) Leave(requests int) { ps.places.Leave(requests) }

// Adopt counts what the fallback has under way already; pool.Shared.
func (ps *Pod) Adopt(n int) { ps.places.Adopt(n) }

// Free is how many places there are; pool.Shared.
func (ps *Pod) Free() int { return ps.places.Free() }

// Contended says that the programs need a place that is more than the fallback's share; pool.Shared.
func (ps *Pod) Contended() bool { return ps.places.Contended() }

// Asleep says that a request would have to wake the pod; pool.Shared.
func (ps *Pod) Asleep() bool { return ps.rest.Load() != nil }

// Await has the programs say when there is a place; pool.Shared.
func (ps *Pod) Await(keep int) (kept int, again time.Duration) { return ps.places.Await(keep) }

// Calm ends Await; pool.Shared.
func (ps *Pod) Calm() { ps.places.Calm() }

// Spare says whether the fallback may keep idle connections; pool.Shared.
func (ps *Pod) Spare() bool { return ps.scale.Spare() }

// Depth is how many requests in flight the pod was seen to answer in order on a slot; pool.Shared.
func (ps *Pod) Depth() (proven int, troubles uint32) { return ps.trials.Known() }

// Patience is how long the first response on a connection of the fallback may take; pool.Shared.
func (ps *Pod) Patience() time.Duration { return ps.scale.Patience() }

// Stalled is when it takes longer; pool.Shared.
func (ps *Pod) Stalled() { ps.scale.Stalled() }

// Exchanged notes how a request of the fallback fared; pool.Shared.
func (ps *Pod) Exchanged(x pool.Exchange) { ps.scale.Exchanged(x) }
