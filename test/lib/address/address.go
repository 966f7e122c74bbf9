// Package address finds addresses that nobody listens on.
package address

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
)

// Free is an address of this host, with a port, that nobody listens on and nobody will take before the test does. A port of 127.0.0.1 that was free just now may be the
// next connection's own: connections within this host come from there. So this is one of 127.64.0.0/10, by chance.
func Free(t testing.TB) string {
	t.Helper()
	r := rand.Uint32()
	a := netip.AddrFrom4([4]byte{127, 64 | byte(r)&63, byte(r >> 8), 1 + byte(r>>16)%254})
	l, err := net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
