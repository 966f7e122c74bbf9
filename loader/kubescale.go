package main

import (
	"context"

	"eproxy/internal/clock"
	"eproxy/internal/config"
	"eproxy/internal/instances"
	"eproxy/internal/kube"
	"eproxy/internal/kubescale"
	"eproxy/internal/page"
)

// startScaling has functions scaled that say so.
func (n *node) startScaling(live *config.Config) {
	s := kubescale.New(kubescale.Options{API: kube.New(n.cfg.Kubernetes, n.log), Source: source{n}, Now: clock.Monotonic, Logger: n.log})
	s.Follow(live)
	n.scaling.Store(s)
}

// followScaling has the functions of now scaled.
func (n *node) followScaling(live *config.Config) {
	if s := n.scaling.Load(); s != nil {
		s.Follow(live)
	}
}

// activateScaling has a pod begun at once: a message waits for a function without any.
func (n *node) activateScaling(function string) {
	if s := n.scaling.Load(); s != nil {
		s.Activate(function)
	}
}

// runScaling scales functions until ctx ends.
func (n *node) runScaling(ctx context.Context) { n.scaling.Load().Run(ctx) }

// running is what is shown of functions that the loader runs or scales; control.Instances.
type running struct{ *node }

// Instances are those that the loader runs.
func (n running) Instances() []instances.Status { return n.local.Instances() }

// states are their states, for the page.
func (n running) states() []page.State {
	functions := n.Functions()
	out := make([]page.State, 0, len(functions))
	for _, f := range functions {
		out = append(out, page.State{Function: f.Function, Name: string(f.State), Instances: f.Instances, Most: f.Max, Policy: f.Policy, Reason: f.Reason,
			NextFrom: f.NextFrom, NextTo: f.NextTo})
	}
	return out
}

// Functions are those that it runs or scales.
func (n running) Functions() []instances.FunctionStatus {
	out := n.local.Functions()
	for _, x := range n.scaling.Load().Functions() {
		state := instances.Stopped
		switch {
		case x.Pods > 0:
			state = instances.Ready
		case x.Replicas > 0:
			state = instances.Starting
		}
		out = append(out, instances.FunctionStatus{Function: x.Function, State: state, Instances: x.Replicas, Min: x.Min, Max: x.Max, Policy: "kubernetes", Reason: x.Reason})
	}
	return out
}
