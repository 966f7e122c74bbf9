package conntable

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
	"eproxy/internal/chunk"
	"eproxy/internal/lograte"
)

// Entries are the entries of all connections.
type Entries struct {
	conns *chunk.Array
	flows *ebpf.Map
	free  *ebpf.Program // conn_free
	often *lograte.Logger

	mu sync.Mutex // arming and freeing: an entry and its flow belong together
}

// NewEntries makes the Entries of loaded maps. conns is the array of the map of that name.
func NewEntries(o *bpf.EproxyObjects, conns *chunk.Array, often *lograte.Logger) *Entries {
	return &Entries{conns: conns, flows: o.Flows, free: o.ConnFree, often: often}
}

// Grow sees to it that an entry has memory.
func (e *Entries) Grow(index uint32) error { return e.conns.Grow(index) }

// Read reads a connection's state under its lock.
func (e *Entries) Read(index uint32) (*bpf.EproxyConn, error) {
	var c bpf.EproxyConn
	if err := e.conns.Lookup(index, &c, ebpf.LookupLock); err != nil {
		return nil, fmt.Errorf("read connection %d: %w", index, err)
	}
	return &c, nil
}

// Arm starts a new generation of a connection's entry, waiting for its first packet, and
// makes it findable. What else the programs read of the connection must be in place.
func (e *Entries) Arm(index uint32, kind bpf.EproxyConnKind, t bpf.EproxyTuple) (gen uint32, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old, err := e.Read(index)
	if err != nil {
		return 0, err
	}
	c := bpf.EproxyConn{Gen: old.Gen + 1, State: uint16(bpf.EproxyConnStateCONN_ARMED), Kind: uint8(kind), Tuple: t}
	if err := e.conns.Update(index, &c, ebpf.UpdateExist|ebpf.UpdateLock); err != nil {
		return 0, fmt.Errorf("arm connection %d: %w", index, err)
	}
	if err := e.flows.Put(&t, index); err != nil {
		return 0, fmt.Errorf("enter flow: %w", err)
	}
	return c.Gen, nil
}

// Flow is the conn index that the flows map has for a 4-tuple.
func (e *Entries) Flow(t bpf.EproxyTuple) (index uint32, ok bool) {
	return index, e.flows.Lookup(&t, &index) == nil
}

// Free forgets a generation of a connection: its packets are no longer translated. Where
// the entry is another's by now, that one is left alone.
func (e *Entries) Free(index, gen uint32, t bpf.EproxyTuple) {
	e.mu.Lock()
	defer e.mu.Unlock()
	args := bpf.EproxyFreeArgs{Conn: index, Gen: gen}
	if _, err := e.free.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		e.often.Warn("forgetting a connection", err.Error(), "error", err)
		return
	}
	if args.Ok == 0 { // ended by a SYN-ACK on its 4-tuple, or the next owner's
		if next, err := e.Read(index); err != nil || next.State != uint16(bpf.EproxyConnStateCONN_FREE) && next.Tuple == t {
			return
		}
	}
	if at, ok := e.Flow(t); ok && at == index {
		_ = e.flows.Delete(&t)
	}
}
