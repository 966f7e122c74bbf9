package dataplane

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"eproxy/internal/config"
	"eproxy/internal/reach"
)

// TestRefusedInstallChangesNothing: which pods are the fallback's, because the
// programs do not see their connections, is still known when a configuration was
// refused.
func TestRefusedInstallChangesNothing(t *testing.T) {
	limits := config.Limits{Routes: 1, Pods: 1}
	id := podID{"f", netip.MustParseAddrPort("10.0.0.1:80")}
	p := &Plane{unseen: map[podID]unseen{id: {1, "translated"}}}
	p.counts.init(&config.Config{Limits: limits})
	cfg := &config.Config{Limits: limits}
	for _, filter := range []string{"a", "b", "c"} { // two configurations of one route have counters
		cfg.Routes = append(cfg.Routes, &config.Route{Filter: filter, Functions: []string{"f"}})
	}
	before := func() { t.Error("called for what is refused") }
	if err := p.Install(cfg, before); err == nil {
		t.Fatal("installed three routes where limits.routes is 1")
	}
	if len(p.unseen) != 1 {
		t.Error("a pod that the programs do not see is forgotten")
	}
}

// TestNothingIsServedAfterTheEnd: a change of the network that was being followed when
// the data plane was closed brings no pod into service again.
func TestNothingIsServedAfterTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	pod := netip.MustParseAddrPort("10.0.0.1:80")
	p := &Plane{ctx: ctx, podByID: make(map[uint32]*podState), found: make(map[podID]reach.Path)}
	cfg := &config.Config{Functions: []*config.Function{{Name: "f", Pods: []netip.AddrPort{pod}}}}
	if err := p.serve(staged{cfg: cfg}); !errors.Is(err, errEnded) {
		t.Errorf("installed after the end: %v", err)
	}
	if len(p.podByID)+len(p.found) != 0 {
		t.Error("a pod was placed after the end")
	}
}
