package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/delivery"
)

// handoverBefore is how long before a message's deadline the programs give it up to
// userspace, which settles it; a quarter of the deadline if that is less.
const handoverBefore = time.Second

// queue is the messages of one function that wait for slots in the kernel.
type queue struct {
	plane *Plane
	index uint32
	mem   *bpf.EproxyQueue // its own; count changes at any time
	fn    atomic.Pointer[config.Function]
	gone  atomic.Bool // no configuration has the function any more

	again atomic.Bool // it is to be tended once more
	mu    sync.Mutex  // held while it is
}

// queueTable hands out the queues. A function keeps its own over reloads.
type queueTable struct {
	mu     sync.Mutex
	byName map[string]*queue
	table  []atomic.Pointer[queue] // by index; nil: not in service
	room   parkedRoom
	engine *delivery.Engine // whose queues they are a part of; nil before Start
}

// openParked makes what this process has of the messages that wait for slots.
func (p *Plane) openParked() error {
	t := &p.queues
	t.byName = make(map[string]*queue)
	t.table = make([]atomic.Pointer[queue], p.arrays.queues.Entries())
	return p.initParkedRoom()
}

// parkedRoom is the memory for messages that wait. It grows when the programs ask for more; they ask
// once, until they are told how much there is.
type parkedRoom struct {
	grow func(entry uint32) error   // sees to it that this entry has memory
	tell func(entries uint32) error // tells the programs that so many entries have
	rest func()                     // lets some time pass

	mu      sync.Mutex
	entries uint32 // that have memory
}

// more sees to it that n messages more can wait, up to abi.ParkedMax. Where memory is short the programs
// are told only after a while: else each message that comes would ask again.
func (r *parkedRoom) more(n uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var short error
	for end := min(r.entries+n, abi.ParkedMax); r.entries < end && short == nil; {
		if short = r.grow(r.entries); short == nil {
			r.entries++
		}
	}
	if short != nil {
		r.rest()
	}
	return errors.Join(short, r.tell(r.entries))
}

// initParkedRoom makes the room that is there beforehand.
func (p *Plane) initParkedRoom() error {
	r := &p.queues.room
	r.grow = p.arrays.parked.Grow
	r.tell = func(entries uint32) error {
		_, err := p.parkControl(bpf.EproxyParkOpPARK_OP_ROOM, bpf.EproxyParkArgs{Number: entries})
		return err
	}
	r.rest = func() {
		select {
		case <-p.ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return r.more(abi.ParkedRoom)
}

// moreParked gives the programs the memory that they have asked for.
func (p *Plane) moreParked() {
	if err := p.queues.room.more(abi.ParkedRoom); err != nil {
		p.often.Warn("no memory for more messages that wait", err.Error(), "error", err)
	}
}

// joinQueues makes the queues a part of those of the engine. Nothing waits in them before.
func (p *Plane) joinQueues(engine *delivery.Engine) {
	t := &p.queues
	t.mu.Lock()
	defer t.mu.Unlock()
	t.engine = engine
	for name, q := range t.byName {
		engine.Park(name, q)
	}
}

// parkControl runs the control program of messages that wait for slots.
func (p *Plane) parkControl(op bpf.EproxyParkOp, args bpf.EproxyParkArgs) (bpf.EproxyParkArgs, error) {
	args.Op = uint32(op)
	if _, err := p.objs.ParkControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		return args, fmt.Errorf("park control: %w", err)
	}
	return args, nil
}

// queuesFor is the indexes of the functions' queues, in their order; abi.NoIndex
// where there is none left: such a function's messages wait in userspace.
func (p *Plane) queuesFor(functions []*config.Function) []uint32 {
	t := &p.queues
	t.mu.Lock()
	defer t.mu.Unlock()
	indexes := make([]uint32, len(functions))
	for i, fn := range functions {
		q := t.byName[fn.Name]
		if q == nil {
			q = p.newQueue(fn)
		}
		indexes[i] = abi.NoIndex
		if q != nil {
			indexes[i] = q.index
		}
	}
	return indexes
}

// queueIndex is the index of a function's queue; abi.NoIndex: it has none.
func (p *Plane) queueIndex(function string) uint32 {
	p.queues.mu.Lock()
	defer p.queues.mu.Unlock()
	if q := p.queues.byName[function]; q != nil {
		return q.index
	}
	return abi.NoIndex
}

// newQueue brings a function's queue into service, if there is one left; t.mu is held.
func (p *Plane) newQueue(fn *config.Function) *queue {
	t := &p.queues
	for i := range t.table {
		if t.table[i].Load() != nil {
			continue
		}
		index := uint32(i)
		if err := p.arrays.queues.Grow(index); err != nil {
			p.log.Warn("messages of a function wait in userspace only", "function", fn.Name, "error", err)
			return nil
		}
		q := &queue{plane: p, index: index, mem: p.arrays.queues.At(index)}
		q.mem.Function = abi.NoIndex
		q.fn.Store(fn)
		q.setHandover(fn)
		copy(q.mem.IdPrefix[:], fmt.Sprintf("%08x%04x", p.queueSeed, index))
		t.byName[fn.Name] = q
		t.table[i].Store(q)
		if t.engine != nil {
			t.engine.Park(fn.Name, q)
		}
		return q
	}
	return nil
}

func (q *queue) setHandover(fn *config.Function) {
	wait := fn.Deadline - min(handoverBefore, fn.Deadline/4)
	atomic.StoreUint32(&q.mem.HandoverMs, uint32(min(wait.Milliseconds(), math.MaxInt32)))
}

// switchQueues lets the queues follow a configuration that is in use now. What waits for a
// function that is gone is userspace's: it ends there as what has waited there does.
func (p *Plane) switchQueues(cfg *config.Config) {
	t := &p.queues
	t.mu.Lock()
	defer t.mu.Unlock()
	wanted := make(map[string]bool)
	for _, fn := range cfg.Functions {
		wanted[fn.Name] = true
		q := t.byName[fn.Name]
		if q == nil {
			continue
		}
		id, _ := p.set.Function(fn.Name)
		atomic.StoreUint32(&q.mem.Function, id)
		q.fn.Store(fn)
		q.setHandover(fn)
		q.tend()
	}
	for name, q := range t.byName {
		if !wanted[name] {
			delete(t.byName, name)
			if t.engine != nil {
				t.engine.Park(name, nil)
			}
			p.wg.Go(q.end)
		}
	}
}

// end hands over what waits in a queue that is out of service, also what programs put there that
// have not seen the switch. Then the queue may be another function's.
func (q *queue) end() {
	q.gone.Store(true)
	q.tend()
	for {
		select {
		case <-q.plane.ctx.Done():
			return
		case <-time.After(grace):
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
	q.plane.queues.table[q.index].Store(nil)
	return true
}

var _ delivery.Parked = (*queue)(nil)

// Count is how many messages wait; delivery.Parked.
func (q *queue) Count() int { return int(atomic.LoadUint32(&q.mem.Count)) }

// Allow lets so many messages wait; delivery.Parked.
func (q *queue) Allow(messages int) { atomic.StoreUint32(&q.mem.Most, uint32(messages)) }

// parked is how many messages wait in the kernel, of all functions.
func (p *Plane) parked() int {
	n := 0
	for i := range p.queues.table {
		if q := p.queues.table[i].Load(); q != nil {
			n += q.Count()
		}
	}
	return n
}

// tend sees to messages that wait, in the background: a slot is free that no packet told
// of, or there is none left, or a deadline is near.
func (q *queue) tend() {
	if q.Count() == 0 || q.plane.ctx.Err() != nil || q.again.Swap(true) {
		return
	}
	q.plane.wg.Go(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.again.Store(false)
		q.handOver()
	})
}

// handOver has the programs send what finds a slot, and takes what is userspace's; q.mu is held.
func (q *queue) handOver() {
	for range abi.ParkedMax {
		refused := !q.gone.Load() && q.send()
		if !refused {
			break
		}
		if !q.take(0) { // the one whose turn it is: no other is sent before it
			break
		}
	}
	wait := time.Duration(atomic.LoadUint32(&q.mem.HandoverMs)) * time.Millisecond
	if q.gone.Load() || !q.served() {
		wait = 0
	}
	// The program looks at some of the clients at a time.
	for misses := 0; q.Count() > 0 && misses <= q.Count()/abi.BoundedTurns; {
		if !q.take(wait) {
			misses++
		}
	}
}

// served says whether some slot of the function is free, or will be.
func (q *queue) served() bool {
	name := q.fn.Load().Name
	for ps := range q.plane.table.All() {
		if ps.id.Function != name || ps.draining.Load() {
			continue
		}
		if bits.OnesCount64(ps.open()) > 0 {
			return true
		}
	}
	return false
}

// Where struct __sk_buff has cb, and where cb ends.
const (
	skbCB    = 48
	skbCBEnd = skbCB + 5*4
)

// send has the programs send what finds a slot now. refused: a slot's connection does not take the
// message whose turn it is.
func (q *queue) send() (refused bool) {
	ret, err := runTC(q.plane.objs.ParkSend, q.index)
	if err != nil {
		q.plane.often.Warn("sending what waits for a slot", err.Error(), "error", err)
	}
	return ret == 1
}

// resend has the programs send a slot's oldest request again, if its pod has still not acknowledged it: its time is up.
func (p *Plane) resend(slot, gen uint32) {
	if _, err := runTC(p.objs.RequestsSend, slot, gen); err != nil {
		p.often.Warn("sending a request again", err.Error(), "error", err)
	}
}

// runTC runs a TC program on a packet that only lends its memory, with args in its cb.
func runTC(prog *ebpf.Program, args ...uint32) (uint32, error) {
	skb := make([]byte, skbCBEnd)
	for i, a := range args {
		binary.NativeEndian.PutUint32(skb[skbCB+4*i:], a)
	}
	return prog.Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: skb})
}

// errWaited is why a message that waited in the kernel has no outcome yet: it was not tried.
var errWaited = errors.New("no connection to a pod became free")

// take makes one message userspace's that has waited so long; false if the program found none.
func (q *queue) take(wait time.Duration) bool {
	p := q.plane
	p.finishing.Add(1) // before the queue no longer counts it
	before := uint32((monotonic() - wait) / time.Millisecond)
	args, err := p.parkControl(bpf.EproxyParkOpPARK_OP_TAKE, bpf.EproxyParkArgs{Queue: q.index, BeforeMs: before})
	if err != nil || args.Ok == 0 {
		p.finishing.Add(-1)
		return false
	}
	e := p.arrays.parked.At(args.Number)
	m := e.Message
	req := append([]byte(nil), e.Buf[:min(int(m.RequestLen), len(e.Buf))]...)
	_, err = p.parkControl(bpf.EproxyParkOpPARK_OP_FREE, bpf.EproxyParkArgs{Number: args.Number})
	if err != nil {
		p.often.Warn("an entry for messages that wait is lost", err.Error(), "error", err)
	}
	t := p.newTaken(q.fn.Load(), m.Origin, m.OriginGen, m.Counter)
	if t == nil {
		return true
	}
	t.packetID, t.hold, t.qos, t.arrived, t.req = m.PacketId, m.Hold, m.Qos, time.Duration(m.TakenNs), req
	t.deliver(0, errWaited)
	return true
}

// tendParked sees to what waits for a slot of the pod's function: one is free again.
func (ps *podState) tendParked() {
	p := ps.plane
	index := atomic.LoadUint32(&ps.mem.Queue)
	if index >= uint32(len(p.queues.table)) {
		return
	}
	if q := p.queues.table[index].Load(); q != nil {
		q.tend()
	}
}
