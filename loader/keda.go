package main

import (
	"context"
	"fmt"
	"net"

	"eproxy/internal/clock"
	"eproxy/internal/config"
	"eproxy/internal/demand"
	"eproxy/internal/keda"
	"eproxy/internal/transport"
)

// startKEDA listens for KEDA's operators, if the configuration says where.
func (n *node) startKEDA(live *config.Config) error {
	cfg := n.cfg.Scaler.KEDA
	if cfg.Listen == "" {
		return nil
	}
	o := keda.Options{Source: source{n}, Now: clock.Monotonic, Logger: n.log}
	var err error
	if cfg.TLS != nil {
		if o.TLS, err = transport.Server(cfg.TLS, []string{"h2"}, n.log.Warn); err != nil {
			return fmt.Errorf("scaler.keda.tls: %w", err)
		}
	}
	var lc net.ListenConfig
	if n.asked, err = lc.Listen(context.Background(), "tcp", cfg.Listen); err != nil {
		return fmt.Errorf("scaler.keda.listen: %w", err)
	}
	n.keda.Store(keda.New(live, o))
	n.log.Info("KEDA may ask for functions", "address", n.asked.Addr())
	return nil
}

// runKEDA answers KEDA until ctx ends.
func (n *node) runKEDA(ctx context.Context) {
	if s := n.keda.Load(); s != nil {
		s.Run(ctx, n.asked)
	}
}

// followKEDA has it told of the pods of now.
func (n *node) followKEDA(live *config.Config) {
	if s := n.keda.Load(); s != nil {
		s.Follow(live)
	}
}

// activateKEDA tells it at once that a message waits for a function without a pod.
func (n *node) activateKEDA(function string) {
	if s := n.keda.Load(); s != nil {
		s.Activate(function)
	}
}

var _ demand.Source = source{}

// Busy is how many messages a function has at this moment; demand.Source.
func (s source) Busy(function string) int { return s.loadOf(function).Requests }
