package dataplane

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"eproxy/internal/abi"
	"eproxy/internal/bpf"
	"eproxy/internal/broker"
	"eproxy/internal/chunk"
	"eproxy/internal/request"
)

// closingTime is how long a closed connection's packets are still translated:
// the local end may be in TIME_WAIT (RFC 9293 section 3.6.1).
const closingTime = 60 * time.Second

// device is one client's connection that may be grafted. It implements
// broker.Graft.
type device struct {
	plane    *Plane
	index    uint32
	gen      uint32
	tuple    bpf.EproxyTuple
	info     broker.ConnInfo
	closedAt time.Time // guarded by connTable.mu
}

var _ broker.Grafter = (*Plane)(nil)

// Established arms a client's connection; broker.Grafter. Nil means that the
// connection stays with the fallback.
func (p *Plane) Established(ci broker.ConnInfo) broker.Graft {
	local, ok1 := addrPort(ci.Conn.LocalAddr())
	remote, ok2 := addrPort(ci.Conn.RemoteAddr())
	if !ok1 || !ok2 {
		return nil
	}
	index, err := p.conns.reserve(p)
	if err != nil {
		p.log.Warn("connection stays with the fallback", "client", ci.ClientID, "error", err)
		return nil
	}
	d := &device{plane: p, index: index, tuple: tupleOf(local, remote), info: ci}

	mem := p.arrays.devices.At(index - p.slots)
	*mem = bpf.EproxyDevice{
		Read:        uint32(ci.Read),
		AtBoundary:  uint8(flag(ci.AtBoundary)),
		Rights:      ci.Rights,
		Version:     ci.Version,
		InflightMax: uint16(p.inflightMax.Load()),
	}
	setSender(mem, ci)
	p.conns.replaced(p, d.tuple)
	old, err := p.readConn(index)
	if err == nil {
		mem.Gen = old.Gen + 1
		d.gen, err = p.armConn(index, bpf.EproxyConnKindCONN_DEVICE, d.tuple)
	}
	if err != nil {
		p.log.Warn("connection stays with the fallback", "client", ci.ClientID, "error", err)
		p.conns.put(index)
		return nil
	}
	p.conns.mu.Lock()
	p.conns.entries[index] = d
	p.conns.mu.Unlock()
	p.strays.add(d)
	return d
}

// setSender writes the bytes that say in each request of a connection who sent it. Those that
// do not fit have a length that the programs refuse.
func setSender(d *bpf.EproxyDevice, ci broker.ConnInfo) {
	for i, fromPublisher := range []bool{false, true} {
		b := request.Sender(nil, ci.ClientID, ci.Username, fromPublisher)
		copy(d.Sender[:], b)
		d.SenderLen[i] = uint8(min(len(b), len(d.Sender)+1))
	}
}

// control runs the control program of devices' connections, and returns its results.
func (d *device) control(args bpf.EproxyDeviceArgs) bpf.EproxyDeviceArgs {
	args.Conn, args.Gen = d.index, d.gen
	if _, err := d.plane.objs.DeviceControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		// What must not be taken any more must not: nothing of this connection is.
		d.plane.log.Error("connection aborted, the programs could not be notified of a change", "client", d.info.ClientID, "error", err)
		go d.info.Abort() // which comes back here, and whoever called may hold a lock
	}
	return args
}

// Boundary notifies the programs where an MQTT packet begins, if they lost track.
func (d *device) Boundary(read uint64) {
	d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_BOUNDARY), Read: read})
}

// Authorize gives the client other rights; broker.Graft.
func (d *device) Authorize(rights uint32) {
	d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_RIGHTS), Rights: rights})
}

// Hold enters a QoS 1 message of the fallback; broker.Graft.
func (d *device) Hold(packetID uint16, dup bool) (h broker.Hold, repeated bool) {
	args := d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_HOLD), PacketId: packetID, Dup: uint16(flag(dup)), Hold: abi.HoldNone})
	return broker.Hold(args.Hold), args.Repeated == 1
}

// Release ends a message; broker.Graft.
func (d *device) Release(h broker.Hold) bool {
	return d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_RELEASE), Hold: uint32(h)}).Ok == 1
}

// Stop ends taking; broker.Graft.
func (d *device) Stop() {
	d.control(bpf.EproxyDeviceArgs{Op: uint32(bpf.EproxyDeviceOpDEVICE_OP_STOP)})
}

// LastReceive is when the kernel last took a message of this client.
func (d *device) LastReceive() time.Time {
	ns := d.plane.arrays.devices.At(d.index - d.plane.slots).LastTakeNs
	if ns == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(ns) - monotonic())
}

// Granted lets the kernel take this topic from this client while it has these
// rights.
func (d *device) Granted(topic string, rights uint32) {
	key := bpf.EproxyGrantKey{Conn: d.index, Gen: d.gen, Rights: rights, Len: uint32(len(topic))}
	if copy(key.Topic[:], topic) < len(topic) {
		return
	}
	if err := d.plane.objs.Grants.Put(&key, uint32(1)); err != nil {
		d.plane.log.Warn("granting a topic", "error", err)
	}
}

// Close is called when the socket is closed. After a RST the entry is free at
// once; else translation goes on for closingTime.
func (d *device) Close() {
	t := &d.plane.conns
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries[d.index] != d || !d.closedAt.IsZero() {
		return
	}
	if d.plane.ended(d) {
		t.release(d.plane, d)
		return
	}
	d.closedAt = time.Now()
	t.closing = append(t.closing, d)
	select {
	case t.closed <- struct{}{}:
	default: // it was notified already
	}
}

// growAhead is how many connections before the first of a chunk that is made.
const growAhead = chunk.Size / 16

// reserve finds a free index; the oldest closing connection gives way if there is none.
func (t *connTable) reserve(p *Plane) (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.free) == 0 {
		t.reapLocked(p, func(d *device) bool { return p.ended(d) })
	}
	if len(t.free) == 0 && len(t.closing) > 0 {
		t.release(p, t.closing[0])
		t.closing = t.closing[1:]
	}
	if len(t.free) == 0 {
		return 0, errNoRoom
	}
	index := t.free[len(t.free)-1]
	if err := p.growDevice(index); err != nil {
		return 0, err
	}
	t.free = t.free[:len(t.free)-1]
	if next := index + growAhead; next%chunk.Size == 0 {
		p.wg.Go(func() { _ = p.growDevice(next) }) // before it is needed: the kernel waits for all processors
	}
	atomic.StoreUint32(&p.globals.ConnsEnd, max(p.globals.ConnsEnd, index+1))
	return index, nil
}

func (t *connTable) put(index uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free = append(t.free, index)
}

// release frees an entry; t.mu is held.
func (t *connTable) release(p *Plane, d *device) {
	p.freeConn(d.index, d.gen, d.tuple)
	delete(t.entries, d.index)
	t.free = append(t.free, d.index)
}

// replaced frees the entry of a connection whose 4-tuple a new one has: its
// socket is gone, whether Close was called yet or not.
func (t *connTable) replaced(p *Plane, tuple bpf.EproxyTuple) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, ok := p.flowOf(tuple)
	if d := t.entries[at]; ok && d != nil && d.tuple == tuple {
		t.release(p, d)
		t.closing = slices.DeleteFunc(t.closing, func(other *device) bool { return other == d })
	}
}

// reapLoop frees the entries of closed connections when their time is over.
func (p *Plane) reapLoop() {
	defer p.wg.Done()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.conns.closed:
		}
		for wait := p.conns.reap(p, time.Now()); wait > 0; wait = p.conns.reap(p, time.Now()) {
			select {
			case <-p.ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}
}

// reap frees the entries of connections that were closed long ago. Returns the
// time until the next one is due, 0 if there is none.
func (t *connTable) reap(p *Plane, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reapLocked(p, func(d *device) bool { return now.Sub(d.closedAt) >= closingTime })
	if len(t.closing) == 0 {
		return 0
	}
	return max(closingTime-now.Sub(t.closing[0].closedAt), time.Millisecond)
}

// reapLocked frees the entries of closed connections that are due; t.mu is held.
func (t *connTable) reapLocked(p *Plane, due func(d *device) bool) {
	t.closing = slices.DeleteFunc(t.closing, func(d *device) bool {
		if !due(d) {
			return false
		}
		t.release(p, d)
		return true
	})
}

// ended says whether no packet of the connection can need translation.
func (p *Plane) ended(d *device) bool {
	c, err := p.readConn(d.index)
	if err != nil {
		return false
	}
	return c.Gen != d.gen || c.State == uint16(bpf.EproxyConnStateCONN_FREE) ||
		c.State == uint16(bpf.EproxyConnStateCONN_CLOSED)
}

func addrPort(a net.Addr) (netip.AddrPort, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), ap.IsValid()
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}
