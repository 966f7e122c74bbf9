package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"

	"github.com/cilium/ebpf"

	"eproxy/internal/bpf"
)

// connTable hands out indexes of devices' connections.
type connTable struct {
	mu      sync.Mutex
	free    []uint32
	entries map[uint32]*device
	closing []*device     // oldest first
	closed  chan struct{} // there is something in closing
}

func (t *connTable) init(first, n uint32) {
	t.closed = make(chan struct{}, 1)
	t.entries = make(map[uint32]*device)
	for i := n; i > 0; i-- {
		t.free = append(t.free, first+i-1)
	}
}

// get finds the device that an event names.
func (t *connTable) get(index, gen uint32) *device {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.entries[index]; d != nil && d.gen == gen {
		return d
	}
	return nil
}

// tupleOf is a connection's key in the flows map.
func tupleOf(local, remote netip.AddrPort) bpf.EproxyTuple {
	return bpf.EproxyTuple{Local: address(local.Addr()), Remote: address(remote.Addr()),
		LocalPort: port(local.Port()), RemotePort: port(remote.Port())}
}

// address is in network byte order, IPv4 as a mapped address.
func address(a netip.Addr) (out [4]uint32) {
	b := a.As16()
	for i := range out {
		out[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return out
}

// port converts to network byte order.
func port(p uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(p >> 8), byte(p)})
}

// readConn reads a connection's state under its lock.
func (p *Plane) readConn(index uint32) (*bpf.EproxyConn, error) {
	var c bpf.EproxyConn
	if err := p.arrays.conns.Lookup(index, &c, ebpf.LookupLock); err != nil {
		return nil, fmt.Errorf("read connection %d: %w", index, err)
	}
	return &c, nil
}

// armConn starts a new generation of a connection's entry, waiting for its
// first packet, and makes it findable. The rest of the entry must be in place.
func (p *Plane) armConn(index uint32, kind bpf.EproxyConnKind, t bpf.EproxyTuple) (gen uint32, err error) {
	p.flowMu.Lock()
	defer p.flowMu.Unlock()
	old, err := p.readConn(index)
	if err != nil {
		return 0, err
	}
	c := bpf.EproxyConn{Gen: old.Gen + 1, State: uint16(bpf.EproxyConnStateCONN_ARMED), Kind: uint8(kind), Tuple: t}
	if err := p.arrays.conns.Update(index, &c, ebpf.UpdateExist|ebpf.UpdateLock); err != nil {
		return 0, fmt.Errorf("arm connection %d: %w", index, err)
	}
	if err := p.objs.Flows.Put(&t, index); err != nil {
		return 0, fmt.Errorf("enter flow: %w", err)
	}
	return c.Gen, nil
}

// flowOf is the conn index that the flows map has for a 4-tuple.
func (p *Plane) flowOf(t bpf.EproxyTuple) (index uint32, ok bool) {
	return index, p.objs.Flows.Lookup(&t, &index) == nil
}

// freeConn forgets a generation of a connection: its packets are no longer
// translated. Where the entry is another's by now, that one is left alone.
func (p *Plane) freeConn(index, gen uint32, t bpf.EproxyTuple) {
	p.flowMu.Lock()
	defer p.flowMu.Unlock()
	args := bpf.EproxyFreeArgs{Conn: index, Gen: gen}
	if _, err := p.objs.ConnFree.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		p.often.Warn("forgetting a connection", err.Error(), "error", err)
		return
	}
	if args.Ok == 0 { // ended by a SYN-ACK on its 4-tuple, or the next owner's
		if next, err := p.readConn(index); err != nil || next.State != uint16(bpf.EproxyConnStateCONN_FREE) && next.Tuple == t {
			return
		}
	}
	if at, ok := p.flowOf(t); ok && at == index {
		_ = p.objs.Flows.Delete(&t)
	}
}

// slotControl runs the control program of slots. A message that it takes over
// takeOver must finish.
func (p *Plane) slotControl(op bpf.EproxySlotOp, in bpf.EproxySlotArgs) (args bpf.EproxySlotArgs, err error) {
	if op == bpf.EproxySlotOpSLOT_OP_TAKE_OVER {
		p.finishing.Add(1) // before the slot no longer counts it
		defer func() {
			if err != nil || args.Ok == 0 {
				p.finishing.Add(-1)
			}
		}()
	}
	for {
		args = in
		args.Op = uint32(op)
		if _, err := p.objs.SlotControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
			return args, fmt.Errorf("slot control: %w", err)
		}
		if args.Ok != uint32(bpf.EproxySlotResultSLOT_AGAIN) {
			return args, nil
		}
		runtime.Gosched() // another processor is about to finish with the slot
	}
}

var errNoRoom = errors.New("no free connection entries")
