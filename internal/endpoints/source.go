package endpoints

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"eproxy/internal/config"
)

// maxPods is how many pods one source may name: more than the largest node has.
const maxPods = 4096

// errNone is what an error wraps of a source that was understood, and by whose answer there are no pods, for a reason
// that somebody may want to know.
var errNone = errors.New("no pods")

var errTooMany = fmt.Errorf("names more than %d pods", maxPods)

// Pod is a pod that a source names.
type Pod struct {
	Address  netip.AddrPort
	Identity string       // what tells it from another pod of the same address; empty: the source cannot
	Place    config.Place // Nowhere: the source does not know
}

// String is its address.
func (p Pod) String() string { return p.Address.String() }

// anonymous are pods of a source that knows only addresses. Not nil.
func anonymous(addresses []netip.AddrPort) []Pod {
	pods := make([]Pod, 0, len(addresses))
	for _, a := range addresses {
		pods = append(pods, Pod{Address: a})
	}
	return pods
}

// source is where the pods of a function may be found. Two of the same
// configuration are equal.
type source interface {
	// follow calls found with the source's pods, sorted, at once and whenever they
	// may have changed, and failed when it cannot find them out or there are none (errNone), until ctx ends.
	follow(ctx context.Context, found func(pods []Pod), failed func(error))
	// String names the source for people.
	String() string
}

// errUnusable is what errors about an address that no pod can have wrap.
var errUnusable = errors.New("must be an address and a port that can be connected to")

// pod checks an address, and makes a mapped IPv4 address a plain one.
func pod(a netip.Addr, port uint16) (netip.AddrPort, error) {
	if port == 0 || !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("pod %s: %w", netip.AddrPortFrom(a, port), errUnusable)
	}
	return netip.AddrPortFrom(a.Unmap(), port), nil
}

// sleep waits; false: ctx has ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// tidy sorts pods and removes duplicates, so that two of the same are equal.
func tidy(pods []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(pods, netip.AddrPort.Compare)
	return slices.Compact(pods)
}
