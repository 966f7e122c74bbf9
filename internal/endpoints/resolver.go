package endpoints

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// resolver is the system's resolver, as Go has it: /etc/hosts, the servers and
// search domains of /etc/resolv.conf. It notes the times to live that it sees on
// the way, which the standard library does not return.
type resolver struct {
	*net.Resolver
	mu    sync.Mutex
	least time.Duration
	seen  bool
}

// dialServer reaches a server of /etc/resolv.conf; tests have their own.
var dialServer = new(net.Dialer).DialContext

func newResolver() *resolver {
	r := &resolver{}
	r.Resolver = &net.Resolver{PreferGo: true, StrictErrors: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialServer(ctx, network, address)
		if u, ok := c.(*net.UDPConn); ok {
			return &observed{u, r}, nil
		}
		return c, err // answers by TCP are rare and long: their times to live stay unknown
	}}
	return r
}

// ttl is the least time to live of all answers, unknownTTL if there was none.
func (r *resolver) ttl() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.seen {
		return unknownTTL
	}
	return r.least
}

// observed is a connection to a server.
type observed struct {
	*net.UDPConn
	r *resolver
}

// Read passes an answer on.
func (o *observed) Read(b []byte) (int, error) {
	n, err := o.UDPConn.Read(b)
	if err == nil {
		o.r.note(b[:n])
	}
	return n, err
}

// note looks for times to live in an answer; for a name that does not exist, or
// has no address, in its SOA record (RFC 2308 section 5).
func (r *resolver) note(message []byte) {
	var m dnsmessage.Message
	if m.Unpack(message) != nil {
		return
	}
	records := m.Answers
	if len(records) == 0 {
		records = m.Authorities
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range records {
		ttl := x.Header.TTL
		if soa, ok := x.Body.(*dnsmessage.SOAResource); ok {
			ttl = min(ttl, soa.MinTTL)
		}
		if d := time.Duration(ttl) * time.Second; !r.seen || d < r.least {
			r.seen, r.least = true, d
		}
	}
}
