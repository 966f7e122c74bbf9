package pinned

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
)

// PodLoad is what a pod in service has to do.
type PodLoad struct {
	Function string
	Address  netip.AddrPort
	State    string         // of PodStates
	Slots    map[string]int // by state
	InFlight int            // requests, the fallback's own among them
}

// Loads are those of a moment.
type Loads struct {
	Functions []Function
	Served    []PodLoad
	Left      []LeftPod
}

// Loads reads what Functions, Slots and LeftPods tell, as far as it can be counted: each entry once, and none of connections.
func (m *Maps) Loads() (l Loads, err error) {
	if l.Functions, err = m.Functions(); err != nil {
		return l, err
	}
	names := namesOf(l.Functions)
	served, err := m.served()
	if err != nil {
		return l, err
	}
	if l.Left, err = m.leftBeside(served, names); err != nil {
		return l, err
	}
	slots := m.slotParts.Pass()
	for _, p := range served {
		x := PodLoad{Function: names[p.Function], Address: addrPort(p.Address, p.Port), State: podState(uint32(p.Up)),
			Slots: make(map[string]int), InFlight: int(p.Fallback)}
		for i := range uint32(p.Concurrency) {
			var s bpf.EproxySlot // free, where none so high was ever dialled
			if err := slots.Lookup(m.slotOf(p.FirstSlot, i), &s, 0); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return l, fmt.Errorf("read slot %d of pod %s: %w", i, x.Address, err)
			}
			x.Slots[stateName(s.State)]++
			x.InFlight += int(s.Tail - s.Head)
		}
		l.Served = append(l.Served, x)
	}
	return l, nil
}
