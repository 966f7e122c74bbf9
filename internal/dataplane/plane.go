package dataplane

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/broker"
	"eproxy/internal/chunk"
	"eproxy/internal/config"
	"eproxy/internal/conntable"
	"eproxy/internal/counters"
	"eproxy/internal/datapath"
	"eproxy/internal/delivery"
	"eproxy/internal/lograte"
	"eproxy/internal/netview"
	"eproxy/internal/podgro"
	"eproxy/internal/podtable"
	"eproxy/internal/pool"
	"eproxy/internal/reconcile"
	"eproxy/internal/routes"
	"eproxy/internal/trace"
)

// Options of Load.
type Options struct {
	Config *config.Config
	Logger *slog.Logger
}

// Plane is the loaded data plane.
type Plane struct {
	log  *slog.Logger
	path *datapath.Datapath

	objs     *bpf.EproxyObjects // of path
	conns    *conntable.Entries
	devices  *conntable.Devices
	arrays   arrays
	globals  *bpf.EproxyGlobals
	unmap    []func() error
	slots    uint32 // conn indexes below this are slots
	pipeline uint32 // request buffers of a slot, a power of two
	depth    uint32 // most requests in flight on one slot that the programs can have

	table *podtable.Table[podState, slot] // entries of pods and slots in service; changed with mu held

	installing sync.Mutex // held while a configuration is installed, or the network looked at

	routes *routes.Table

	mu       sync.Mutex
	net      *netview.View             // guarded by mu but for Look and Changed; nil until the maps are there
	live     *config.Config            // as it is installed, with the pods of now; nil: none yet
	set      *routes.Set               // its routes
	reasons  reasons                   // of pods that are not served in the best way
	pods     *reconcile.Set[*podState] // that are in service
	own      *pool.Standalone          // the fallback's own connections, to all pods
	often    *lograte.Logger
	engine   *delivery.Engine
	recorder Recorder
	tracer   *trace.Hub // nil: nobody can look at messages

	counts *counters.Table
	queues queueTable

	sender *frameSender
	// of the slots' ce-ids, and of the queues'
	idSeed, queueSeed uint32
	// finishing is how many messages were taken over and have no outcome yet.
	finishing atomic.Int64

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Load loads and pins the programs and maps as datapath.Load does, with the sizes
// that a configuration asks for.
func Load(opts Options) (*Plane, error) {
	cfg := opts.Config
	slots := slotsFor(cfg)
	path, err := load(cfg, slots, opts.Logger)
	if err != nil {
		return nil, err
	}
	p := &Plane{
		log:       opts.Logger,
		path:      path,
		objs:      &path.Objects,
		slots:     slots,
		pipeline:  deepest(cfg),
		depth:     path.Pipeline,
		table:     podtable.New[podState, slot](cfg.Limits.Pods),
		often:     lograte.New(opts.Logger),
		idSeed:    rand.Uint32(),
		queueSeed: rand.Uint32(),
	}
	p.pods = reconcile.New(world{p}, p.log)
	p.own = pool.New(nil)
	p.own.LogTo(p.often)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if err := p.open(cfg); err != nil {
		if derr := p.Detach(); derr != nil {
			p.log.Error("detaching", "error", derr)
		}
		return nil, err
	}
	return p, nil
}

// deepest is the number of request buffers that a slot may need: the largest
// pipeline of any function, rounded up to a power of two. Functions that resources of
// Kubernetes bring later may have the deepest.
func deepest(cfg *config.Config) uint32 {
	if len(cfg.Kubernetes.Routes) > 0 {
		return abi.PipelineMax
	}
	n := uint32(1)
	for _, fn := range cfg.Functions {
		if fn.Pipeline == config.PipelineAuto {
			return abi.PipelineMax
		}
		for n < uint32(fn.Pipeline) {
			n *= 2
		}
	}
	return n
}

// mapped maps a whole map into memory until Close.
func mapped[T any](p *Plane, m *ebpf.Map) ([]T, error) {
	mem, unmap, err := chunk.Map[T](m)
	if err != nil {
		return nil, err
	}
	p.unmap = append(p.unmap, unmap)
	return mem, nil
}

// hintsFor is the size of the hints map for so many connections: a power of
// two, at least twice as many, so that few share an entry.
func hintsFor(conns uint32) uint32 {
	n := uint32(1)
	for n < 2*conns {
		n *= 2
	}
	return n
}

// load loads programs and maps that have room for what a configuration allows, so
// many slots among it.
func load(cfg *config.Config, slots uint32, log *slog.Logger) (*datapath.Datapath, error) {
	return datapath.Load(datapath.Options{
		Dir: cfg.BPFFS, Logger: log,
		Sizes: mapSizes(cfg, slots),
		Knobs: map[string]uint32{"knob_slots": slots, "knob_pod_shift": bpf.PodShift(uint32(cfg.Limits.Pods)),
			"knob_hints": hintsFor(slots + uint32(cfg.Limits.Connections)), "knob_pipeline": deepest(cfg)},
	})
}

// mapSizes is the number of entries of the maps whose size follows from the configuration; of those in chunks, of chunks.
func mapSizes(cfg *config.Config, slots uint32) map[string]uint32 {
	conns := slots + uint32(cfg.Limits.Connections)
	return map[string]uint32{
		"flows": conns, "hints": hintsFor(conns), "attention": (conns + 63) / 64, "conns": chunk.Chunks(conns), "devices": chunk.Chunks(uint32(cfg.Limits.Connections)),
		"slots": chunk.Chunks(slots), "requests": chunk.Chunks(slots + slots*deepest(cfg)), "pod_socks": slots, "pods": uint32(cfg.Limits.Pods), "asleep": uint32(cfg.Limits.Pods),
		"routes": 2 * uint32(cfg.Limits.Routes), "route_names": 2 * uint32(cfg.Limits.Routes),
		"route_counters": chunk.Chunks(routeSeries(cfg)), "route_labels": routeSeries(cfg),
		"pod_counters": chunk.Chunks(podSeries(cfg)), "pod_labels": podSeries(cfg),
	}
}

// open makes what this process has of the maps.
func (p *Plane) open(cfg *config.Config) (err error) {
	spec := p.path.Spec
	p.arrays = newArrays(&p.objs.EproxyMaps, spec, p.path.Dir())
	p.reasons = newReasons(p.objs.PodReasons)
	p.counts = newCounts(counters.Maps{RouteLabels: p.objs.RouteLabels, RouteCounters: p.arrays.routeCounters,
		PodLabels: p.objs.PodLabels, PodCounters: p.arrays.podCounters}, cfg)
	pods, err := mapped[bpf.EproxyPod](p, p.objs.Pods)
	if err != nil {
		return err
	}
	p.table.Use(pods)
	g, err := mapped[bpf.EproxyGlobals](p, p.objs.Settings)
	if err != nil {
		return err
	}
	p.globals = &g[0]
	if p.routes, err = routes.New(&p.objs.EproxyMaps, p.globals, p.log); err != nil {
		return err
	}
	p.net = netview.New(p.path, podgro.New(p.objs.PodsGro), &p.globals.XdpIdle, p.log, p.often)
	if err := p.openParked(); err != nil {
		return err
	}
	p.conns = conntable.NewEntries(p.objs, p.arrays.conns, p.often)
	p.devices = conntable.New(p.objs, p.conns, p.arrays.devices, &p.globals.ConnsEnd, p.slots, uint32(cfg.Limits.Connections), p.log)
	mark, err := bpf.Knob(spec, "knob_mark")
	if err != nil {
		return err
	}
	if p.sender, err = newFrameSender(mark); err != nil {
		return err
	}
	return nil
}

// Recorder counts messages that the kernel path took and userspace finished,
// the requests of theirs that the programs have sent, interfaces that were
// deleted, and slots that did not come up.
type Recorder interface {
	Message(route, function string, qos byte, outcome string, took time.Duration)
	// Request counts a request that was not answered in the kernel path; status 0: no response.
	Request(function, pod string, status int)
	InterfaceGone(name string)
	ConnectFailed(function, pod string)
	Stray(reason string) // a connection of a device that no program sees
	// PipelineTrouble counts a connection that ended, for this reason, with one of several requests unanswered.
	PipelineTrouble(function, pod, reason string)
}

// Start begins to serve: events, sweeps. engine finishes what the kernel path
// hands over, rec counts it.
func (p *Plane) Start(engine *delivery.Engine, rec Recorder) error {
	p.mu.Lock()
	p.engine, p.recorder = engine, rec
	p.mu.Unlock()
	p.joinQueues(engine)
	if err := p.startEvents(); err != nil {
		return err
	}
	if err := p.startWakes(); err != nil {
		return err
	}
	if err := p.startSweeper(); err != nil {
		return fmt.Errorf("start the sweeper's timer: %w", err)
	}
	p.wg.Go(func() { p.devices.Run(p.ctx) })
	p.wg.Go(func() { p.devices.WatchStrays(p.ctx, p.stray) })
	return p.startWatch()
}

// sweeperTries is how often the sweeper's timer is tried, a millisecond apart: the
// kernel may have no memory for it at the moment, for which it does not wait.
const sweeperTries = 1000

// startSweeper starts the timer that looks for what no packet brings about.
func (p *Plane) startSweeper() error {
	var err error
	for range sweeperTries {
		var ret uint32
		if ret, err = p.objs.SweepStart.Run(&ebpf.RunOptions{}); err != nil || ret == 0 {
			return err
		}
		err = unix.Errno(-int32(ret))
		time.Sleep(time.Millisecond)
	}
	return err
}

// Established arms a client's connection; broker.Grafter.
func (p *Plane) Established(ci broker.ConnInfo) broker.Graft { return p.devices.Established(ci) }

// SetDraining makes the programs take nothing more (or take again).
func (p *Plane) SetDraining(on bool) {
	var v uint32
	if on {
		v = 1
	}
	p.globals.Draining = v
}

// InFlight is the number of messages that the kernel path took and that have no
// outcome yet.
func (p *Plane) InFlight() int {
	n := int(p.finishing.Load()) + p.parked()
	p.mu.Lock()
	defer p.mu.Unlock()
	for ps := range p.table.All() {
		for _, s := range ps.slots {
			n += int(s.inFlight())
		}
	}
	return n
}

// Drain stops taking and waits until nothing is in flight or ctx ends.
func (p *Plane) Drain(ctx context.Context) {
	p.SetDraining(true)
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for p.InFlight() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Close stops all goroutines and releases everything this process holds. Pins
// and attachments stay, so that open connections remain truthful; Detach and
// Unload remove them.
func (p *Plane) Close() {
	p.release()
	p.path.Close()
}

// Detach is Close, and nothing stays attached or pinned. No other loader can
// start before that is so.
func (p *Plane) Detach() error {
	p.release()
	return p.path.Detach()
}

func (p *Plane) release() {
	p.cancel()
	p.closeSlots()
	_ = p.own.Close()
	p.wg.Wait()
	p.often.Close()
	if p.sender != nil {
		p.sender.Close()
	}
	if p.routes != nil {
		p.routes.Close()
	}
	p.arrays.close()
	for _, u := range p.unmap {
		_ = u()
	}
}

// stray counts and logs a device's connection that no program has seen.
func (p *Plane) stray(s conntable.Stray) {
	p.recorder.Stray(s.Reason)
	p.often.Warn("a device's connection stays with the fallback, no program sees it", s.Reason+" "+s.Local.String(),
		"client", s.ClientID, "local", s.Local, "reason", s.Why)
}
