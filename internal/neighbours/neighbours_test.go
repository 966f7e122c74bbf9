package neighbours

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// TestDestinationOfRoutes: whom a route's change may concern.
func TestDestinationOfRoutes(t *testing.T) {
	for _, want := range []string{"0.0.0.0/0", "10.1.0.0/16", "10.1.2.3/32", "::/0", "fd00::/8", "fd00::1/128"} {
		p := netip.MustParsePrefix(want)
		m := nl.NewRtMsg()
		m.Family, m.Dst_len = unix.AF_INET, uint8(p.Bits())
		if p.Addr().Is6() {
			m.Family = unix.AF_INET6
		}
		data := m.Serialize()
		if p.Bits() > 0 {
			data = append(data, nl.NewRtAttr(unix.RTA_DST, p.Addr().AsSlice()).Serialize()...)
		}
		if got, ok := destination(data); !ok || got != p {
			t.Errorf("%s read as %s", want, got)
		}
	}
	if _, ok := destination([]byte{1, 2, 3}); ok {
		t.Error("three bytes are a route")
	}
}

// TestNeighboursThatAreBelieved: only what the kernel would use counts, and only what differs from before.
func TestNeighboursThatAreBelieved(t *testing.T) {
	n := &neighbours{macs: make(map[neighbour]macOf)}
	n.settle()
	ip := netip.MustParseAddr("10.0.0.1")
	k := neighbour{1, ip}
	for _, c := range []struct {
		state int
		mac   []byte
		moved bool
	}{
		{unix.NUD_INCOMPLETE, []byte{2, 0, 0, 0, 0, 1}, false},
		{unix.NUD_REACHABLE, nil, false},
		{unix.NUD_REACHABLE, []byte{2, 0, 0, 0, 0, 1}, true},
		{unix.NUD_STALE, []byte{2, 0, 0, 0, 0, 1}, false},
		{unix.NUD_FAILED, []byte{2, 0, 0, 0, 0, 2}, false},
		{unix.NUD_STALE, []byte{2, 0, 0, 0, 0, 2}, true},
		{unix.NUD_PERMANENT, []byte{2, 0, 0, 0, 0, 3}, true},
	} {
		n.settle()
		n.set(&netlink.Neigh{LinkIndex: 1, IP: ip.AsSlice(), State: c.state, HardwareAddr: c.mac}, n.macs)
		if n.moved[k] != c.moved {
			t.Errorf("state %#x, %x: moved %v", c.state, c.mac, n.moved[k])
		}
	}
}

// TestListsAreWhole: a list of the kernel's that changed while it was told counts only when it was told again in one
// piece; one that never is ends in an error, another error at once.
func TestListsAreWhole(t *testing.T) {
	refused := fmt.Errorf("dump: %w", unix.EPERM)
	for _, c := range []struct {
		first error
		times int
		want  error
		tries int
	}{
		{nil, 0, nil, 1},
		{netlink.ErrDumpInterrupted, 2, nil, 3},
		{netlink.ErrDumpInterrupted, dumpTries, netlink.ErrDumpInterrupted, dumpTries},
		{refused, 1, refused, 1},
	} {
		tries := 0
		got, err := uninterrupted(func() ([]int, error) {
			if tries++; tries <= c.times {
				return []int{1}, c.first
			}
			return []int{1, 2}, nil
		})
		if !errors.Is(err, c.want) || tries != c.tries || err == nil && len(got) != 2 {
			t.Errorf("%v %d times: %v, %v after %d tries", c.first, c.times, got, err, tries)
		}
	}
}

// TestPauseEndsWithTheContext: a long look at very many connections does not hold the end up.
func TestPauseEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n := &neighbours{ctx: ctx}
	n.pause(time.Hour)
}
