package slots

import (
	"context"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/conntable"
	"eproxy/internal/lograte"
	"eproxy/internal/mapmem"
	"eproxy/internal/neighbours"
	"eproxy/internal/parking"
	"eproxy/internal/podtable"
	"eproxy/internal/slot"
	"eproxy/internal/takeover"
)

// Options of New.
type Options struct {
	Memory   *mapmem.Memory
	Objects  *bpf.EproxyObjects
	Entries  *conntable.Entries
	Depth    uint32 // most requests in flight on one slot that the programs can have
	Idle     Idle
	Queues   *parking.Queues
	Messages *takeover.Messages // what is in flight on a slot that ends is handed to
	Events   Events
	Log      *slog.Logger
	Often    *lograte.Logger
}

// Idle closes idle connections of the fallback's to a pod, and says how many it were.
type Idle interface {
	CloseIdle(function string, pod netip.AddrPort) int
}

// Events is told what happens to pods. No lock of this package is held.
type Events interface {
	// Reached: the first connection to a pod is there, and the programs see it.
	Reached(*Pod)
	// Unseen: the programs do not see the connections to a pod.
	Unseen(*Pod)
	// Drained: nothing is in flight to a pod that drains, or its time is up. It is to be removed.
	Drained(*Pod)
}

// Recorder counts slots that did not come up, and those that ended with one of several requests unanswered.
type Recorder interface {
	ConnectFailed(function, pod string)
	PipelineTrouble(function, pod, reason string)
}

// Pods are those in service. Add, Update, Drain, Remove and Close are one caller's at a time, all other methods may be called at any time.
type Pods struct {
	Options
	ctx      context.Context
	wg       *sync.WaitGroup
	common   slot.Common                     // of all slots
	table    *podtable.Table[Pod, slot.Slot] // entries of pods and slots in service
	recorder atomic.Pointer[Recorder]        // nil before Record

	functions functions
}

// New makes Pods, none yet, whose slots end with ctx and whose goroutines are of wg.
func New(ctx context.Context, wg *sync.WaitGroup, opts Options) *Pods {
	p := &Pods{Options: opts, ctx: ctx, wg: wg, table: podtable.New[Pod, slot.Slot](len(opts.Memory.Pods)),
		common: slot.Common{Ctx: ctx, Memory: opts.Memory, Objects: opts.Objects, Entries: opts.Entries, Messages: opts.Messages, IDSeed: rand.Uint32(), Often: opts.Often,
			Control: func(a *bpf.EproxySlotArgs) error { return bpf.ControlSlot(opts.Objects.SlotControl, a) }}}
	p.table.Use(opts.Memory.Pods)
	return p
}

// Record has slots' fates counted from now on.
func (p *Pods) Record(rec Recorder) { p.recorder.Store(&rec) }

// record counts something, if somebody does.
func (p *Pods) record(what func(Recorder)) {
	if r := p.recorder.Load(); r != nil {
		what(*r)
	}
}

// All are the pods in service, those that drain among them.
func (p *Pods) All() iter.Seq[*Pod] { return p.table.All() }

// named is a pod in service that has slots and does not drain; nil: there is none.
func (p *Pods) named(id ID) *Pod {
	for _, ps := range p.functions.of(id.Function) {
		if ps.id == id && !ps.gone.Load() && !ps.draining.Load() {
			return ps
		}
	}
	return nil
}

// Served says whether some slot of the function is free, or will be, of each family.
func (p *Pods) Served(function string) (served parking.Families) {
	for _, ps := range p.functions.of(function) {
		if !ps.draining.Load() && ps.places.Open() != 0 {
			served[bpf.Flag(ps.id.Address.Addr().Is6())] = true
		}
	}
	return served
}

// Conns are the slots' connections.
func (p *Pods) Conns() (conns []neighbours.Conn) {
	for s := range p.table.Slots() {
		if c, ok := s.Conn(); ok {
			conns = append(conns, c)
		}
	}
	return conns
}

// Room says whether entries were given up that are no other pods' yet.
func (p *Pods) Room() bool { return p.table.Left() }

// Await waits until no program counts any more for what was removed by now.
func (p *Pods) Await() { p.table.Await() }

// warmUp is how long WaitTried waits for slots.
const warmUp = time.Second

// WaitTried waits until each pod has been dialled once, with or without success, so
// that the first messages need not take the slow path; at most for a second.
func (p *Pods) WaitTried(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, warmUp)
	defer cancel()
	for _, ps := range slices.Collect(p.table.All()) {
		select {
		case <-ps.tried:
		case <-ctx.Done():
			return
		}
	}
}

// Close removes all pods.
func (p *Pods) Close() {
	for ps := range p.table.All() {
		p.Remove(ps)
	}
}
