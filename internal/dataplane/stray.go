package dataplane

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/bpf"
)

// strayAfter is how long after CONNECT a program should have seen the CONNACK leave, also one that
// was lost twice.
const strayAfter = 5 * time.Second

// strays finds connections of devices that no program ever sees as their sockets know them, so that
// they stay with the fallback for good: translated ones (NodePort, LoadBalancer), and those that
// come by another interface.
type strays struct {
	mu    sync.Mutex
	young []arrival // in the order in which they are due
	more  chan struct{}
}

// arrival is a connection that is to be looked at.
type arrival struct {
	device *device
	due    time.Time
}

// add has a connection looked at, which was armed just now.
func (s *strays) add(d *device) {
	s.mu.Lock()
	s.young = append(s.young, arrival{d, time.Now().Add(strayAfter)})
	first := len(s.young) == 1
	s.mu.Unlock()
	if first {
		select {
		case s.more <- struct{}{}:
		default:
		}
	}
}

// due takes the connections whose time has come, and says how long it is to the next one's; 0: there is none.
func (s *strays) due(now time.Time) (out []*device, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.young) > 0 && !s.young[0].due.After(now) {
		out = append(out, s.young[0].device)
		s.young = s.young[1:]
	}
	if len(s.young) == 0 {
		s.young = nil // with what it held
		return out, 0
	}
	return out, s.young[0].due.Sub(now)
}

// strayLoop looks at connections until Close.
func (p *Plane) strayLoop() {
	for {
		devices, wait := p.strays.due(time.Now())
		for _, d := range devices {
			p.lookAt(d)
		}
		var next <-chan time.Time
		if wait > 0 {
			next = time.After(wait)
		}
		select {
		case <-p.ctx.Done():
			return
		case <-next:
		case <-p.strays.more:
		}
	}
}

// Why a connection is a stray.
const (
	strayTranslated = "translated" // by netfilter, which says so
	strayElsewhere  = "elsewhere"
)

// lookAt counts and logs a connection that no program has seen.
func (p *Plane) lookAt(d *device) {
	c, err := p.readConn(d.index)
	if err != nil || c.Gen != d.gen || c.State != uint16(bpf.EproxyConnStateCONN_ARMED) || !p.conns.connected(d) {
		return
	}
	local, _ := addrPort(d.info.Conn.LocalAddr())
	reason, why := strayElsewhere, "it came by an interface that is not among interfaces, or its address is translated where netfilter does not know"
	if dialled, ok := originalDestination(d.info.Conn); ok && dialled != local {
		reason, why = strayTranslated, fmt.Sprintf("the device has connected to %s, which is translated (as NodePort and LoadBalancer are)", dialled)
	}
	p.recorder.Stray(reason)
	p.often.Warn("a device's connection stays with the fallback, no program sees it", reason+" "+local.String(), "client", d.info.ClientID, "local", local, "reason", why)
}

// connected says whether a connection's socket is open.
func (t *connTable) connected(d *device) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.entries[d.index] == d && d.closedAt.IsZero()
}

// originalDestinationOption is SO_ORIGINAL_DST (linux/netfilter_ipv4.h) and IP6T_SO_ORIGINAL_DST.
const originalDestinationOption = 80

// originalDestination is the address that the peer of a connection has connected to, if netfilter tracks it.
func originalDestination(c *net.TCPConn) (out netip.AddrPort, ok bool) {
	local, known := addrPort(c.LocalAddr())
	raw, err := c.SyscallConn()
	if err != nil || !known {
		return out, false
	}
	_ = raw.Control(func(fd uintptr) {
		if local.Addr().Is4() {
			// a struct sockaddr_in is no longer than what this reads
			a, err := unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, originalDestinationOption)
			if ok = err == nil; ok {
				b := a.Multiaddr
				out = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
			}
			return
		}
		// and a struct sockaddr_in6 begins this
		a, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, originalDestinationOption)
		if ok = err == nil; ok {
			out = netip.AddrPortFrom(netip.AddrFrom16(a.Addr.Addr), port(a.Addr.Port))
		}
	})
	return out, ok
}
