package slots

import (
	"math/bits"
	"sync/atomic"
	"time"

	"eproxy/internal/clock"
	"eproxy/internal/depth"
	"eproxy/internal/pool"
)

var _ pool.Shared = (*Pod)(nil)

// contended is how long after the programs used slots, or found none, the
// fallback keeps to its share.
const contended = time.Second

// used is how many of a pod's places are taken: slots with requests in flight,
// and requests of the fallback's. The order of reading is that of pod_full (slot.h).
func (ps *Pod) used() int {
	filling := atomic.LoadUint64(&ps.mem.Filling)
	busy := atomic.LoadUint64(&ps.mem.Busy)
	return bits.OnesCount64(filling|busy) + int(atomic.LoadUint32(&ps.mem.Fallback))
}

// Enter takes a place for the fallback, unless it has its share, or it is not its turn; pool.Shared.
func (ps *Pod) Enter() bool {
	if share, _ := ps.atShare(); share || ps.owes() && ps.Contended() {
		return false
	}
	atomic.AddUint32(&ps.mem.Fallback, 1)
	if ps.used() > int(ps.mem.Concurrency) {
		ps.Leave(0)
		return false
	}
	ps.rouse() // behind the place that is taken: who puts the pod to sleep looks for that
	return true
}

// Leave gives a place of the fallback's back; pool.Shared. No packet tells the programs of it: what waits
// in the kernel is looked at here.
func (ps *Pod) Leave(requests int) {
	ps.endTurn(requests)
	atomic.AddUint32(&ps.mem.Fallback, ^uint32(0))
	ps.tendParked()
}

// Adopt counts what the fallback has under way already; pool.Shared.
func (ps *Pod) Adopt(n int) { atomic.StoreUint32(&ps.mem.Fallback, uint32(n)) }

// Asleep says that a request would have to wake the pod; pool.Shared.
func (ps *Pod) Asleep() bool { return ps.rest.Load() != nil }

// Free is how many places there are; pool.Shared.
func (ps *Pod) Free() int { return int(ps.mem.Concurrency) - ps.used() }

// Depth is how many requests in flight the pod was seen to answer in order on a slot; pool.Shared.
func (ps *Pod) Depth() (proven int, troubles uint32) {
	return int(atomic.LoadUint32(&ps.mem.Proven)), atomic.LoadUint32(&ps.mem.Troubles)
}

// Troubled notes that the pod did not answer several requests on a connection of the fallback's; pool.Shared.
func (ps *Pod) Troubled(why depth.Why, cause error) { ps.troubled(why, cause) }

// Await has the programs say when there is a place, and reserves slots' places:
// at most an eighth of them, but always one; none for callers that could not have
// it, because the fallback has its share. pool.Shared.
func (ps *Pod) Await(keep int) (kept int, again time.Duration) {
	if share, again := ps.atShare(); share {
		ps.Calm()
		return 0, again
	}
	kept = ps.reserve(min(keep, max(1, int(ps.mem.Concurrency)/8)))
	atomic.StoreUint32(&ps.mem.Waiting, 1)
	if ps.owes() {
		again = turnPatience // messages that wait for another pod, or for slots, do not use up the turn
	}
	return kept, again
}

// Calm ends Await; pool.Shared.
func (ps *Pod) Calm() {
	ps.reserve(0)
	atomic.StoreUint32(&ps.mem.Waiting, 0)
}

// atShare says whether the fallback has a quarter of the places and the programs
// need the others: a message costs far less there, and what came to the fallback
// in one burst must not make the next burst come to it, too. They do if they found
// no slot lately, or used some while few places are left. Places that they have no
// slots for are no matter. again is when that may be over.
func (ps *Pod) atShare() (share bool, again time.Duration) {
	most := int(ps.mem.Concurrency)
	quarter := max(1, most/fallbackShare)
	if int(atomic.LoadUint32(&ps.mem.Fallback)) < max(quarter, most-bits.OnesCount64(ps.open())) {
		return false, 0
	}
	now := clock.Monotonic()
	last := now - time.Duration(uint32(now/time.Millisecond)-atomic.LoadUint32(&ps.mem.DeniedMs))*time.Millisecond
	if ps.Free() <= quarter {
		last = max(last, ps.lastUse(now))
	}
	again = contended - (now - last)
	return again > 0, again
}

// fallbackShare is what part of the places the fallback may have while the programs need the others: one of so many.
const fallbackShare = 4

// turnPatience is after how long the fallback looks whether it is its turn where nothing told it.
const turnPatience = 20 * time.Millisecond

// endTurn has the programs send some messages before the fallback's next place, where one place is more than the fallback's
// share: as many for each of its own as the share is elsewhere. A connection that nobody else wanted may have had its place for
// very many requests: what counts is how many it may have in flight.
func (ps *Pod) endTurn(requests int) {
	if requests = min(requests, max(1, int(atomic.LoadUint32(&ps.mem.Proven)))); requests > 0 && ps.mem.Concurrency < fallbackShare {
		atomic.StoreInt32(&ps.mem.Owed, int32((fallbackShare-1)*requests)) //nolint:gosec // at most 64 requests
	}
}

// owes says whether the programs have not had their turn.
func (ps *Pod) owes() bool {
	return ps.mem.Concurrency < fallbackShare && atomic.LoadInt32(&ps.mem.Owed) > 0
}

// Contended says that a place of the fallback's is more than its share, and that the programs could send messages that wait
// in it; pool.Shared.
func (ps *Pod) Contended() bool {
	return ps.mem.Concurrency < fallbackShare && ps.open() != 0 && ps.all.Queues.Ready(atomic.LoadUint32(&ps.mem.Queue), ps.mem.Ipv6)
}

// open has a bit for each slot that the programs may use, or do.
func (ps *Pod) open() uint64 {
	return atomic.LoadUint64(&ps.mem.Idle) | atomic.LoadUint64(&ps.mem.Filling) | atomic.LoadUint64(&ps.mem.Busy)
}

// lastUse is when the programs last used a slot, on the clock that now is of.
func (ps *Pod) lastUse(now time.Duration) (last time.Duration) {
	for _, s := range ps.slots {
		if s.inFlight() > 0 {
			return now
		}
		if s.grown.Load() {
			last = max(last, time.Duration(atomic.LoadUint64(&s.memory().RespondedNs)))
		}
	}
	return last
}

// reserve keeps the programs from the places of n slots, those with the least to
// do, so that they become the callers' who wait. It returns how many they are.
func (ps *Pod) reserve(n int) int {
	old, open := atomic.LoadUint64(&ps.mem.Reserved), ps.open()
	word := uint64(0)
	for range n {
		var best *slot
		for _, s := range ps.slots {
			if open&^word&s.mask() != 0 && (best == nil || s.reservable(old) < best.reservable(old)) {
				best = s
			}
		}
		if best == nil {
			break
		}
		word |= best.mask()
	}
	if word != old && !ps.gone.Load() {
		atomic.StoreUint64(&ps.mem.Reserved, word)
		if old&^word != 0 {
			ps.tendParked() // no packet tells of a slot that may be used again
		}
	}
	return bits.OnesCount64(word)
}

// reservable orders slots by how soon their places may be free: those that are
// reserved already first.
func (s *slot) reservable(reserved uint64) int {
	if reserved&s.mask() != 0 {
		return -1
	}
	return int(s.inFlight())
}

// mask is the slot's bit in its pod's words.
func (s *slot) mask() uint64 { return 1 << s.bit }
