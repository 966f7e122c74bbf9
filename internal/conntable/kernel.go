package conntable

import (
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
)

// kernel is what the table does in the kernel.
type kernel interface {
	// grow sees to it that a connection has memory; use lets the sweeper look at it.
	grow(index uint32) error
	use(index uint32)
	// arm starts a new generation of an entry with what the programs are to know of the
	// device; forget ends one.
	arm(index uint32, t bpf.EproxyTuple, d bpf.EproxyDevice) (gen uint32, err error)
	forget(index, gen uint32, t bpf.EproxyTuple)
	// flow is the conn index that a 4-tuple leads to.
	flow(t bpf.EproxyTuple) (index uint32, ok bool)
	// ended says whether no packet of a generation can need translation.
	ended(index, gen uint32) bool
	// unseen says whether no program has seen a packet of a generation yet.
	unseen(index, gen uint32) bool
	// control changes something under the entry's lock.
	control(args *bpf.EproxyDeviceArgs) error
	// lastTake is when the programs last took a message, clock.Monotonic; 0: never.
	lastTake(index uint32) time.Duration
	// copies is how many copies for subscribers they have made, modulo 2^32.
	copies(index uint32) uint32
	grant(key *bpf.EproxyGrantKey) error
	// alias changes what a topic alias of a connection stands for.
	alias(args *bpf.EproxyAliasArgs) error
}

// maps is the kernel of loaded programs.
type maps struct {
	*Entries
	memory   *chunk.Memory[bpf.EproxyDevice]
	first    uint32 // conn index of the first
	program  *ebpf.Program
	grants   *ebpf.Map
	aliases  *chunk.Array
	rename   *ebpf.Program // alias_control
	connsEnd *uint32
}

func (m *maps) grow(index uint32) error {
	if err := m.memory.Grow(index - m.first); err != nil {
		return err
	}
	return m.Grow(index)
}

func (m *maps) use(index uint32) { atomic.StoreUint32(m.connsEnd, max(*m.connsEnd, index+1)) }

func (m *maps) arm(index uint32, t bpf.EproxyTuple, d bpf.EproxyDevice) (uint32, error) {
	old, err := m.Read(index)
	if err != nil {
		return 0, err
	}
	d.Gen = old.Gen + 1
	*m.memory.At(index - m.first) = d
	return m.Arm(index, bpf.EproxyConnKindCONN_DEVICE, t)
}

func (m *maps) forget(index, gen uint32, t bpf.EproxyTuple) { m.Free(index, gen, t) }

func (m *maps) flow(t bpf.EproxyTuple) (uint32, bool) { return m.Flow(t) }

func (m *maps) ended(index, gen uint32) bool {
	c, err := m.Read(index)
	if err != nil {
		return false
	}
	return c.Gen != gen || c.State == uint16(bpf.EproxyConnStateCONN_FREE) || c.State == uint16(bpf.EproxyConnStateCONN_CLOSED)
}

func (m *maps) unseen(index, gen uint32) bool {
	c, err := m.Read(index)
	return err == nil && c.Gen == gen && c.State == uint16(bpf.EproxyConnStateCONN_ARMED)
}

func (m *maps) control(args *bpf.EproxyDeviceArgs) error {
	_, err := m.program.Run(&ebpf.RunOptions{Context: args, ContextOut: args})
	return err
}

func (m *maps) lastTake(index uint32) time.Duration {
	return time.Duration(atomic.LoadUint64(&m.memory.At(index - m.first).LastTakeNs))
}

func (m *maps) copies(index uint32) uint32 {
	return atomic.LoadUint32(&m.memory.At(index - m.first).Copies)
}

func (m *maps) grant(key *bpf.EproxyGrantKey) error { return m.grants.Put(key, uint32(1)) }

// alias sees to it that there is memory for the aliases of the connection, and of those beside it, first.
func (m *maps) alias(args *bpf.EproxyAliasArgs) error {
	if err := m.aliases.Grow(args.Conn - m.first); err != nil {
		return err
	}
	_, err := m.rename.Run(&ebpf.RunOptions{Context: args, ContextOut: args})
	return err
}
