package slots

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/places"
	"eproxy/internal/reach"
	"eproxy/internal/reconcile"
	"eproxy/internal/routes"
	"eproxy/internal/scale"
	"eproxy/internal/slot"
	"eproxy/internal/trials"
)

// grace is how long the programs may still use what was taken out of service.
const grace = routes.Grace

// unackedLimit is how long a request may stay unacknowledged by the pod's
// TCP before the pod counts as gone: several retransmission timeouts.
const unackedLimit = time.Second

// ID names a pod of a function.
type ID = reconcile.ID

// Pod is one pod of one function with its slots.
type Pod struct {
	all   *Pods
	id    ID
	index uint32         // in the pods map
	mem   *bpf.EproxyPod // of that index
	fn    atomic.Pointer[config.Function]
	slots []*slot.Slot // as many as there may be; those that are needed are connected
	log   *slog.Logger // says which pod it is

	places *places.Places
	trials *trials.Trials
	scale  *scale.Scale

	ifindex int
	// draining: it gets no more messages, those in flight may end; gone: it is out of service.
	draining, gone atomic.Bool
	over           chan struct{} // closed when all slots have ended
	tried          chan struct{} // closed when a connection was made, or failed
	first          sync.Once
	seen           atomic.Bool          // the programs saw a connection of some slot
	lacks          atomic.Bool          // GRO could not be switched on: its network namespace was not found
	unseen         atomic.Int32         // connections that they did not see
	rest           atomic.Pointer[Rest] // nil: it is awake
}

// ID names the pod.
func (ps *Pod) ID() ID { return ps.id }

// Index is where it is in the pods map.
func (ps *Pod) Index() uint32 { return ps.index }

// Ifindex is the interface that leads to it.
func (ps *Pod) Ifindex() int { return ps.ifindex }

// Far says whether it is on another node.
func (ps *Pod) Far() bool { return ps.mem.Far != 0 }

// Redirects says whether it takes XDP redirects.
func (ps *Pod) Redirects() bool { return ps.mem.XdpOk != 0 }

// EndRedirects has it take none any more.
func (ps *Pod) EndRedirects() { ps.mem.XdpOk = 0 }

// Counter is the index of its counters.
func (ps *Pod) Counter() uint32 { return ps.mem.Counter }

// Draining says whether it gets no more messages.
func (ps *Pod) Draining() bool { return ps.draining.Load() }

// Gone says whether it is out of service.
func (ps *Pod) Gone() bool { return ps.gone.Load() }

// Lacks says whether GRO could not be switched on because the pod's network namespace was not found.
func (ps *Pod) Lacks() bool { return ps.lacks.Load() }

// SetLacks notes that.
func (ps *Pod) SetLacks(lacks bool) { ps.lacks.Store(lacks) }

// Add brings a pod into service behind an interface that the programs are attached to, and dials its first slot. It counts under counter.
// reconcile.ErrUsedUp: there is no entry left.
func (p *Pods) Add(fn *config.Function, addr netip.AddrPort, ifindex int, counter func() (uint32, error)) (*Pod, error) {
	index, ok := p.table.Free()
	if !ok {
		return nil, fmt.Errorf("limits.pods (%d) %w", p.table.Size(), reconcile.ErrUsedUp)
	}
	if err := p.Memory.GrowSlot(index, false); err != nil { // its first slot's
		return nil, err
	}
	count, err := counter()
	if err != nil {
		return nil, err
	}
	ps := &Pod{all: p, id: ID{Function: fn.Name, Address: addr}, index: index, mem: p.table.Memory(index), ifindex: ifindex,
		log: p.Log.With("function", fn.Name, "pod", addr), over: make(chan struct{}), tried: make(chan struct{})}
	*ps.mem = bpf.EproxyPod{
		FirstSlot: index, Ifindex: uint32(ifindex), Ipv6: bpf.Flag(addr.Addr().Is6()),
		Address: bpf.Address(addr.Addr()), Port: bpf.Port(addr.Port()), Concurrency: uint16(fn.Concurrency), Up: abi.PodUp, UnackedMs: uint32(unackedLimit / time.Millisecond),
		Counter: count, Queue: p.Queues.Index(fn.Name),
	}
	ps.fn.Store(fn)
	ps.makeSlots(fn.Concurrency)
	ps.configure(fn)
	p.table.Enter(ps.index, ps, ps.slots)
	p.functions.add(ps)
	ps.scale.Grow()
	return ps, nil
}

// makeSlots makes a pod's slots, of which most may be connected, and what decides about them.
func (ps *Pod) makeSlots(most int) {
	p := ps.all
	of := &slot.Of{Index: ps.index, Address: ps.id.Address, Log: ps.log}
	for i := range abi.SlotsPerPod {
		ps.slots = append(ps.slots, slot.New(&p.common, ps, slot.At{Index: p.table.SlotIndex(ps.index, uint32(i)), Bit: uint(i), Of: of}))
	}
	ps.places = places.New(ps, ps.mem, ps.slots)
	ps.trials = trials.New(trials.Options{Entry: ps.mem, Slots: ps.slots, Most: p.Depth, Log: ps.log,
		Open: func() uint64 { return ps.scale.Open() }})
	ps.scale = scale.New(p.ctx, scale.Options{Pod: ps, Most: most, Entry: ps.mem, Slots: ps.slots, Places: ps.places, Trials: ps.trials, Log: ps.log})
}

// Update gives a pod its function's configuration, the index that the function has with the programs, and its path.
func (p *Pods) Update(ps *Pod, fn *config.Function, function uint32, path reach.Path) {
	ps.setFunction(fn)
	ps.mem.Function = function
	ps.mem.Queue = p.Queues.Index(fn.Name)
	ps.mem.XdpOk = bpf.Flag(path.Way == reach.XDP)
	ps.mem.PeerOk = bpf.Flag(path.Peer)
	ps.mem.Far = uint32(bpf.Flag(path.Far))
}

// setFunction gives the pod the current configuration of its function.
func (ps *Pod) setFunction(fn *config.Function) {
	if ps.fn.Swap(fn) != fn {
		ps.configure(fn)
	}
}

// configure has the pod's parts follow its function's configuration.
func (ps *Pod) configure(fn *config.Function) {
	ps.mem.Concurrency = uint16(fn.Concurrency)
	ps.scale.Resize(fn.Concurrency)
	ps.trials.Configure(fn.Pipeline)
	atomic.StoreUint32(&ps.mem.TimeoutMs, uint32(min(fn.Timeout.Milliseconds(), math.MaxInt32)))
}

// drainEvery is how often a pod that drains is looked at: nobody is told of a
// response that the programs digest.
const drainEvery = 10 * time.Millisecond

// Drain has a pod get no more messages. Events.Drained is told when those that
// it has in flight have ended, or could not count any more if they did. The pool
// has dropped the pod, and no function lists it.
func (p *Pods) Drain(ps *Pod) {
	ps.draining.Store(true)
	ps.rouse()
	ps.places.Close()
	ps.mem.Up = abi.PodDrains
	ps.Freed() // perhaps no other takes what waits
	limit := ps.fn.Load().Timeout
	p.wg.Go(func() {
		over := time.NewTimer(limit)
		defer over.Stop()
		t := time.NewTicker(drainEvery)
		defer t.Stop()
		for ps.scale.CloseDrained() > 0 {
			select {
			case <-p.ctx.Done():
				return
			case <-over.C:
				ps.log.Info("pod goes with messages in flight", "after", limit)
			case <-t.C:
				continue
			}
			break
		}
		p.Events.Drained(ps)
	})
}

// Remove takes a pod out of service; what is in flight in its slots is taken
// over: QoS 1 is retried elsewhere, QoS 0 is lost.
func (p *Pods) Remove(ps *Pod) {
	ps.gone.Store(true)
	ps.rouse()
	ps.places.Close()
	ps.mem.Up = 0
	ps.scale.Stop()
	p.wg.Go(func() {
		ps.scale.Wait()
		time.AfterFunc(grace, func() { close(ps.over) })
	})
	p.table.Leave(ps.index, ps.over)
	p.functions.remove(ps)
	ps.Freed() // perhaps no other takes what waits
}
