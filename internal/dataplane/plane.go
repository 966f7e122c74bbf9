package dataplane

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"eproxy/internal/broker"
	"eproxy/internal/config"
	"eproxy/internal/conntable"
	"eproxy/internal/counters"
	"eproxy/internal/datapath"
	"eproxy/internal/delivery"
	"eproxy/internal/lines"
	"eproxy/internal/lograte"
	"eproxy/internal/mapmem"
	"eproxy/internal/netview"
	"eproxy/internal/parking"
	"eproxy/internal/podgro"
	"eproxy/internal/pool"
	"eproxy/internal/routes"
	"eproxy/internal/slots"
	"eproxy/internal/takeover"
	"eproxy/internal/trace/programs"
)

// Options of Load.
type Options struct {
	Config *config.Config
	Logger *slog.Logger
}

// Plane is the loaded data plane: its parts, and which configuration they have. What each part owns is written in
// its package's doc.go.
type Plane struct {
	log   *slog.Logger
	often *lograte.Logger

	path     *datapath.Datapath
	mem      *mapmem.Memory
	names    lines.Names
	devices  *conntable.Devices
	routes   table
	counts   *counters.Table
	queues   *parking.Queues
	messages *takeover.Messages
	shown    *programs.Programs // of what the programs do with messages
	slots    *slots.Pods
	own      *pool.Standalone // the fallback's own connections, to all pods

	installed *installed
	run       run
}

// run is what ends with Close.
type run struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Load loads and pins the programs and maps as datapath.Load does, with the sizes
// that a configuration asks for.
func Load(opts Options) (*Plane, error) {
	cfg := opts.Config
	path, err := datapath.Load(datapath.Options{Dir: cfg.BPFFS, Logger: opts.Logger, Sizes: mapmem.Sizes(cfg), Knobs: mapmem.Knobs(cfg)})
	if err != nil {
		return nil, err
	}
	p := &Plane{log: opts.Logger, path: path, often: lograte.New(opts.Logger), names: lines.New()}
	p.own = pool.New(nil)
	p.own.LogTo(p.often)
	p.run.ctx, p.run.cancel = context.WithCancel(context.Background())
	if err := p.open(cfg); err != nil {
		if derr := p.Detach(); derr != nil {
			p.log.Error("detaching", "error", derr)
		}
		return nil, err
	}
	return p, nil
}

// open makes the parts of a loaded datapath. Each is given what was made before it, so that none needs the others to begin.
func (p *Plane) open(cfg *config.Config) (err error) {
	o := &p.path.Objects
	if p.mem, err = mapmem.Open(p.path, cfg); err != nil {
		return err
	}
	p.counts = newCounts(counters.Maps{RouteLabels: o.RouteLabels, RouteCounters: p.mem.RouteCounters,
		PodLabels: o.PodLabels, PodCounters: p.mem.PodCounters}, cfg)
	table, err := routes.New(&o.EproxyMaps, p.mem.Globals, p.names, p.log)
	if err != nil {
		return err
	}
	p.routes = table
	conns := conntable.NewEntries(o, p.mem.Conns, p.often)
	p.devices = conntable.New(o, conns, p.mem, uint32(cfg.Limits.Connections), p.names, p.log)
	p.shown = &programs.Programs{Tracings: o.Tracings, Traced: o.Traced, Traces: o.Traces, On: &p.mem.Globals.Tracing, Names: traceNames{p}}
	p.messages = takeover.New(p.run.ctx, &p.run.wg, p.counts, p.devices)
	p.queues, err = parking.New(p.run.ctx, &p.run.wg, parking.Options{Memory: p.mem, Control: o.ParkControl, Send: o.ParkSend,
		Served: func(function string) parking.Families { return p.slots.Served(function) }, Messages: p.messages, Log: p.log, Often: p.often})
	if err != nil {
		return err
	}
	p.messages.Order(p.queues)
	p.slots = slots.New(p.run.ctx, &p.run.wg, slots.Options{Memory: p.mem, Objects: o, Entries: conns, Depth: p.path.Pipeline, Idle: p.own,
		Queues: p.queues, Messages: p.messages, Events: podEvents{p}, Log: p.log, Often: p.often})
	p.installed = newInstalled(world{p}, netview.New(p.path, podgro.New(o.PodsGro), &p.mem.Globals.XdpIdle, p.log, p.often), newReasons(o.PodReasons), p.log)
	return nil
}

// Recorder counts messages that the kernel path took and userspace finished,
// the requests of theirs that the programs have sent, interfaces that were
// deleted, and slots that did not come up.
type Recorder interface {
	takeover.Recorder
	slots.Recorder
	InterfaceGone(name string)
	Stray(reason string) // a connection of a device that no program sees
}

// Start begins to serve: events, sweeps. engine finishes what the kernel path
// hands over, rec counts it.
func (p *Plane) Start(engine *delivery.Engine, rec Recorder) error {
	p.messages.Start(engine, rec)
	p.slots.Record(rec)
	p.queues.Join(engine)
	if err := p.startEvents(); err != nil {
		return err
	}
	if err := p.startCopies(); err != nil {
		return err
	}
	if err := p.slots.StartWakes(); err != nil {
		return err
	}
	if err := p.startSweeper(); err != nil {
		return fmt.Errorf("start the sweeper's timer: %w", err)
	}
	p.run.wg.Go(func() { p.devices.Run(p.run.ctx) })
	p.run.wg.Go(func() { p.devices.WatchStrays(p.run.ctx, func(s conntable.Stray) { p.stray(rec, s) }) })
	return p.startWatch(rec)
}

// sweeperTries is how often the sweeper's timer is tried, a millisecond apart: the
// kernel may have no memory for it at the moment, for which it does not wait.
const sweeperTries = 1000

// startSweeper starts the timer that looks for what no packet brings about.
func (p *Plane) startSweeper() error {
	var err error
	for range sweeperTries {
		var ret uint32
		if ret, err = p.path.Objects.SweepStart.Run(&ebpf.RunOptions{}); err != nil || ret == 0 {
			return err
		}
		err = unix.Errno(-int32(ret))
		time.Sleep(time.Millisecond)
	}
	return err
}

// Established arms a client's connection; broker.Grafter.
func (p *Plane) Established(ci broker.ConnInfo) broker.Graft { return p.devices.Established(ci) }

// Hold has the server stand in front in a line; broker.Orderer.
func (p *Plane) Hold(client, filter string, again func()) (f broker.Front, ok bool) {
	f.Line = p.names.Line(client, filter)
	f.Number, ok = p.queues.Hold(f.Line, again)
	return f, ok
}

// Release ends that; broker.Orderer.
func (p *Plane) Release(f broker.Front) { p.queues.Release(f.Line, f.Number) }

// SetDraining makes the programs take nothing more (or take again).
func (p *Plane) SetDraining(on bool) {
	var v uint32
	if on {
		v = 1
	}
	p.mem.Globals.Draining = v
}

// InFlight is the number of messages that the kernel path took and that have no
// outcome yet.
func (p *Plane) InFlight() int { return p.messages.Open() + p.queues.Count() + p.slots.InFlight() }

// WaitSlots waits until each pod has been dialled once, with or without success, so
// that the first messages need not take the slow path; at most for a second.
func (p *Plane) WaitSlots(ctx context.Context) { p.slots.WaitTried(ctx) }

// Rest puts a pod to sleep that has nothing to do: slots.Pods.
func (p *Plane) Rest(function string, pod netip.AddrPort, wake func()) (r *slots.Rest, busy bool) {
	return p.slots.Rest(function, pod, wake)
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
	p.run.cancel()
	if p.slots != nil {
		p.closeSlots()
	}
	_ = p.own.Close()
	p.run.wg.Wait()
	p.often.Close()
	if p.routes != nil {
		p.routes.Close()
	}
	if p.mem != nil {
		p.mem.Close()
	}
}

// stray counts and logs a device's connection that no program has seen.
func (p *Plane) stray(rec Recorder, s conntable.Stray) {
	rec.Stray(s.Reason)
	p.often.Warn("a device's connection stays with the fallback, no program sees it", s.Reason+" "+s.Local.String(),
		"client", s.ClientID, "local", s.Local, "reason", s.Why)
}
