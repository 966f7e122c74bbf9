package pinned

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
)

// slotOf is the conn index of slot n of a pod.
func (m *Maps) slotOf(first, n uint32) uint32 {
	return first + n<<bpf.PodShift(m.maps["pods"].MaxEntries())
}

// Slot is one connection to a pod.
type Slot struct {
	Index    uint32
	Pod      Pod
	State    string
	Requests uint32
	InFlight int // requests
	Local    netip.AddrPort
}

// Slots are the connections to pods.
func (m *Maps) Slots() ([]Slot, error) {
	pods, err := m.Pods()
	if err != nil {
		return nil, err
	}
	slots, conns := m.slotParts.Pass(), m.conns.Pass()
	var out []Slot
	for _, p := range pods {
		for i := range uint32(p.Concurrency) {
			var s bpf.EproxySlot
			index := m.slotOf(p.FirstSlot, i)
			if err := slots.Lookup(index, &s, 0); errors.Is(err, ebpf.ErrKeyNotExist) {
				out = append(out, Slot{Index: index, Pod: p, State: stateName(uint32(bpf.EproxySlotStateSLOT_FREE))})
				continue
			} else if err != nil {
				return nil, fmt.Errorf("read slot %d: %w", index, err)
			}
			c, err := connOf(conns, index)
			if errors.Is(err, ebpf.ErrKeyNotExist) { // it is just being made
				c, err = bpf.EproxyConn{}, nil
			}
			if err != nil {
				return nil, err
			}
			out = append(out, Slot{index, p, stateName(s.State), s.Count - s.Dials, int(s.Tail - s.Head), addrPort(c.Tuple.Local, c.Tuple.LocalPort)})
		}
	}
	return out, nil
}
