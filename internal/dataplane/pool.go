package dataplane

import (
	"context"
	"net/netip"

	"eproxy/internal/pool"
)

var _ pool.Sender = (*Plane)(nil)

// Acquire waits for a place at a pod of the function, for one exchange on a
// connection of the fallback's own: pool.Pool.
func (p *Plane) Acquire(ctx context.Context, function, client string, avoid []netip.AddrPort) (pool.Lease, error) {
	return p.own.Acquire(ctx, function, client, avoid)
}

// Send is Acquire for a call that nobody waits for: pool.Sender.
func (p *Plane) Send(c *pool.Call, b *pool.Batch) (waits bool) { return p.own.Send(c, b) }

// Withdraw ends a call that waits: pool.Sender.
func (p *Plane) Withdraw(c *pool.Call) bool { return p.own.Withdraw(c) }

// EachInFlight tells the requests in flight to each pod that has no slots:
// metrics.InFlightSource.
func (p *Plane) EachInFlight(each func(function string, pod netip.AddrPort, n int)) {
	p.own.EachInFlight(each)
}
