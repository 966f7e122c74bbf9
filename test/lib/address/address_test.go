package address

import (
	"net"
	"net/netip"
	"testing"
)

// TestNobodyTakesIt: connections within this host do not come from such an address, and two of them differ.
func TestNobodyTakesIt(t *testing.T) {
	one, other := Free(t), Free(t)
	l, err := net.Listen("tcp", one)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", one)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	taken := netip.MustParsePrefix("127.64.0.0/10")
	if from := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr(); taken.Contains(from) || one == other || !taken.Contains(netip.MustParseAddrPort(one).Addr()) {
		t.Errorf("a connection to %s comes from %s; another address is %s", one, from, other)
	}
}
