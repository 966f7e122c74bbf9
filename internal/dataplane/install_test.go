package dataplane

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/counters"
	"eproxy/internal/mapmem"
	"eproxy/internal/reach"
	"eproxy/internal/reconcile"
	"eproxy/internal/slots"
)

// TestRefusedInstallChangesNothing: which pods are the fallback's, because the
// programs do not see their connections, is still known when a configuration was
// refused.
func TestRefusedInstallChangesNothing(t *testing.T) {
	limits := config.Limits{Routes: 1, Pods: 1}
	pod := netip.MustParseAddrPort("10.0.0.1:80")
	p := &Plane{counts: newCounts(counters.Maps{}, &config.Config{Limits: limits}),
		mem: &mapmem.Memory{Layout: mapmem.Layout{Pipeline: 1}}, slots: slots.New(t.Context(), nil, slots.Options{Memory: &mapmem.Memory{Pods: make([]bpf.EproxyPod, 1)}})}
	p.installed = &installed{pods: reconcile.New(behind{1}, slog.New(slog.DiscardHandler))}
	p.installed.pods.LeaveUnseen(podID{Function: "f", Address: pod}, 1, "translated")
	cfg := &config.Config{Limits: limits}
	for _, filter := range []string{"a", "b", "c"} { // two configurations of one route have counters
		cfg.Routes = append(cfg.Routes, &config.Route{Filter: filter, Functions: []string{"f"}})
	}
	before := func() { t.Error("called for what is refused") }
	if err := p.Install(cfg, before); err == nil {
		t.Fatal("installed three routes where limits.routes is 1")
	}
	serve := func(map[string][]*slots.Pod) error { return nil }
	if err := p.installed.pods.Step([]*config.Function{{Name: "f", Pods: []netip.AddrPort{pod}}}, serve); err != nil {
		t.Fatal(err)
	}
	if got := p.installed.pods.Path(podID{Function: "f", Address: pod}).Reason; got != "translated" {
		t.Errorf("a pod that the programs do not see is forgotten: %q", got)
	}
}

// behind is a world where all pods are behind one interface.
type behind struct{ ifindex int }

func (b behind) Reach(netip.Addr) reach.Path { return reach.Path{Way: reach.TC, Ifindex: b.ifindex} }
func (behind) Add(*config.Function, netip.AddrPort, int) (*slots.Pod, error) {
	return nil, reconcile.ErrUsedUp
}
func (behind) Improve(_ *slots.Pod, path reach.Path) (served, found reach.Path) { return path, path }
func (behind) Update(*slots.Pod, *config.Function, reach.Path)                  {}
func (behind) Drain(*slots.Pod)                                                 {}
func (behind) Remove(*slots.Pod)                                                {}

// TestNothingIsServedAfterTheEnd: a change of the network that was being followed when
// the data plane was closed brings no pod into service again.
func TestNothingIsServedAfterTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	pod := netip.MustParseAddrPort("10.0.0.1:80")
	p := &Plane{slots: slots.New(ctx, nil, slots.Options{Memory: &mapmem.Memory{Pods: make([]bpf.EproxyPod, 1)}})}
	p.run.ctx = ctx
	p.installed = newInstalled(world{p}, nil, reasons{}, slog.New(slog.DiscardHandler))
	cfg := &config.Config{Functions: []*config.Function{{Name: "f", Pods: []netip.AddrPort{pod}}}}
	if err := p.serve(staged{cfg: cfg}); !errors.Is(err, errEnded) {
		t.Errorf("installed after the end: %v", err)
	}
	if len(p.slots.Counters()) != 0 || p.installed.pods.Path(podID{Function: "f", Address: pod}) != (reach.Path{}) {
		t.Error("a pod was placed after the end")
	}
}
