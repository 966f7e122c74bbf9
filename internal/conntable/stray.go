package conntable

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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
	device *Device
	due    time.Time
}

// add has a connection looked at, which was armed just now.
func (s *strays) add(d *Device) {
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
func (s *strays) due(now time.Time) (out []*Device, wait time.Duration) {
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

// Stray is a connection that no program has seen: Reason is one of the Stray constants, Why is for people.
type Stray struct {
	ClientID    string
	Local       netip.AddrPort
	Reason, Why string
}

// Why a connection is a stray.
const (
	StrayTranslated = "translated" // by netfilter, which says so
	StrayElsewhere  = "elsewhere"
)

// WatchStrays tells of connections that no program has seen, until ctx ends.
func (t *Devices) WatchStrays(ctx context.Context, tell func(Stray)) {
	for {
		devices, wait := t.strays.due(time.Now())
		for _, d := range devices {
			if t.open(d) && t.kernel.unseen(d.index, d.gen) {
				tell(strayOf(d))
			}
		}
		var next <-chan time.Time
		if wait > 0 {
			next = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		case <-t.strays.more:
		}
	}
}

// strayOf says why no program has seen a connection.
func strayOf(d *Device) Stray {
	s := Stray{d.Info.ClientID, d.local, StrayElsewhere, "it came by an interface that is not among interfaces, or its address is translated where netfilter does not know"}
	if dialled, ok := originalDestination(d.Info.Conn); ok && dialled != d.local {
		s.Reason, s.Why = StrayTranslated, fmt.Sprintf("the device has connected to %s, which is translated (as NodePort and LoadBalancer are)", dialled)
	}
	return s
}

// open says whether a connection's socket is open.
func (t *Devices) open(d *Device) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live[d.index] == d && d.closedAt.IsZero()
}

// originalDestinationOption is SO_ORIGINAL_DST (linux/netfilter_ipv4.h) and IP6T_SO_ORIGINAL_DST.
const originalDestinationOption = 80

// originalDestination is the address that the peer of a connection has connected to, if netfilter tracks it.
func originalDestination(c *net.TCPConn) (out netip.AddrPort, ok bool) {
	local, known := AddrPort(c.LocalAddr())
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
			out = netip.AddrPortFrom(netip.AddrFrom16(a.Addr.Addr), binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, a.Addr.Port)))
		}
	})
	return out, ok
}
