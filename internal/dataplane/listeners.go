package dataplane

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
)

// SetListeners names the addresses whose SYNs lose the TCP options that grafting
// cannot honour. An unspecified address stands for all of this host.
func (p *Plane) SetListeners(addrs []netip.AddrPort) error {
	for _, a := range addrs {
		k := listenerKey(a)
		if err := p.path.Objects.Listeners.Update(&k, uint32(1), ebpf.UpdateAny); err != nil {
			return fmt.Errorf("enter listener %s: %w", a, err)
		}
	}
	return nil
}

// DropListeners forgets addresses: what another program accepts there keeps its TCP options.
func (p *Plane) DropListeners(addrs []netip.AddrPort) error {
	for _, a := range addrs {
		k := listenerKey(a)
		if err := p.path.Objects.Listeners.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("remove listener %s: %w", a, err)
		}
	}
	return nil
}

func listenerKey(a netip.AddrPort) bpf.EproxyListener {
	k := bpf.EproxyListener{Port: bpf.Port(a.Port())}
	if !a.Addr().IsUnspecified() {
		k.Address = bpf.Address(a.Addr())
	}
	return k
}
