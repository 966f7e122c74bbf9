package dataplane

import (
	"log/slog"
	"sync"

	"eproxy/internal/config"
	"eproxy/internal/netview"
	"eproxy/internal/reconcile"
	"eproxy/internal/routes"
	"eproxy/internal/slots"
)

// installed is the configuration that the data plane has, and what of it is in service. changing is
// held while that is changed, also where it waits; mu while something is read or written, and never where it waits long.
type installed struct {
	changing sync.Mutex // before mu

	mu      sync.Mutex
	net     *netview.View              // guarded by mu but for Look and Changed
	live    *config.Config             // with the pods of now; nil: none yet
	set     *routes.Set                // its routes
	reasons reasons                    // of pods that are not served in the best way
	pods    *reconcile.Set[*slots.Pod] // that are in service
}

// newInstalled is nothing yet, in a world with this network.
func newInstalled(w world, net *netview.View, reasons reasons, log *slog.Logger) *installed {
	return &installed{net: net, reasons: reasons, pods: reconcile.New(w, log)}
}
