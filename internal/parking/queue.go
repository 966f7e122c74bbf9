package parking

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/routes"
	"eproxy/internal/traffic"
)

// handoverBefore is how long before a message's deadline the programs give it up to
// userspace, which settles it; a quarter of the deadline if that is less.
const handoverBefore = time.Second

// queue is the messages of one function that wait for slots in the kernel.
type queue struct {
	all   *Queues
	index uint32
	mem   *bpf.EproxyQueue // its own; count changes at any time
	fn    atomic.Pointer[config.Function]
	gone  atomic.Bool // no configuration has the function any more

	backlog traffic.Backlog // for who calls EachWaited

	again atomic.Bool // it is to be tended once more
	mu    sync.Mutex  // held while it is
}

func (q *queue) setHandover(fn *config.Function) {
	wait := fn.Deadline - min(handoverBefore, fn.Deadline/4)
	atomic.StoreUint32(&q.mem.HandoverMs, uint32(min(wait.Milliseconds(), math.MaxInt32)))
}

// end hands over what waits in a queue that is out of service, also what programs put there that
// have not seen the switch. Then the queue may be another function's.
func (q *queue) end() {
	q.gone.Store(true)
	q.tend()
	for {
		select {
		case <-q.all.ctx.Done():
			return
		case <-time.After(routes.Grace):
		}
		if q.emptied() {
			return
		}
	}
}

// emptied hands over what waits and, if nothing does any more, gives the queue up.
func (q *queue) emptied() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.handOver()
	if q.Count() > 0 {
		return false
	}
	atomic.StoreUint32(&q.mem.Function, abi.NoIndex)
	q.all.table[q.index].Store(nil)
	return true
}

var _ delivery.Parked = (*queue)(nil)

// Count is how many messages wait; delivery.Parked.
func (q *queue) Count() int { return int(atomic.LoadUint32(&q.mem.Count)) }

// ready says whether a client of an address family has its turn. The programs change it under a lock of theirs: what is seen is what
// was so a moment ago.
func (q *queue) ready(family uint8) bool { return q.mem.FirstTurn[family&1] != 0 }

// Allow lets so many messages wait; delivery.Parked.
func (q *queue) Allow(messages int) { atomic.StoreUint32(&q.mem.Most, uint32(messages)) }

// tend sees to messages that wait, in the background: a slot is free that no packet told
// of, or there is none left, or a deadline is near.
func (q *queue) tend() {
	if q.Count() == 0 || q.all.ctx.Err() != nil || q.again.Swap(true) {
		return
	}
	q.all.wg.Go(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.again.Store(false)
		q.handOver()
	})
}

// handOver has the programs send what finds a slot, and takes what is userspace's; q.mu is held.
func (q *queue) handOver() {
	for range abi.ParkedMax {
		refused := !q.gone.Load() && q.all.programs.send(q)
		if !refused {
			break
		}
		if !q.all.programs.take(q, 0) { // the one whose turn it is: no other is sent before it
			break
		}
	}
	served := Families{}
	if !q.gone.Load() {
		served = q.all.Served(q.fn.Load().Name)
	}
	if served == (Families{}) {
		q.takeOlder(0)
		return
	}
	for family, s := range served {
		if !s {
			q.takeFamily(family)
		}
	}
	q.takeOlder(time.Duration(atomic.LoadUint32(&q.mem.HandoverMs)) * time.Millisecond)
}

// takeOlder takes what has waited so long. The program looks at some of the clients at a time.
func (q *queue) takeOlder(wait time.Duration) {
	for misses := 0; q.Count() > 0 && misses <= q.Count()/abi.BoundedTurns; {
		if !q.all.programs.take(q, wait) {
			misses++
		}
	}
}

// takeFamily takes what the clients of an address family have waiting: no pod is left that could take it. (Where a pod of
// that family comes meanwhile, and sends it, a message of the other one may be taken: it is delivered all the same.)
func (q *queue) takeFamily(family int) {
	for range abi.ParkedMax {
		if q.mem.FirstTurn[family] == 0 && q.mem.FirstTurn[family+abi.ParkFamilies] == 0 { // nor behind others in lines
			return
		}
		atomic.StoreUint32(&q.mem.Refused, uint32(family)) // which PARK_OP_TAKE looks at first
		if !q.all.programs.take(q, 0) {
			return
		}
	}
}

// programs is what is done with what waits in a queue; kernel, but in tests.
type programs interface {
	// send has the programs send what finds a slot now. refused: a slot's connection does not take the
	// message whose turn it is.
	send(q *queue) (refused bool)
	// take makes one message userspace's that has waited so long; false: none was found.
	take(q *queue, wait time.Duration) bool
}

// kernel has the BPF programs do it.
type kernel struct{ *Queues }

var _ programs = kernel{}

func (k kernel) send(q *queue) (refused bool) {
	ret, err := bpf.RunTC(k.Send, q.index)
	if err != nil {
		k.Often.Warn("sending what waits for a slot", err.Error(), "error", err)
	}
	return ret == 1
}

// errWaited is why a message that waited in the kernel has no outcome yet: it was not tried.
var errWaited = errors.New("no connection to a pod became free")

func (k kernel) take(q *queue, wait time.Duration) bool {
	k.taking.Lock()
	defer k.taking.Unlock()
	k.Messages.Begin() // before the queue no longer counts it
	before := uint32((clock.Monotonic() - wait) / time.Millisecond)
	args, err := k.control(bpf.EproxyParkOpPARK_OP_TAKE, bpf.EproxyParkArgs{Queue: q.index, BeforeMs: before})
	if err != nil || args.Ok == 0 {
		k.Messages.Cancel()
		return false
	}
	e := k.Memory.Parked.At(args.Number)
	m := e.Message
	req := append([]byte(nil), e.Buf[:min(int(m.RequestLen), len(e.Buf))]...)
	_, err = k.control(bpf.EproxyParkOpPARK_OP_FREE, bpf.EproxyParkArgs{Number: args.Number})
	if err != nil {
		k.Often.Warn("an entry for messages that wait is lost", err.Error(), "error", err)
	}
	k.Messages.FinishParked(q.fn.Load(), m, args.Line, req, errWaited)
	return true
}
