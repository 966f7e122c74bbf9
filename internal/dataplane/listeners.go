package dataplane

import (
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
)

// SetListeners names the addresses whose SYNs lose the TCP options that grafting
// cannot honour. An unspecified address stands for all of this host.
func (p *Plane) SetListeners(addrs []netip.AddrPort) error {
	for _, a := range addrs {
		k := bpf.EproxyListener{Port: bpf.Port(a.Port())}
		if !a.Addr().IsUnspecified() {
			k.Address = bpf.Address(a.Addr())
		}
		if err := p.path.Objects.Listeners.Update(&k, uint32(1), ebpf.UpdateAny); err != nil {
			return fmt.Errorf("enter listener %s: %w", a, err)
		}
	}
	return nil
}
