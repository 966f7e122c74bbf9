package parking

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/lograte"
	"eproxy/internal/mapmem"
	"eproxy/internal/takeover"
)

// Options of New.
type Options struct {
	Memory  *mapmem.Memory
	Control *ebpf.Program // park_control
	Send    *ebpf.Program // park_send
	// Served says whether some connection of a pod of the function, of each address family, is free for
	// what waits, or will be.
	Served   func(function string) Families
	Messages *takeover.Messages // what is taken from a queue is handed to
	Log      *slog.Logger
	Often    *lograte.Logger
}

// Families has something for IPv4 and for IPv6, in this order, as PARK_FAMILIES.
type Families [2]bool

// Queues hands out the queues. A function keeps its own over reloads. All methods may be called at any time.
type Queues struct {
	Options
	ctx   context.Context
	wg    *sync.WaitGroup
	seed  uint32 // of the ce-ids of what has waited
	room  room
	lines lines

	programs programs
	taking   sync.Mutex // held from when a message leaves its queue until it is in its line in userspace: another queue may have that line's next one

	mu     sync.Mutex
	byName map[string]*queue
	table  []atomic.Pointer[queue] // by index; nil: not in service
	engine *delivery.Engine        // whose queues they are a part of; nil before Join
}

// New makes Queues, of no function yet, with room for what waits. What there is to do in the background is done in
// goroutines of wg, until ctx ends.
func New(ctx context.Context, wg *sync.WaitGroup, opts Options) (*Queues, error) {
	t := &Queues{Options: opts, ctx: ctx, wg: wg, seed: rand.Uint32(), byName: make(map[string]*queue),
		table: make([]atomic.Pointer[queue], opts.Memory.Queues.Entries())}
	t.programs = kernel{t}
	return t, t.initRoom()
}

// Join makes the queues a part of those of the engine. Nothing waits in them before.
func (t *Queues) Join(engine *delivery.Engine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.engine = engine
	for name, q := range t.byName {
		engine.Park(name, q)
	}
}

// control runs the control program of messages that wait for slots.
func (t *Queues) control(op bpf.EproxyParkOp, args bpf.EproxyParkArgs) (bpf.EproxyParkArgs, error) {
	args.Op = uint32(op)
	if _, err := t.Control.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		return args, fmt.Errorf("park control: %w", err)
	}
	return args, nil
}

// For is the indexes of the functions' queues, in their order; abi.NoIndex
// where there is none left: such a function's messages wait in userspace.
func (t *Queues) For(functions []*config.Function) []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	indexes := make([]uint32, len(functions))
	for i, fn := range functions {
		q := t.byName[fn.Name]
		if q == nil {
			q = t.enter(fn)
		}
		indexes[i] = abi.NoIndex
		if q != nil {
			indexes[i] = q.index
		}
	}
	return indexes
}

// Index is the index of a function's queue; abi.NoIndex: it has none.
func (t *Queues) Index(function string) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q := t.byName[function]; q != nil {
		return q.index
	}
	return abi.NoIndex
}

// enter brings a function's queue into service, if there is one left; t.mu is held.
func (t *Queues) enter(fn *config.Function) *queue {
	for i := range t.table {
		if t.table[i].Load() != nil {
			continue
		}
		index := uint32(i)
		if err := t.Memory.Queues.Grow(index); err != nil {
			t.Log.Warn("messages of a function wait in userspace only", "function", fn.Name, "error", err)
			return nil
		}
		q := &queue{all: t, index: index, mem: t.Memory.Queues.At(index)}
		q.mem.Function = abi.NoIndex
		q.fn.Store(fn)
		q.setHandover(fn)
		copy(q.mem.IdPrefix[:], fmt.Sprintf("%08x%04x", t.seed, index))
		t.byName[fn.Name] = q
		t.table[i].Store(q)
		if t.engine != nil {
			t.engine.Park(fn.Name, q)
		}
		return q
	}
	return nil
}

// Switch lets the queues follow functions that are in use now, and have these indexes. What waits for a
// function that is gone is userspace's: it ends there as what has waited there does.
func (t *Queues) Switch(functions []*config.Function, indexOf func(function string) (uint32, bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wanted := make(map[string]bool)
	for _, fn := range functions {
		wanted[fn.Name] = true
		q := t.byName[fn.Name]
		if q == nil {
			continue
		}
		id, _ := indexOf(fn.Name)
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
			t.wg.Go(q.end)
		}
	}
}

// Tend sees to what waits in the queue of an index, in the background; nothing, if there is none.
func (t *Queues) Tend(index uint32) {
	if index >= uint32(len(t.table)) {
		return
	}
	if q := t.table[index].Load(); q != nil {
		q.tend()
	}
}

// Ready says whether messages of an address family (0: IPv4, 1: IPv6) wait in the queue of an index that the programs may send
// as soon as there is a slot: not those behind another of their line.
func (t *Queues) Ready(index uint32, family uint8) bool {
	if index >= uint32(len(t.table)) {
		return false
	}
	q := t.table[index].Load()
	return q != nil && q.ready(family)
}

// Count is how many messages wait, of all functions.
func (t *Queues) Count() int {
	n := 0
	for i := range t.table {
		if q := t.table[i].Load(); q != nil {
			n += q.Count()
		}
	}
	return n
}

// EachWaited tells of each function that is wanted for how long its messages have waited in the kernel, those together that do
// now, until now, of clock.Monotonic. One goroutine at a time may call it.
func (t *Queues) EachWaited(now time.Duration, wanted func(function string) bool, each func(function string, waited time.Duration)) {
	for i := range t.table {
		if q := t.table[i].Load(); q != nil && wanted(q.fn.Load().Name) {
			each(q.fn.Load().Name, q.backlog.Waited(atomic.LoadUint64(&q.mem.Ids), q.Count(), now))
		}
	}
}

// Waiting is how many messages of a function wait.
func (t *Queues) Waiting(function string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q := t.byName[function]; q != nil {
		return q.Count()
	}
	return 0
}
