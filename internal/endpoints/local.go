package endpoints

import (
	"context"
	"errors"
	"net/netip"
)

// Local runs instances of functions on this machine (internal/instances). It stands
// behind an interface as Cluster does.
type Local interface {
	// Follow runs instances of a function as a config.Run.Key says until ctx ends, and
	// returns when they have. It calls found with those that are ready, sorted, and failed
	// while they cannot be run.
	Follow(ctx context.Context, function, spec string, found func([]netip.AddrPort), failed func(error))
}

// local are the instances of a function, run in one way: run in another they are others,
// which begin before those end.
type local struct {
	function, spec string
	runtime        Local
}

func (l local) String() string { return "instances of " + l.function }

func (l local) follow(ctx context.Context, found func([]Pod), failed func(error)) {
	if l.runtime == nil {
		failed(errors.New("this program runs no functions, the loader does"))
		return
	}
	l.runtime.Follow(ctx, l.function, l.spec, func(pods []netip.AddrPort) { found(anonymous(pods)) }, failed)
}
