package knative

import (
	"context"
	"net/netip"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/traffic"
)

// again is how long after a failure it is tried again to listen in a pod.
const again = 10 * time.Second

// pod is one that answers scrapes.
type pod struct {
	address  netip.AddrPort
	name     string
	since    time.Duration // it is known; 0: not yet
	all      traffic.Meter
	proxied  traffic.Meter
	endpoint *endpoint     // nil: not yet
	retry    time.Duration // not before
	refused  bool          // it was said
}

// follow has these pods answer, and no others.
func (f *function) follow(pods []netip.AddrPort, ids config.Identities) {
	wanted := make(map[netip.AddrPort]bool)
	for _, a := range pods {
		wanted[a] = true
		name := ids[a]
		if name == "" {
			name = a.String()
		}
		if p := f.pods[a]; p != nil && p.name != name { // another one has the address
			p.close()
			delete(f.pods, a)
		}
		if f.pods[a] == nil {
			f.pods[a] = &pod{address: a, name: name}
		}
	}
	for a, p := range f.pods {
		if !wanted[a] {
			p.close()
			delete(f.pods, a)
		}
	}
}

func (p *pod) close() {
	if p.endpoint != nil {
		p.endpoint.close()
	}
}

// tickPods ends a second of a function's pods; r.mu is held.
func (r *Reporter) tickPods(ctx context.Context, f *function, loads traffic.Loads, now time.Duration) {
	for _, p := range f.pods {
		if p.since == 0 {
			p.since = now
		}
		sum, theirs, ok := r.sums(f, p, loads)
		if !ok {
			r.refuse(f, p, "its HTTP is not seen (eproxy_http_observed)")
			continue
		}
		if p.endpoint == nil && !r.open(ctx, f, p, now) {
			continue
		}
		all, proxied := p.all.Rate(sum, now), p.proxied.Rate(theirs, now)
		if f.waits() {
			all.Concurrency += float64(f.waited) / looks / float64(len(f.pods))
		}
		p.endpoint.set(Stat{PodName: p.name, Concurrency: all.Concurrency, ProxiedConcurrency: min(proxied.Concurrency, all.Concurrency),
			Requests: all.Arrived, ProxiedRequests: min(proxied.Arrived, all.Arrived), Uptime: (now - p.since).Seconds()})
	}
}

// sums are what a pod has had to do, and what of that others tell of; false: that is not known.
func (r *Reporter) sums(f *function, p *pod, loads traffic.Loads) (all, proxied traffic.Sum, ok bool) {
	h, ok := r.Source.HTTP(p.address)
	under := underWay(loads, p.address)
	all, proxied = h.All.Minus(h.Probes).Plus(under), h.Proxied
	if f.cfg.Revision != "" { // what this program sends it tells of itself
		proxied = proxied.Plus(h.Own).Plus(under)
	}
	return all, proxied, ok
}

// underWay is what the programs have under way at an address, for whatever functions.
func underWay(loads traffic.Loads, address netip.AddrPort) (sum traffic.Sum) {
	for id, s := range loads.Pods {
		if id.Address == address {
			sum = sum.Plus(s)
		}
	}
	return sum
}

// open listens in a pod, if it is time to.
func (r *Reporter) open(ctx context.Context, f *function, p *pod, now time.Duration) bool {
	if now < p.retry {
		return false
	}
	l, err := r.Source.Listen(ctx, p.address, f.cfg.Port)
	if err != nil {
		p.retry = now + again
		r.refuse(f, p, err.Error())
		return false
	}
	p.endpoint = serve(l, r.Logger)
	p.refused = false
	return true
}

// refuse says why a pod does not answer, once.
func (r *Reporter) refuse(f *function, p *pod, why string) {
	if !p.refused {
		p.refused = true
		r.Logger.Warn("pod does not answer Knative's autoscaler", "function", f.name, "pod", p.address, "port", f.cfg.Port, "reason", why)
	}
}
