package doctor

import (
	"net/netip"
	"testing"

	"eproxy/internal/config"
)

// TestWithoutRights: what a process may not try is not said to be missing from the kernel.
func TestWithoutRights(t *testing.T) {
	cfg := &config.Config{Interfaces: []string{"eth0"}, Functions: []*config.Function{{Name: "f", Pods: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:80")}}}}
	got := map[string]string{}
	for _, f := range unprivileged(cfg) {
		got[f.Name] = f.State
	}
	for _, name := range []string{locksName, tcxName, programsName, "interface eth0", "pod 192.0.2.1:80 of f"} {
		if got[name] != Untried {
			t.Errorf("%s: %q", name, got[name])
		}
	}
}
