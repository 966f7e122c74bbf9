package conntable

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/broker"
	"eproxy/internal/chunk"
	"eproxy/internal/lines"
	"eproxy/internal/mapmem"
	"eproxy/internal/request"
)

// closingTime is how long a closed connection's packets are still translated:
// the local end may be in TIME_WAIT (RFC 9293 section 3.6.1).
const closingTime = 60 * time.Second

// growAhead is how many connections before the first of a chunk that is made.
const growAhead = chunk.Size / 16

var errNoRoom = errors.New("no free connection entries")

// Devices are the clients' connections that may be grafted.
type Devices struct {
	kernel kernel
	log    *slog.Logger
	first  uint32 // conn index of the first
	// inflightMax is how many messages of one client may be in flight in the kernel path.
	inflightMax atomic.Uint32
	names       lines.Names
	growing     sync.WaitGroup
	strays      strays

	mu      sync.Mutex
	free    []uint32
	live    map[uint32]*Device // by conn index, closing ones among them
	closing []*Device          // oldest first
	owed    map[key]*Device    // gone, with copies for subscribers still to be read
	closed  chan struct{}      // there is something in closing
}

// New makes the table of n connections behind those of the slots, in mem. names are those of the clients' lines.
func New(o *bpf.EproxyObjects, e *Entries, mem *mapmem.Memory, n uint32, names lines.Names, log *slog.Logger) *Devices {
	first := mem.Most
	t := newDevices(&maps{Entries: e, memory: mem.Devices, first: first, program: o.DeviceControl, grants: o.Grants,
		aliases: mem.Aliases, rename: o.AliasControl, connsEnd: &mem.Globals.ConnsEnd}, first, n, log)
	t.names = names
	return t
}

func newDevices(k kernel, first, n uint32, log *slog.Logger) *Devices {
	t := &Devices{kernel: k, log: log, names: lines.New(), first: first, live: make(map[uint32]*Device), owed: make(map[key]*Device), closed: make(chan struct{}, 1), strays: strays{more: make(chan struct{}, 1)}}
	for i := n; i > 0; i-- {
		t.free = append(t.free, first+i-1)
	}
	return t
}

// SetInflight sets how many messages of one client may be in flight in the kernel path, of
// those that connect from now on.
func (t *Devices) SetInflight(most uint32) { t.inflightMax.Store(most) }

// Get finds the device that an event or a message names; nil: it is gone.
func (t *Devices) Get(index, gen uint32) *Device {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.live[index]; d != nil && d.gen == gen {
		return d
	}
	return nil
}

// Link is a connection with its two addresses.
type Link struct {
	Index, Gen    uint32
	Local, Remote netip.Addr
}

// Links are all connections, those that are closing among them.
func (t *Devices) Links() []Link {
	t.mu.Lock()
	defer t.mu.Unlock()
	links := make([]Link, 0, len(t.live))
	for index, d := range t.live {
		links = append(links, Link{index, d.gen, d.local.Addr(), d.remote.Addr()})
	}
	return links
}

// Established arms a client's connection; broker.Grafter. Nil means that the
// connection stays with the fallback.
func (t *Devices) Established(ci broker.ConnInfo) broker.Graft {
	local, ok1 := AddrPort(ci.Conn.LocalAddr())
	remote, ok2 := AddrPort(ci.Conn.RemoteAddr())
	if !ok1 || !ok2 {
		return nil
	}
	d, err := t.arm(ci, local, remote)
	if err != nil {
		t.log.Warn("connection stays with the fallback", "client", ci.ClientID, "error", err)
		return nil
	}
	return d
}

// arm gives a connection an entry.
func (t *Devices) arm(ci broker.ConnInfo, local, remote netip.AddrPort) (*Device, error) {
	index, err := t.reserve()
	if err != nil {
		return nil, err
	}
	d := &Device{table: t, index: index, local: local, remote: remote, tuple: bpf.TupleOf(local, remote), Info: ci}
	t.replaced(d.tuple)
	mem := bpf.EproxyDevice{
		Read:        uint32(ci.Read),
		Arm:         bpf.Flag(ci.AtBoundary)*uint8(bpf.EproxyArmFlagARM_BOUNDARY) | bpf.Flag(ci.Clear)*uint8(bpf.EproxyArmFlagARM_CLEAR),
		Rights:      ci.Rights,
		Version:     ci.Version,
		InflightMax: uint16(t.inflightMax.Load()),
		Line:        t.names.Client(ci.ClientID),
	}
	setSender(&mem, ci)
	if d.gen, err = t.kernel.arm(index, d.tuple, mem); err != nil {
		t.put(index)
		return nil, err
	}
	t.mu.Lock()
	t.live[index] = d
	t.mu.Unlock()
	t.strays.add(d)
	return d, nil
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

// reserve finds a free index; the oldest closing connection gives way if there is none.
func (t *Devices) reserve() (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.free) == 0 {
		t.reapLocked(t.ended)
	}
	if len(t.free) == 0 && len(t.closing) > 0 {
		t.release(t.closing[0])
		t.closing = t.closing[1:]
	}
	if len(t.free) == 0 {
		return 0, errNoRoom
	}
	index := t.free[len(t.free)-1]
	if err := t.kernel.grow(index); err != nil {
		return 0, err
	}
	t.free = t.free[:len(t.free)-1]
	if next := index + growAhead; next%chunk.Size == 0 {
		t.growing.Go(func() { _ = t.kernel.grow(next) }) // before it is needed: the kernel waits for all processors
	}
	t.kernel.use(index)
	return index, nil
}

func (t *Devices) put(index uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free = append(t.free, index)
}

// release frees an entry; t.mu is held.
func (t *Devices) release(d *Device) {
	t.kernel.forget(d.index, d.gen, d.tuple)
	t.part(d)
	delete(t.live, d.index)
	t.free = append(t.free, d.index)
}

// replaced frees the entry of a connection whose 4-tuple a new one has: its
// socket is gone, whether Close was called yet or not.
func (t *Devices) replaced(tuple bpf.EproxyTuple) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, ok := t.kernel.flow(tuple)
	if d := t.live[at]; ok && d != nil && d.tuple == tuple {
		t.release(d)
		t.closing = slices.DeleteFunc(t.closing, func(other *Device) bool { return other == d })
	}
}

// close is Device.Close.
func (t *Devices) close(d *Device, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live[d.index] != d || !d.closedAt.IsZero() {
		return
	}
	if t.ended(d) {
		t.release(d)
		return
	}
	d.closedAt = now
	t.closing = append(t.closing, d)
	select {
	case t.closed <- struct{}{}:
	default: // it was notified already
	}
}

// Run frees the entries of closed connections when their time is over, until ctx ends.
// When it returns, nothing of the table touches the maps by itself.
func (t *Devices) Run(ctx context.Context) {
	defer t.growing.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.closed:
		}
		for wait := t.reap(time.Now()); wait > 0; wait = t.reap(time.Now()) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	}
}

// reap frees the entries of connections that were closed long ago. Returns the
// time until the next one is due, 0 if there is none.
func (t *Devices) reap(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reapLocked(func(d *Device) bool { return now.Sub(d.closedAt) >= closingTime })
	if len(t.closing) == 0 {
		return 0
	}
	return max(closingTime-now.Sub(t.closing[0].closedAt), time.Millisecond)
}

// reapLocked frees the entries of closed connections that are due; t.mu is held.
func (t *Devices) reapLocked(due func(d *Device) bool) {
	t.closing = slices.DeleteFunc(t.closing, func(d *Device) bool {
		if !due(d) {
			return false
		}
		t.release(d)
		return true
	})
}

// ended says whether no packet of the connection can need translation.
func (t *Devices) ended(d *Device) bool { return t.kernel.ended(d.index, d.gen) }

// AddrPort is a TCP connection's address, IPv4 as such, without a zone.
func AddrPort(a net.Addr) (netip.AddrPort, bool) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port()), ap.IsValid()
}
