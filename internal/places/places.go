package places

import (
	"math/bits"
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/slot"
)

const (
	// contended is how long after the programs used slots, or found none, the
	// fallback keeps to its share.
	contended = time.Second
	// fallbackShare is what part of the places the fallback may have while the programs need the others: one of so many.
	fallbackShare = 4
	// turnPatience is after how long the fallback looks whether it is its turn where nothing told it.
	turnPatience = 20 * time.Millisecond
)

// Pod is what the places need of their pod, and tell it.
type Pod interface {
	// Gone says whether the pod is out of service.
	Gone() bool
	// Freed: the programs may use a slot again, which no packet tells of.
	Freed()
	// Parked says whether the programs could send messages that wait to the pod.
	Parked() bool
}

// Places are those of a pod. All methods may be called at any time.
type Places struct {
	pod   Pod
	entry *bpf.EproxyPod
	slots []*slot.Slot
}

// New makes the places of a pod with this entry and these slots.
func New(pod Pod, entry *bpf.EproxyPod, slots []*slot.Slot) *Places {
	return &Places{pod: pod, entry: entry, slots: slots}
}

// used is how many of a pod's places are taken: slots with requests in flight,
// and requests of the fallback's. The order of reading is that of pod_full (slot.h).
func (p *Places) used() int {
	filling := atomic.LoadUint64(&p.entry.Filling)
	busy := atomic.LoadUint64(&p.entry.Busy)
	return bits.OnesCount64(filling|busy) + p.Fallback()
}

// Fallback is how many of the fallback's requests have a place.
func (p *Places) Fallback() int { return int(atomic.LoadUint32(&p.entry.Fallback)) }

// Adopt counts what the fallback has under way already.
func (p *Places) Adopt(n int) { atomic.StoreUint32(&p.entry.Fallback, uint32(n)) }

// Free is how many places there are.
func (p *Places) Free() int { return int(p.entry.Concurrency) - p.used() }

// Open has a bit for each slot that the programs may use, or do.
func (p *Places) Open() uint64 {
	return atomic.LoadUint64(&p.entry.Idle) | atomic.LoadUint64(&p.entry.Filling) | atomic.LoadUint64(&p.entry.Busy)
}

// Enter takes a place for the fallback, unless it has its share, or it is not its turn.
func (p *Places) Enter() bool {
	if share, _ := p.atShare(); share || p.owes() && p.Contended() {
		return false
	}
	atomic.AddUint32(&p.entry.Fallback, 1)
	if p.used() > int(p.entry.Concurrency) {
		p.Leave(0)
		return false
	}
	return true
}

// Leave gives a place of the fallback's back, after so many requests. No packet tells the programs of it: what waits
// in the kernel is looked at here.
func (p *Places) Leave(requests int) {
	p.endTurn(requests)
	atomic.AddUint32(&p.entry.Fallback, ^uint32(0))
	p.pod.Freed()
}

// Await has the programs say when there is a place, and reserves slots' places:
// at most an eighth of them, but always one; none for callers that could not have
// it, because the fallback has its share. again is when to look at the latest; 0: never.
func (p *Places) Await(keep int) (kept int, again time.Duration) {
	if share, again := p.atShare(); share {
		p.Calm()
		return 0, again
	}
	kept = p.reserve(min(keep, max(1, int(p.entry.Concurrency)/8)))
	atomic.StoreUint32(&p.entry.Waiting, 1)
	if p.owes() {
		again = turnPatience // messages that wait for another pod, or for slots, do not use up the turn
	}
	return kept, again
}

// Calm ends Await.
func (p *Places) Calm() {
	p.reserve(0)
	atomic.StoreUint32(&p.entry.Waiting, 0)
}

// Close keeps the programs from all places: the pod is to get nothing more.
func (p *Places) Close() { atomic.StoreUint64(&p.entry.Reserved, ^uint64(0)) }

// atShare says whether the fallback has a quarter of the places and the programs
// need the others: a message costs far less there, and what came to the fallback
// in one burst must not make the next burst come to it, too. They do if they found
// no slot lately, or used some while few places are left. Places that they have no
// slots for are no matter. again is when that may be over.
func (p *Places) atShare() (share bool, again time.Duration) {
	most := int(p.entry.Concurrency)
	quarter := max(1, most/fallbackShare)
	if p.Fallback() < max(quarter, most-bits.OnesCount64(p.Open())) {
		return false, 0
	}
	now := clock.Monotonic()
	last := now - p.sinceDenied(now)
	if p.Free() <= quarter {
		last = max(last, p.lastUse(now))
	}
	again = contended - (now - last)
	return again > 0, again
}

// sinceDenied is how long ago the programs last found no slot.
func (p *Places) sinceDenied(now time.Duration) time.Duration {
	return time.Duration(uint32(now/time.Millisecond)-atomic.LoadUint32(&p.entry.DeniedMs)) * time.Millisecond
}

// lastUse is when the programs last used a slot, on the clock that now is of.
func (p *Places) lastUse(now time.Duration) (last time.Duration) {
	for _, s := range p.slots {
		if last = max(last, s.LastUse(now)); last == now {
			break
		}
	}
	return last
}

// Loaded says whether the programs have used slots lately, or lacked them.
func (p *Places) Loaded() bool {
	now := clock.Monotonic()
	return p.sinceDenied(now) < contended || now-p.lastUse(now) < contended
}

// endTurn has the programs send some messages before the fallback's next place, where one place is more than the fallback's
// share: as many for each of its own as the share is elsewhere. A connection that nobody else wanted may have had its place for
// very many requests: what counts is how many it may have in flight.
func (p *Places) endTurn(requests int) {
	if requests = min(requests, max(1, int(atomic.LoadUint32(&p.entry.Proven)))); requests > 0 && p.entry.Concurrency < fallbackShare {
		atomic.StoreInt32(&p.entry.Owed, int32((fallbackShare-1)*requests)) //nolint:gosec // at most 64 requests
	}
}

// owes says whether the programs have not had their turn.
func (p *Places) owes() bool {
	return p.entry.Concurrency < fallbackShare && atomic.LoadInt32(&p.entry.Owed) > 0
}

// Contended says that a place of the fallback's is more than its share, and that the programs could send messages that wait
// in it.
func (p *Places) Contended() bool {
	return p.entry.Concurrency < fallbackShare && p.Open() != 0 && p.pod.Parked()
}

// reserve keeps the programs from the places of n slots, those with the least to
// do, so that they become the callers' who wait. It returns how many they are.
func (p *Places) reserve(n int) int {
	old, open := atomic.LoadUint64(&p.entry.Reserved), p.Open()
	word := uint64(0)
	for range n {
		var best *slot.Slot
		for _, s := range p.slots {
			if open&^word&s.Mask() != 0 && (best == nil || reservable(s, old) < reservable(best, old)) {
				best = s
			}
		}
		if best == nil {
			break
		}
		word |= best.Mask()
	}
	if word != old && !p.pod.Gone() {
		atomic.StoreUint64(&p.entry.Reserved, word)
		if old&^word != 0 {
			p.pod.Freed()
		}
	}
	return bits.OnesCount64(word)
}

// reservable orders slots by how soon their places may be free: those that are
// reserved already first.
func reservable(s *slot.Slot, reserved uint64) int {
	if reserved&s.Mask() != 0 {
		return -1
	}
	return int(s.InFlight())
}
