package main

import (
	"context"

	"eproxy/internal/config"
	"eproxy/internal/observe"
)

// startObserver has the pods' HTTP counted, if the configuration says so. What it needs of
// the kernel the other programs need as well.
func (n *node) startObserver(cfg, live *config.Config) error {
	if !cfg.Monitoring {
		return nil
	}
	o, err := observe.Load(observe.Options{BPFFS: cfg.BPFFS, Connections: cfg.Limits.Observed, Pods: cfg.Limits.Pods, Logger: n.log})
	if err != nil {
		return err
	}
	n.observer = o
	n.metrics.Add(o)
	o.Follow(live)
	n.log.Info("monitoring HTTP to the pods")
	return nil
}

// runObserver looks after what is observed until ctx ends, and no longer.
func (n *node) runObserver(ctx context.Context) {
	if n.observer != nil {
		n.observer.Run(ctx)
		n.observer.Close()
	}
}

// observe has the pods of now observed, and told of.
func (n *node) observe(live *config.Config) {
	if n.observer != nil {
		n.observer.Follow(live)
	}
	n.followKnative(live)
	n.followKEDA(live)
	n.followScaling(live)
}
