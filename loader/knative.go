package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"time"

	"eproxy/internal/clock"
	"eproxy/internal/config"
	"eproxy/internal/knative"
	"eproxy/internal/podns"
	"eproxy/internal/traffic"
)

// startKnative has Knative's autoscaler told of functions, if it may be told of some.
func (n *node) startKnative(live *config.Config) {
	cfg := n.cfg
	if cfg.Scaler.Knative == "" && !cfg.Monitoring {
		return
	}
	o := knative.Options{Source: source{n}, Now: clock.Monotonic, Logger: n.log}
	o.Name, _ = os.Hostname()
	o.Name = "eproxy-" + o.Name
	if cfg.Scaler.Knative != "" {
		n.pusher = knative.NewPusher(cfg.Scaler.Knative, n.log)
		o.Push = n.pusher.Push
	}
	r := knative.New(o)
	r.Follow(live)
	n.knative.Store(r)
}

// runKnative tells it until ctx ends.
func (n *node) runKnative(ctx context.Context) {
	r := n.knative.Load()
	if r == nil {
		return
	}
	if n.pusher != nil {
		go n.pusher.Run(ctx)
	}
	r.Run(ctx)
}

// followKnative has it told of the pods of now.
func (n *node) followKnative(live *config.Config) {
	if r := n.knative.Load(); r != nil {
		r.Follow(live)
	}
}

// activateKnative tells it at once that a message waits for a function without a pod.
func (n *node) activateKnative(function string) {
	if r := n.knative.Load(); r != nil {
		r.Activate(function)
	}
}

// source is what autoscalers are told of.
type source struct{ *node }

var _ knative.Source = source{}

// Loads is what the programs have had to do; knative.Source.
func (s source) Loads(wanted func(string) bool, now time.Duration) (traffic.Loads, error) {
	s.loads.Lock()
	defer s.loads.Unlock()
	return s.plane.Loads(wanted, now)
}

// Userspace is what userspace has had to do; knative.Source.
func (s source) Userspace(function string, now time.Duration) traffic.Sum {
	return s.engine.Load(function, now)
}

// Waiting is how many messages wait for a place at a pod; knative.Source.
func (s source) Waiting(function string) int {
	waiting, placed := s.plane.Waiting(function)
	return waiting + max(0, s.engine.Held(function)-placed)
}

// HTTP is what a pod got from anybody; knative.Source.
func (s source) HTTP(pod netip.AddrPort) (traffic.HTTP, bool) {
	if s.observer == nil {
		return traffic.HTTP{}, false
	}
	return s.observer.HTTP(pod)
}

// Listen listens in a pod's network namespace; knative.Source.
func (s source) Listen(ctx context.Context, pod netip.AddrPort, port uint16) (net.Listener, error) {
	return podns.Listen(ctx, s.observer.Interface(pod), netip.AddrPortFrom(pod.Addr(), port))
}
