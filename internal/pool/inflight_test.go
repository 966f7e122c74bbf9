package pool

import (
	"context"
	"net/netip"
	"testing"

	"eproxy/internal/config"
)

// TestInFlightByPod: each pod that nobody else uses is told with the places that are
// taken, also none; one that others use is told by them.
func TestInFlightByPod(t *testing.T) {
	own, shared := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
	both := []*config.Function{{Name: "f", Pods: []netip.AddrPort{own, shared}, Concurrency: 2}}
	s := New(both)
	defer s.Close()
	s.ReloadShared(both, func(_ string, a netip.AddrPort) Place {
		if a == shared {
			return Place{Shared: &full{}}
		}
		return Place{}
	})
	tells := func(want int) {
		t.Helper()
		told := make(map[netip.AddrPort]int)
		s.EachInFlight(func(function string, pod netip.AddrPort, n int) {
			if function != "f" {
				t.Errorf("function %q", function)
			}
			told[pod] = n
		})
		if n, known := told[own]; !known || n != want || len(told) != 1 {
			t.Errorf("told %v, want %d at %s alone", told, want, own)
		}
	}
	tells(0)
	l, err := s.Acquire(context.Background(), "f", "c", nil)
	if err != nil {
		t.Fatal(err)
	}
	tells(1)
	l.Release()
	tells(0)
}

// full is a pod of which others have all places.
type full struct{ Shared }

func (*full) Adopt(int)       {}
func (*full) Enter() bool     { return false }
func (*full) Free() int       { return 0 }
func (*full) Spare() bool     { return false }
func (*full) Asleep() bool    { return false }
func (*full) Contended() bool { return false }
