package endpoints

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"eproxy/internal/config"
)

// How long the answer for a host name is believed: its time to live, within these
// bounds; unknownTTL where there is none, as in /etc/hosts. While a name cannot be
// resolved it is tried again after retryMin, then twice as long, up to retryMax.
const (
	minTTL     = time.Second
	maxTTL     = 5 * time.Minute
	unknownTTL = 30 * time.Second
	retryMin   = time.Second
	retryMax   = 30 * time.Second
)

// resolveTime bounds one look-up: what does not answer is asked again. Shorter in tests.
var resolveTime = 10 * time.Second

// dns is a name in DNS. Its A and AAAA records are the pods, or, without a port,
// its SRV records name hosts and ports (RFC 2782).
type dns struct{ config.HostPort }

func (d dns) String() string { return "dns " + d.HostPort.String() }

func (d dns) follow(ctx context.Context, found func([]Pod), failed func(error)) {
	retry := retryMin
	for {
		wait := retry
		pods, ttl, err := d.resolve(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errNone):
			wait, retry = min(max(ttl, minTTL), maxTTL), retryMin
			failed(err)
		case err != nil:
			failed(err)
			retry = min(2*retry, retryMax)
		default:
			wait, retry = min(max(ttl, minTTL), maxTTL), retryMin
			found(anonymous(pods))
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// resolve asks once. A name that does not exist has no pods (errNone): that is how DNS says
// that a service has none at the moment.
func (d dns) resolve(ctx context.Context) ([]netip.AddrPort, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	r := newResolver()
	pods := []netip.AddrPort{}
	err := d.lookup(ctx, r.Resolver, func(a netip.Addr, port uint16) {
		if p, err := pod(a, port); err == nil {
			pods = append(pods, p)
		}
	})
	switch {
	case err != nil && !notFound(err):
		return nil, 0, fmt.Errorf("resolve %s: %w", d.Host, err)
	case err != nil:
		return nil, r.ttl(), fmt.Errorf("resolve %s: %w: %w", d.Host, errNone, err)
	case len(pods) == 0: // a SRV record whose targets are gone, or addresses that no pod can have
		return nil, r.ttl(), fmt.Errorf("resolve %s: %w", d.Host, errNone)
	case len(pods) > maxPods:
		return nil, 0, fmt.Errorf("resolve %s: it %w", d.Host, errTooMany)
	}
	return tidy(pods), r.ttl(), nil
}

// notFound says whether a name does not exist, or has no records of the kind. A
// target of a SRV record may be gone while the others are not.
func notFound(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.IsNotFound
}

func (d dns) lookup(ctx context.Context, r *net.Resolver, add func(netip.Addr, uint16)) error {
	if d.Port != 0 {
		return lookupHost(ctx, r, d.Host, d.Port, add)
	}
	_, records, err := r.LookupSRV(ctx, "", "", d.Host)
	if err != nil {
		return err
	}
	for _, srv := range records {
		if err := lookupHost(ctx, r, srv.Target, srv.Port, add); err != nil && !notFound(err) {
			return err
		}
	}
	return nil
}

func lookupHost(ctx context.Context, r *net.Resolver, host string, port uint16, add func(netip.Addr, uint16)) error {
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	for _, a := range addrs {
		add(a, port)
	}
	return err
}
