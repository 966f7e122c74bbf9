package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"eproxy/internal/bpf/observer"
	"eproxy/internal/config"
	"eproxy/internal/pindir"
	"eproxy/internal/reach"
)

const (
	// every is how often interfaces are looked at, and idle connections forgotten.
	every = 10 * time.Second
	// grace is how long a pod is observed after it is wanted no more: what it has in
	// flight may end.
	grace = 5 * time.Minute
	// idle and gone are after how long without a packet a connection is forgotten on
	// which nothing, and on which something is awaited.
	idle = 5 * time.Minute
	gone = time.Hour
	// noPod is NO_INDEX of bpf/abi.
	noPod = ^uint32(0)
)

// Observer is the loaded programs and what they are to look at.
type Observer struct {
	log  *slog.Logger
	objs observer.ObserveObjects

	mu       sync.Mutex
	pods     map[netip.AddrPort]*pod
	taken    []bool                          // indexes of the counters in use
	attached map[int]*hooks                  // by interface
	refused  map[string]bool                 // interfaces that the log has named
	followed int                             // connections, at the latest sweep
	each     []observer.ObserveObserveCounts // of a pod, by processor, while they are added up

	generation uint64    // another one whenever the metrics' labels are
	trees      sync.Pool // of *tree
}

// pod is one whose traffic is counted.
type pod struct {
	address   netip.AddrPort
	functions string // their names, with commas between; of how many it is a pod
	index     uint32
	ifname    string    // that leads to it; empty: none that programs can be attached to
	left      time.Time // since it is wanted no more; zero: it is
	unlisted  bool      // the programs begin to follow none of its connections any more
	flown     [1 + len(observer.InFlight{}.Marked)]flown
}

// Options of Load.
type Options struct {
	BPFFS       string // where the other programs' maps are pinned
	Connections int    // most that are followed
	Pods        int    // limits.pods
	Logger      *slog.Logger
}

// Load loads the programs; none is attached yet. The maps of the other programs must be
// pinned already.
func Load(o Options) (*Observer, error) {
	spec, err := observer.LoadObserve()
	if err != nil {
		return nil, fmt.Errorf("read BPF object of the observer: %w", err)
	}
	pods := uint32(4 * o.Pods)
	spec.Maps["observed_conns"].MaxEntries = uint32(o.Connections)
	for _, name := range []string{"observed_pods", "observed", "observed_flight"} {
		spec.Maps[name].MaxEntries = pods
	}
	shared := make(map[string]*ebpf.Map)
	for _, name := range []string{"flows", "slots"} {
		m, err := ebpf.LoadPinnedMap(pindir.Path(o.BPFFS, "maps", name), nil)
		if err != nil {
			return nil, fmt.Errorf("open pinned map %s: %w", name, err)
		}
		defer m.Close() // the programs hold it
		shared[name] = m
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	if err := spec.Variables["knob_slots"].Set(shared["slots"].MaxEntries() * chunkSize(spec)); err != nil {
		return nil, fmt.Errorf("set knob_slots: %w", err)
	}
	x := &Observer{log: o.Logger, each: make([]observer.ObserveObserveCounts, ebpf.MustPossibleCPU()), pods: make(map[netip.AddrPort]*pod), taken: make([]bool, pods),
		attached: make(map[int]*hooks), refused: make(map[string]bool)}
	if err := spec.LoadAndAssign(&x.objs, &ebpf.CollectionOptions{MapReplacements: shared}); err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			o.Logger.Debug("verifier", "log", fmt.Sprintf("%+v", ve))
		}
		return nil, fmt.Errorf("load the BPF programs of the observer: %w", err)
	}
	return x, nil
}

// chunkSize is how many slots a chunk has.
func chunkSize(spec *ebpf.CollectionSpec) uint32 { return spec.Maps["slots"].InnerMap.MaxEntries }

// Close detaches the programs.
func (o *Observer) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, h := range o.attached {
		h.close()
	}
	clear(o.attached)
	_ = o.objs.Close()
}

// Follow has the pods of a configuration observed, and no others for longer than what they
// have in flight may take.
func (o *Observer) Follow(cfg *config.Config) {
	names := make(map[netip.AddrPort][]string)
	for _, fn := range cfg.Functions {
		for _, a := range fn.Pods {
			names[a] = append(names[a], fn.Name)
		}
	}
	node := reach.Node{Interfaces: cfg.Interfaces}
	o.mu.Lock()
	defer o.mu.Unlock()
	for a, p := range o.pods {
		if names[a] == nil && p.left.IsZero() {
			p.left = time.Now()
		}
	}
	for a, functions := range names {
		slices.Sort(functions)
		o.want(a, strings.Join(slices.Compact(functions), ","), node.To(a.Addr()))
	}
	o.ports()
	o.attach()
}

// want has a pod observed; o.mu is held.
func (o *Observer) want(a netip.AddrPort, functions string, path reach.Path) {
	p := o.pods[a]
	if p == nil {
		index, ok := o.free()
		if !ok {
			o.log.Warn("pod is not observed: there are too many", "pod", a)
			return
		}
		p = &pod{address: a, index: index}
		o.pods[a] = p
		o.taken[index] = true
		o.generation++
		key := podKey(a)
		if err := errors.Join(o.objs.ObservedFlight.Put(index, &observer.ObserveObserveFlight{}), o.objs.ObservedPods.Put(&key, index)); err != nil {
			o.log.Warn("pod is not observed", "pod", a, "error", err)
		}
	} else if p.unlisted {
		key := podKey(a)
		if err := o.objs.ObservedPods.Put(&key, p.index); err != nil {
			o.log.Warn("pod is not observed", "pod", a, "error", err)
		}
		p.unlisted = false
	}
	if p.functions != functions {
		o.generation++
	}
	p.functions, p.ifname, p.left = functions, path.Interface, time.Time{}
	if path.Interface == "" && !o.refused[a.String()] {
		o.refused[a.String()] = true
		o.log.Warn("pod is not observed", "pod", a, "reason", path.Reason)
	}
}

// free is an index whose counters are at zero; o.mu is held.
func (o *Observer) free() (uint32, bool) {
	i := slices.Index(o.taken, false)
	if i < 0 {
		return 0, false
	}
	zero := make([]observer.ObserveObserveCounts, ebpf.MustPossibleCPU())
	return uint32(i), o.objs.Observed.Put(uint32(i), zero) == nil
}

// Run looks after connections and interfaces until ctx ends.
func (o *Observer) Run(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := o.sweep(idle, gone); err != nil {
				o.log.Warn("idle connections to pods cannot be forgotten", "error", err)
			}
			o.mu.Lock()
			o.integrate()
			o.forgetPods(time.Now())
			o.attach()
			o.mu.Unlock()
		}
	}
}

// integrate reads what is in flight before so much comes that its bits would not say how much; o.mu is held.
func (o *Observer) integrate() {
	for _, p := range o.pods {
		if _, err := o.flight(p, &observer.ObserveObserveCounts{}); err != nil {
			o.log.Warn("what is in flight cannot be read", "error", err)
		}
	}
}

// ports has the programs look at the ports of the pods; o.mu is held.
func (o *Observer) ports() {
	var ports []uint16
	for a := range o.pods {
		ports = append(ports, podKey(a).Port)
	}
	if err := o.objs.ObservePorts(ports...); err != nil {
		o.log.Warn("pods are not observed", "error", err)
	}
}

// forgetPods gives up those that are wanted no more for long; o.mu is held. Their connections go a round after no new
// one is followed: a program that has just begun one has ended by then.
func (o *Observer) forgetPods(now time.Time) {
	for a, p := range o.pods {
		if p.left.IsZero() || now.Sub(p.left) < grace {
			continue
		}
		key := podKey(a)
		if err := o.objs.ObservedPods.Delete(&key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if !p.unlisted {
			p.unlisted = true
			continue
		}
		if _, err := o.forget(observer.ObserveObserveSweep{IdleNs: uint64(idle), GoneNs: uint64(gone), Pod: p.index}); err != nil {
			o.log.Warn("connections to a pod that has left cannot be forgotten", "pod", a, "error", err)
			continue
		}
		delete(o.pods, a)
		o.generation++
		o.taken[p.index] = false
	}
	o.ports()
}

// forget has the programs forget connections.
func (o *Observer) forget(args observer.ObserveObserveSweep) (out observer.ObserveObserveSweep, err error) {
	if _, err := o.objs.ObserveForget.Run(&ebpf.RunOptions{Context: &args, ContextOut: &out}); err != nil {
		return out, fmt.Errorf("run observe_forget: %w", err)
	}
	return out, nil
}

// sweep forgets connections on which nothing has happened for long.
func (o *Observer) sweep(idle, gone time.Duration) error {
	out, err := o.forget(observer.ObserveObserveSweep{IdleNs: uint64(idle), GoneNs: uint64(gone), Pod: noPod})
	if err != nil {
		return err
	}
	o.mu.Lock()
	o.followed = int(out.Kept)
	o.mu.Unlock()
	return nil
}

// podKey is an address as the programs have it.
func podKey(a netip.AddrPort) (k observer.ObserveObservePod) {
	b := a.Addr().As16()
	for i := range k.Address {
		k.Address[i] = native32(b[4*i:])
	}
	k.Port = a.Port()>>8 | a.Port()<<8
	return k
}

// monotonic is the programs' clock, nanoseconds.
func monotonic() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return uint64(t.Nano())
}
