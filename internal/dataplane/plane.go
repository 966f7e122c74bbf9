package dataplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/privilege"
)

// ErrRunning is returned by Load when another process holds the lock.
var ErrRunning = errors.New("another loader is running")

// ErrRefused is returned by Load when the kernel does not take the programs or
// their maps.
var ErrRefused = errors.New("load BPF programs")

// Options of Load.
type Options struct {
	Config *config.Config
	Logger *slog.Logger
}

// Plane is the loaded data plane.
type Plane struct {
	log  *slog.Logger
	dir  string // pins, under bpffs
	lock *os.File

	objs     bpf.EproxyObjects
	devices  []bpf.EproxyDevice
	slotMem  []bpf.EproxySlot
	requests []bpf.EproxyRequest
	podMem   []bpf.EproxyPod
	globals  *bpf.EproxyGlobals
	unmap    []func() error
	slots    uint32 // conn indexes below this are slots
	pipeline uint32 // request buffers of a slot, a power of two
	depth    uint32 // most requests in flight on one slot that the programs can have
	links    []link.Link
	attached map[string]bool // what is attached, by pin name

	flowMu    sync.Mutex             // look-up and change of the flows map belong together
	slotTable []atomic.Pointer[slot] // by conn index; nil: not in service

	mu     sync.Mutex
	routes *routeTable
	// oldRoutes is the table before the last reload: messages in flight may name it.
	oldRoutes *routeTable
	conns     connTable
	podByID   map[uint32]*podState
	podKey    map[podID]*podState
	engine    *delivery.Engine
	recorder  Recorder

	sender *frameSender
	idSeed uint32
	// inflightMax is how many messages of one client may be in flight in the kernel path.
	inflightMax atomic.Uint32
	// finishing is how many messages were taken over and have no outcome yet.
	finishing atomic.Int64
	wake      chan struct{} // closed and replaced whenever userspace frees a slot
	wakeMu    sync.Mutex

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Load creates the maps, loads the programs, and pins both under
// Config.BPFFS: into a temporary directory first, renamed into place when all
// is there. Pins that a dead loader left are removed. It returns ErrRunning if
// a living one holds them.
func Load(opts Options) (*Plane, error) {
	cfg := opts.Config
	if err := privilege.Check(); err != nil {
		return nil, fmt.Errorf("loading BPF programs %w", err)
	}
	if err := checkBPFFS(cfg.BPFFS); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift memlock limit: %w", err)
	}
	lock, err := acquireLock(cfg.BPFFS)
	if err != nil {
		return nil, err
	}
	if err := Unpin(cfg.BPFFS); err != nil {
		lock.Close()
		return nil, fmt.Errorf("remove what an earlier loader left: %w", err)
	}

	p := &Plane{
		log:       opts.Logger,
		dir:       cfg.BPFFS,
		lock:      lock,
		slots:     uint32(cfg.Limits.Pods) * abi.SlotsPerPod,
		pipeline:  deepest(cfg),
		attached:  make(map[string]bool),
		slotTable: make([]atomic.Pointer[slot], cfg.Limits.Pods*abi.SlotsPerPod),
		podByID:   make(map[uint32]*podState),
		podKey:    make(map[podID]*podState),
		idSeed:    rand.Uint32(),
		wake:      make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if err := p.load(cfg); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// deepest is the number of request buffers that each slot needs: the largest
// pipeline of any function, rounded up to a power of two.
func deepest(cfg *config.Config) uint32 {
	n := uint32(1)
	for _, fn := range cfg.Functions {
		for n < uint32(fn.Pipeline) {
			n *= 2
		}
	}
	return n
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

func (p *Plane) load(cfg *config.Config) error {
	object := bpf.Choose()
	p.depth = object.Pipeline
	spec, err := object.Load()
	if err != nil {
		return fmt.Errorf("read BPF object: %w", err)
	}
	conns := p.slots + uint32(cfg.Limits.Connections)
	hints := hintsFor(conns)
	sizes := map[string]uint32{
		"flows": conns, "hints": hints, "conns": conns, "devices": uint32(cfg.Limits.Connections),
		"slots": p.slots, "requests": p.slots * p.pipeline, "pod_socks": p.slots, "pods": uint32(cfg.Limits.Pods),
		"pod_counters": uint32(cfg.Limits.Pods),
		"routes":       2 * uint32(cfg.Limits.Routes), "route_counters": 2 * uint32(cfg.Limits.Routes),
		"route_names": 2 * uint32(cfg.Limits.Routes),
	}
	for name, n := range sizes {
		spec.Maps[name].MaxEntries = n
	}
	for name, v := range map[string]uint32{"knob_slots": p.slots, "knob_hints": hints, "knob_pipeline": p.pipeline} {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := spec.LoadAndAssign(&p.objs, nil); err != nil {
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			p.log.Debug("verifier", "log", fmt.Sprintf("%+v", ve))
		}
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err := p.pinAll(); err != nil {
		return err
	}
	if p.devices, err = mapSlice[bpf.EproxyDevice](p, p.objs.Devices); err != nil {
		return err
	}
	if p.slotMem, err = mapSlice[bpf.EproxySlot](p, p.objs.Slots); err != nil {
		return err
	}
	if p.requests, err = mapSlice[bpf.EproxyRequest](p, p.objs.Requests); err != nil {
		return err
	}
	if p.podMem, err = mapSlice[bpf.EproxyPod](p, p.objs.Pods); err != nil {
		return err
	}
	g, err := mapSlice[bpf.EproxyGlobals](p, p.objs.Settings)
	if err != nil {
		return err
	}
	p.globals = &g[0]
	p.conns.init(p.slots, uint32(cfg.Limits.Connections))
	mark, err := bpf.Knob(spec, "knob_mark")
	if err != nil {
		return err
	}
	if p.sender, err = newFrameSender(mark); err != nil {
		return err
	}
	return nil
}

// Recorder counts messages that the kernel path took and userspace finished.
type Recorder interface {
	Message(route, function string, qos byte, outcome string, took time.Duration)
}

// Start begins to serve: events, sweeps. engine finishes what the kernel path
// hands over, rec counts it.
func (p *Plane) Start(engine *delivery.Engine, rec Recorder) error {
	p.mu.Lock()
	p.engine, p.recorder = engine, rec
	p.mu.Unlock()
	if err := p.startEvents(); err != nil {
		return err
	}
	if ret, err := p.objs.SweepStart.Run(&ebpf.RunOptions{}); err != nil || ret != 0 {
		return fmt.Errorf("start the sweeper's timer: %w", cmp.Or(err, fmt.Errorf("program returns %d", int32(ret))))
	}
	p.wg.Add(1)
	go p.reapLoop()
	return nil
}

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
	n := int(p.finishing.Load())
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ps := range p.podByID {
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
// and attachments stay, so that open connections remain truthful; Unpin
// removes them.
func (p *Plane) Close() {
	p.cancel()
	p.closeSlots()
	p.wg.Wait()
	if p.sender != nil {
		p.sender.Close()
	}
	for _, u := range p.unmap {
		_ = u()
	}
	for _, l := range p.links {
		_ = l.Close()
	}
	_ = p.objs.Close()
	_ = unix.Flock(int(p.lock.Fd()), unix.LOCK_UN)
	_ = p.lock.Close()
}

func lockName(bpffs string) string {
	return filepath.Join("/run/eproxy", filepath.Base(bpffs)+".lock")
}

// acquireLock takes the lock of the pin directory, or says who holds it.
func acquireLock(bpffs string) (*os.File, error) {
	name := lockName(bpffs)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("make lock directory: %w", err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0)
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w (pid %s, pins in %s): stop it first", ErrRunning, strings.TrimRight(string(holder[:n]), "\x00"), bpffs)
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(fmt.Sprint(os.Getpid())), 0)
	}
	return f, nil
}

// Holder says whether a loader holds the lock of a pin directory, and its pid.
func Holder(bpffs string) (pid string, running bool, err error) {
	lock, err := acquireLock(bpffs)
	if errors.Is(err, ErrRunning) {
		data, _ := os.ReadFile(lockName(bpffs))
		return string(data), true, nil
	}
	if err != nil {
		return "", false, err
	}
	return "", false, lock.Close()
}
