package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/urfave/cli/v2"

	"eproxy/internal/broker"
	"eproxy/internal/cliutil"
	"eproxy/internal/config"
	"eproxy/internal/control"
	"eproxy/internal/datapath"
	"eproxy/internal/dataplane"
	"eproxy/internal/delivery"
	"eproxy/internal/doctor"
	"eproxy/internal/endpoints"
	"eproxy/internal/frontend"
	"eproxy/internal/instances"
	"eproxy/internal/keda"
	"eproxy/internal/kernelmetrics"
	"eproxy/internal/knative"
	"eproxy/internal/kube"
	"eproxy/internal/kubescale"
	"eproxy/internal/metrics"
	"eproxy/internal/observe"
	"eproxy/internal/page"
	"eproxy/internal/pinned"
	"eproxy/internal/spans"
	"eproxy/internal/trace"
	"eproxy/internal/upstream"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "attach, serve and reconcile until SIGTERM; SIGHUP reloads the configuration",
		Flags: []cli.Flag{cliutil.ConfigFlag(), cliutil.LogLevelFlag()},
		Action: func(c *cli.Context) error {
			log, err := cliutil.Logger(c.App.ErrWriter, c.String("log-level"))
			if err != nil {
				return err
			}
			return serve(c.Context, c.String("config"), log)
		},
	}
}

// serve runs the node until ctx ends, then drains and detaches.
func serve(ctx context.Context, file string, log *slog.Logger) error {
	cfg, err := load(file, log)
	if err != nil {
		return err
	}
	if missing := cfg.MissingInterfaces(interfaceExists); missing != nil {
		return missing
	}
	plane, err := dataplane.Load(dataplane.Options{Config: cfg, Logger: log})
	if errors.Is(err, datapath.ErrRefused) {
		return refused(err, file)
	}
	if err != nil {
		return err
	}
	// Whatever happens from here on, nothing stays attached.
	defer func() {
		if err := plane.Detach(); err != nil {
			log.Error("detaching", "error", err)
			return
		}
		log.Info("stopped, nothing is attached")
	}()
	cluster := kube.New(cfg.Kubernetes, log)
	resources := cluster.WatchResources(cfg)
	defer resources.Close()
	resources.Settle(ctx)
	merged := resources.Apply(cfg)
	local := instances.New(instances.Options{ID: instances.ID(cfg.BPFFS), Dir: filepath.Dir(control.Path(cfg.BPFFS)), Addresses: cfg.Runtime.Addresses, Memory: cfg.Runtime.Memory, Answered: plane.Answered, Rest: restOf(plane), Logger: log})
	pods := endpoints.Watch(merged, endpoints.Sources{Cluster: cluster, Local: local}, log)
	defer func() {
		local.Hurry() // nothing is under way any more
		pods.Close()
		if err := local.Close(); err != nil {
			log.Error("clearing up after instances", "error", err)
		}
	}()
	pods.Settle(ctx)
	lifeCtx, endLife := context.WithCancel(context.WithoutCancel(ctx))
	var living sync.WaitGroup
	defer living.Wait()
	defer endLife()
	n, err := startNode(plane, merged, pods, local, log)
	if err != nil {
		return err
	}
	n.file, n.resources = cfg, resources
	living.Go(func() { n.life.Run(lifeCtx) })
	living.Go(func() { n.runKnative(lifeCtx) })
	living.Go(func() { n.runKEDA(lifeCtx) })
	living.Go(func() { n.runScaling(lifeCtx) })
	living.Go(func() { n.runObserver(lifeCtx) })
	defer n.engine.Close()
	defer n.broker.Close()
	defer n.engine.CloseSpools() // what it gives up may be a letter that the broker publishes
	return n.loop(ctx, file)
}

// load reads the configuration, which may say what to run only if it is root's.
func load(file string, log *slog.Logger) (*config.Config, error) {
	cfg, err := cliutil.LoadConfig(file, log, config.NeedInterfaces)
	if err != nil {
		return nil, err
	}
	if err := cfg.Untrusted(file); err != nil {
		return nil, err
	}
	return cfg, nil
}

// refused says what the kernel lacks if it takes the programs for no other
// reason, and what serves without them.
func refused(err error, file string) error {
	lacks := doctor.Lacks()
	if len(lacks) == 0 {
		return err
	}
	return fmt.Errorf("this kernel lacks what the BPF programs need: %s (loader doctor says more); run userspace-fallback --config %s instead",
		strings.Join(lacks, ", "), file)
}

// node is a running loader.
type node struct {
	file      *config.Config // as it was read
	cfg       *config.Config // with what resources add to it
	resources *kube.ResourceWatcher
	pods      *endpoints.Watcher // adds what sources say
	local     *instances.Runtime // runs instances of functions
	life      *upstream.Life     // says which of them get messages
	log       *slog.Logger
	plane     *dataplane.Plane
	engine    *delivery.Engine
	broker    *broker.Server
	metrics   *metrics.Metrics
	page      *page.Page // nil: none
	tracer    *trace.Hub
	spans     *spans.Exporter                  // nil: nobody gets any
	observer  *observe.Observer                // nil: nothing is
	pusher    *knative.Pusher                  // nil: nothing is
	knative   atomic.Pointer[knative.Reporter] // nil: it is told nothing; activate may come before
	asked     net.Listener                     // by KEDA; nil: it does not
	keda      atomic.Pointer[keda.Server]      // as knative
	scaling   atomic.Pointer[kubescale.Scaler] // as knative
	loads     sync.Mutex                       // one at a time reads the plane's
	changes   chan change                      // of operators, for loop
}

func startNode(plane *dataplane.Plane, cfg *config.Config, pods *endpoints.Watcher, local *instances.Runtime, log *slog.Logger) (*node, error) {
	n := &node{cfg: cfg, pods: pods, local: local, log: log, plane: plane, metrics: metrics.New(), tracer: trace.NewHub(plane), changes: make(chan change)}
	plane.Trace(n.tracer)
	if n.spans = spans.New(cfg.Tracing.OTLP, log); n.spans.On() {
		n.metrics.Registry.MustRegister(n.spans)
	}
	if err := plane.Export(n.spans); err != nil {
		return nil, err
	}
	n.life = upstream.New(log, func(id upstream.ID) uint64 { return plane.Answered(id.Function, id.Address) })
	for _, name := range cfg.Interfaces {
		used, why, err := plane.AttachDevice(name, cfg.XDP)
		if err != nil {
			return nil, err
		}
		said := []any{"interface", name, "xdp", used}
		if why != "" {
			said = append(said, "because", why)
		}
		log.Info("attached", said...)
	}
	live := n.live(cfg)
	if err := plane.Install(live, func() {}); err != nil { // there is no client yet
		return nil, err
	}
	addrs, err := listenerAddrs(cfg)
	if err != nil {
		return nil, err
	}
	if err := plane.SetListeners(addrs); err != nil {
		return nil, err
	}
	maps, err := pinned.Open(cfg.BPFFS)
	if err != nil {
		return nil, err
	}
	n.metrics.Registry.MustRegister(kernelmetrics.New(maps, plane, n.metrics.Requests(), plane))
	n.engine = delivery.New(live, plane, delivery.Options{Logger: log, Recorder: n.recorder(), Activate: n.activate, Patience: local.Patience, Served: plane.Answered})
	local.Measure(n.loadOf)
	n.metrics.Registry.MustRegister(metrics.NewQueued(n.engine), metrics.NewSpools(n.engine), metrics.NewInstances(local))
	if err := plane.Start(n.engine, n.recorder()); err != nil {
		return nil, err
	}
	n.broker, err = broker.New(broker.Options{Config: cfg, Engine: n.engine, Grafter: plane, Logger: log, Recorder: n.metrics, Tracer: n.tracer, Spans: n.spans, Frontend: frontend.New})
	if err != nil {
		return nil, err
	}
	n.metrics.Registry.MustRegister(metrics.NewBrokers(n.broker))
	n.tracer.Routed = n.routed
	if err := n.startObserver(cfg, live); err != nil {
		return nil, err
	}
	n.startKnative(live)
	n.startScaling(live)
	if err := n.startKEDA(live); err != nil {
		return nil, err
	}
	return n, nil
}

// routed says where a topic leads.
func (n *node) routed(topic string) (route string, functions []string) {
	if r := n.broker.RouteOf(topic); r != nil {
		return r.Filter, r.Functions
	}
	return "", nil
}

// listenerAddrs are where connections that may be grafted are accepted; an
// unspecified address stands for all of this host.
func listenerAddrs(cfg *config.Config) ([]netip.AddrPort, error) {
	var addrs []netip.AddrPort
	for _, l := range cfg.Listeners {
		if !l.Plain() {
			continue
		}
		a, err := net.ResolveTCPAddr("tcp", l.Address)
		if err != nil {
			return nil, fmt.Errorf("listener %q: %w", l.Address, err)
		}
		ap := a.AddrPort()
		if a.IP == nil {
			ap = netip.AddrPortFrom(netip.IPv6Unspecified(), ap.Port())
		}
		addrs = append(addrs, ap)
	}
	return addrs, nil
}

// loop serves until ctx ends; SIGHUP reloads.
func (n *node) loop(ctx context.Context, file string) error {
	n.plane.WaitSlots(ctx)
	serveCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	shown, err := page.Serve(serveCtx, n.cfg, n.metrics)
	if err != nil {
		return err
	}
	n.page = shown
	n.page.States(running{n}.states)
	closeControl, err := control.Serve(control.Path(n.cfg.BPFFS), control.Served{Sessions: n.broker, Changer: n, Instances: running{n}, Letters: n.engine, Tracer: n.tracer, Metrics: n.metrics.Handler()})
	if err != nil {
		return err
	}
	defer closeControl()
	defer n.spans.Start()()
	done := make(chan error, 1)
	go func() { done <- n.broker.Serve(serveCtx) }()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	debug.FreeOSMemory() // what loading the programs took, which the runtime would keep for later
	n.metrics.Ready(true)
	n.log.Info("serving", "listeners", len(n.cfg.Listeners), "functions", len(n.cfg.Functions), "routes", len(n.cfg.Routes))
	for {
		select {
		case err := <-done:
			return err
		case <-hup:
			if err := n.reload(file); err != nil {
				n.log.Error("reload refused, the running configuration stays", "error", err)
			}
		case c := <-n.changes:
			c.done <- n.change(file, c.Change)
		case <-n.resources.Changed():
			if err := n.install(n.file); err != nil {
				n.log.Error("resources of Kubernetes have changed, those before stay in force", "error", err)
			}
		case <-n.life.Changed():
			n.followPodsOrAgain()
		case <-n.local.Changed():
			n.followPodsOrAgain()
		case <-n.pods.Changed():
			n.followPodsOrAgain()
		case <-ctx.Done():
			return n.drain(stop, done)
		}
	}
}

// drain finishes what is in flight, within the configured time.
func (n *node) drain(stop context.CancelFunc, done <-chan error) error {
	ctx, cancel := context.WithTimeout(context.Background(), n.cfg.DrainTimeout)
	defer cancel()
	n.metrics.Ready(false)
	n.log.Info("draining", "timeout", n.cfg.DrainTimeout, "in_flight", n.plane.InFlight())
	n.plane.Drain(ctx)
	n.broker.Drain(ctx)
	stop()
	return <-done
}

// reload takes over a changed configuration without dropping a connection of a
// client that may still be connected; or nothing of it, if there is an error.
// What was fixed at start (interfaces, listeners, limits) must not change. When
// it returns, what the configuration forbids is refused.
func (n *node) reload(file string) error {
	cfg, err := load(file, n.log)
	if err != nil {
		return err
	}
	before := n.file
	if err := n.install(cfg); err != nil {
		return err
	}
	n.log.Info("reloaded", "functions", len(n.cfg.Functions), "routes", len(n.cfg.Routes), "changes", before.Diff(cfg))
	return nil
}

// install takes over a configuration, with what resources add to it, or nothing of
// it, if there is an error.
func (n *node) install(file *config.Config) error {
	cfg := n.resources.Apply(file)
	if err := n.cfg.Restart(cfg, "the loader"); err != nil {
		return err
	}
	// Before anybody can connect there: what a SYN has agreed on stays.
	if err := n.enterListeners(cfg); err != nil {
		return err
	}
	change, err := n.broker.Prepare(cfg)
	if err != nil {
		n.leaveListeners(cfg, n.cfg)
		return err
	}
	n.pods.Follow(cfg)
	n.pods.Settle(context.Background())
	live := n.live(cfg)
	if err := n.plane.Install(live, change.Restrict); err != nil {
		change.Cancel()
		n.leaveListeners(cfg, n.cfg)
		n.undo()
		n.pods.Keep(n.cfg)
		return err
	}
	n.engine.Reload(live, n.plane)
	n.observe(live)
	change.Commit()
	n.leaveListeners(n.cfg, cfg)
	n.file, n.cfg = file, cfg
	n.page.Routes(cfg.Routes)
	n.pods.Keep(cfg)
	return nil
}
