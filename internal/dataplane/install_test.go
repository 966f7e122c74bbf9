package dataplane

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/counters"
	"eproxy/internal/podtable"
	"eproxy/internal/reach"
	"eproxy/internal/reconcile"
)

// TestRefusedInstallChangesNothing: which pods are the fallback's, because the
// programs do not see their connections, is still known when a configuration was
// refused.
func TestRefusedInstallChangesNothing(t *testing.T) {
	limits := config.Limits{Routes: 1, Pods: 1}
	pod := netip.MustParseAddrPort("10.0.0.1:80")
	p := &Plane{counts: newCounts(counters.Maps{}, &config.Config{Limits: limits}), pods: reconcile.New(behind{1}, slog.New(slog.DiscardHandler))}
	p.pods.LeaveUnseen(podID{Function: "f", Address: pod}, 1, "translated")
	cfg := &config.Config{Limits: limits}
	for _, filter := range []string{"a", "b", "c"} { // two configurations of one route have counters
		cfg.Routes = append(cfg.Routes, &config.Route{Filter: filter, Functions: []string{"f"}})
	}
	before := func() { t.Error("called for what is refused") }
	if err := p.Install(cfg, before); err == nil {
		t.Fatal("installed three routes where limits.routes is 1")
	}
	serve := func(map[string][]*podState) error { return nil }
	if err := p.pods.Step([]*config.Function{{Name: "f", Pods: []netip.AddrPort{pod}}}, serve); err != nil {
		t.Fatal(err)
	}
	if got := p.pods.Path(podID{Function: "f", Address: pod}).Reason; got != "translated" {
		t.Errorf("a pod that the programs do not see is forgotten: %q", got)
	}
}

// behind is a world where all pods are behind one interface.
type behind struct{ ifindex int }

func (b behind) Reach(netip.Addr) reach.Path { return reach.Path{Way: reach.TC, Ifindex: b.ifindex} }
func (behind) Add(*config.Function, netip.AddrPort, int) (*podState, error) {
	return nil, reconcile.ErrUsedUp
}
func (behind) Improve(_ *podState, path reach.Path) (served, found reach.Path) { return path, path }
func (behind) Update(*podState, *config.Function, reach.Path)                  {}
func (behind) Drain(*podState)                                                 {}
func (behind) Remove(*podState)                                                {}

// TestNothingIsServedAfterTheEnd: a change of the network that was being followed when
// the data plane was closed brings no pod into service again.
func TestNothingIsServedAfterTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	pod := netip.MustParseAddrPort("10.0.0.1:80")
	p := &Plane{ctx: ctx, table: podtable.New[podState, slot](1)}
	p.pods = reconcile.New(world{p}, slog.New(slog.DiscardHandler))
	cfg := &config.Config{Functions: []*config.Function{{Name: "f", Pods: []netip.AddrPort{pod}}}}
	if err := p.serve(staged{cfg: cfg}); !errors.Is(err, errEnded) {
		t.Errorf("installed after the end: %v", err)
	}
	if len(p.table.InUse()) != 0 || p.pods.Path(podID{Function: "f", Address: pod}) != (reach.Path{}) {
		t.Error("a pod was placed after the end")
	}
}
