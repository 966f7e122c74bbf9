package main

import (
	"context"
	"log/slog"

	"eproxy/internal/broker"
	"eproxy/internal/cliutil"
	"eproxy/internal/config"
	"eproxy/internal/delivery"
	"eproxy/internal/kube"
	"eproxy/internal/page"
	"eproxy/internal/pool"
	"eproxy/internal/upstream"
)

// sources say which pods functions have, beside those that the configuration names.
type sources interface {
	Follow(*config.Config)
	Settle(context.Context)
	Apply(*config.Config) *config.Config
	Keep(*config.Config)
}

// service is what serves under a configuration.
type service struct {
	file      *config.Config // as it was read
	cfg       *config.Config // with what resources add to it
	resources *kube.ResourceWatcher
	pods      sources
	life      *upstream.Life // says which pods get messages
	pool      *pool.Standalone
	engine    *delivery.Engine
	broker    *broker.Server
	page      *page.Page // nil: none
	log       *slog.Logger
}

// reload takes over a changed configuration, or nothing of it, if there is an error.
func (s *service) reload(ctx context.Context, file string) error {
	next, err := cliutil.LoadConfig(file, s.log)
	if err != nil {
		return err
	}
	if err := s.cfg.Restart(next, "userspace-fallback"); err != nil {
		return err
	}
	before := s.file
	if err := s.install(ctx, next); err != nil {
		return err
	}
	s.log.Info("reloaded", "functions", len(s.cfg.Functions), "routes", len(s.cfg.Routes), "changes", before.Diff(next))
	return nil
}

// install puts a configuration in force, with what resources add to it, or nothing
// of it. No message is routed to a function before its pods are in service, which may
// take until their sources have answered.
func (s *service) install(ctx context.Context, file *config.Config) error {
	next := s.resources.Apply(file)
	change, err := s.broker.Prepare(next)
	if err != nil {
		return err
	}
	change.Restrict() // what is forbidden does not wait
	s.pods.Follow(next)
	s.pods.Settle(ctx)
	s.file, s.cfg = file, next
	s.page.Routes(next.Routes)
	s.followPods()
	change.Commit()
	s.pods.Keep(next)
	return nil
}

// followPods brings the pods into service that are known now, and takes the others out
// of it.
func (s *service) followPods() {
	live := s.life.Apply(s.pods.Apply(s.cfg))
	s.pool.Reload(live.Functions)
	s.engine.Reload(live, s.pool)
}
