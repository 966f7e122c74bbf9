// Command userspace-fallback is eproxy without BPF: the MQTT server and the
// adaptor to HTTP functions. It needs no root.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"

	"eproxy/internal/broker"
	"eproxy/internal/cliutil"
	"eproxy/internal/delivery"
	"eproxy/internal/endpoints"
	"eproxy/internal/frontend"
	"eproxy/internal/heap"
	"eproxy/internal/kube"
	"eproxy/internal/lograte"
	"eproxy/internal/metrics"
	"eproxy/internal/page"
	"eproxy/internal/pool"
	"eproxy/internal/spans"
	"eproxy/internal/upstream"
)

func main() {
	heap.Floor()
	cliutil.Main(&cli.App{
		Name:  "userspace-fallback",
		Usage: "deliver MQTT messages to HTTP functions, without BPF and without root",
		Flags: []cli.Flag{cliutil.ConfigFlag(), cliutil.LogLevelFlag()},
		Action: func(c *cli.Context) error {
			log, err := cliutil.Logger(c.App.ErrWriter, c.String("log-level"))
			if err != nil {
				return err
			}
			return serve(c.Context, c.String("config"), log)
		},
	})
}

// serve runs until ctx ends, then drains. SIGHUP reloads.
func serve(ctx context.Context, file string, log *slog.Logger) error {
	cfg, err := cliutil.LoadConfig(file, log)
	if err != nil {
		return err
	}
	m := metrics.New()
	m.Registry.MustRegister(m.Requests())
	often := lograte.New(log)
	defer often.Close()
	cluster := kube.New(cfg.Kubernetes, log)
	resources := cluster.WatchResources(cfg)
	defer resources.Close()
	resources.Settle(ctx)
	ours := cfg
	cfg = resources.Apply(ours)
	pods := endpoints.Watch(cfg, endpoints.Sources{Cluster: cluster}, log)
	defer pods.Close()
	pods.Settle(ctx)
	life := upstream.New(log, func(upstream.ID) uint64 { return 0 })
	lifeCtx, endLife := context.WithCancel(context.WithoutCancel(ctx))
	var living sync.WaitGroup
	defer living.Wait()
	defer endLife()
	living.Go(func() { life.Run(lifeCtx) })
	live := life.Apply(pods.Apply(cfg))
	p := pool.New(live.Functions)
	p.LogTo(often)
	p.CountTo(m)
	defer p.Close()
	m.Registry.MustRegister(metrics.NewInFlight(p))
	engine := delivery.New(live, p, delivery.Options{Logger: log, Recorder: upstream.Recorder{Metrics: m, Life: life}, Activate: upstream.Waits(log)})
	defer engine.Close()
	m.Registry.MustRegister(metrics.NewQueued(engine), metrics.NewSpools(engine))
	exporter := spans.New(cfg.Tracing.OTLP, log)
	if exporter.On() {
		m.Registry.MustRegister(exporter)
	}
	defer exporter.Start()()
	b, err := broker.New(broker.Options{Config: cfg, Engine: engine, Logger: log, Recorder: m, Spans: exporter, Frontend: frontend.New})
	if err != nil {
		return err
	}
	defer b.Close()
	defer engine.CloseSpools() // what it gives up may be a letter that the broker publishes
	m.Registry.MustRegister(metrics.NewBrokers(b))
	serveCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	shown, err := page.Serve(serveCtx, cfg, m)
	if err != nil {
		return err
	}
	s := &service{file: ours, cfg: cfg, resources: resources, pods: pods, life: life, pool: p, engine: engine, broker: b, page: shown, log: log}
	done := make(chan error, 1)
	go func() { done <- b.Serve(serveCtx) }()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	m.Ready(true)
	log.Info("serving", "listeners", len(cfg.Listeners), "functions", len(cfg.Functions), "routes", len(cfg.Routes))
	for {
		select {
		case err := <-done:
			return err
		case <-hup:
			if err := s.reload(ctx, file); err != nil {
				log.Error("reload refused, the running configuration stays", "error", err)
			}
		case <-life.Changed():
			s.followPods()
		case <-resources.Changed():
			if err := s.install(ctx, s.file); err != nil {
				log.Error("resources of Kubernetes have changed, those before stay in force", "error", err)
			}
		case <-pods.Changed():
			s.followPods()
		case <-ctx.Done():
			m.Ready(false)
			log.Info("draining", "timeout", s.cfg.DrainTimeout)
			drain, cancel := context.WithTimeout(context.Background(), s.cfg.DrainTimeout)
			b.Drain(drain)
			cancel()
			stop()
			log.Info("stopped")
			return <-done
		}
	}
}
