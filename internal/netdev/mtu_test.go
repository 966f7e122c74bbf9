package netdev

import "testing"

// TestLargestVethMTU: there is a limit, above what Ethernet has and below what
// jumbo frames have. (Kernels with pages of 64 KiB have none to find.)
func TestLargestVethMTU(t *testing.T) {
	mtu, err := LargestVethMTU()
	if err != nil || mtu < UsualMTU {
		t.Fatalf("%d, %v", mtu, err)
	}
	t.Log(mtu)
}
