package dataplane

import (
	"net/netip"
	"testing"

	"eproxy/internal/config"
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
	if err := p.Install(cfg, false, before); err == nil {
		t.Fatal("installed three routes where limits.routes is 1")
	}
	if len(p.unseen) != 1 {
		t.Error("a pod that the programs do not see is forgotten")
	}
}
