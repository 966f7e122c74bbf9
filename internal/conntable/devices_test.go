package conntable

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"eproxy/internal/bpf"
	"eproxy/internal/broker"
	"eproxy/internal/chunk"
)

// fake is a kernel that has only what the table does in it.
type fake struct {
	t     *testing.T
	gens  map[uint32]uint32
	armed map[uint32]bpf.EproxyTuple // entries in use
	flows map[bpf.EproxyTuple]uint32
	reset map[uint32]bool   // entries whose connection has ended with RST
	made  map[uint32]uint32 // copies for subscribers
	fails bool              // arming and growing fail
	freed chan struct{}     // nil: nobody waits for it
	ops   []bpf.EproxyDeviceArgs

	aliases []bpf.EproxyAliasArgs
}

var errFake = errors.New("no memory")

func (f *fake) grow(uint32) error {
	if f.fails {
		return errFake
	}
	return nil
}
func (f *fake) use(uint32) {}
func (f *fake) arm(index uint32, t bpf.EproxyTuple, _ bpf.EproxyDevice) (uint32, error) {
	if f.fails {
		return 0, errFake
	}
	if old, used := f.armed[index]; used {
		f.t.Fatalf("entry %d is armed for %v while it is that of %v", index, t, old)
	}
	if at, used := f.flows[t]; used {
		f.t.Fatalf("the 4-tuple of entry %d leads to %d still", index, at)
	}
	f.gens[index]++
	delete(f.made, index)
	f.armed[index], f.flows[t] = t, index
	delete(f.reset, index)
	return f.gens[index], nil
}
func (f *fake) forget(index, gen uint32, t bpf.EproxyTuple) {
	if f.gens[index] != gen || f.armed[index] != t {
		f.t.Fatalf("entry %d is freed for generation %d, and is of %d", index, gen, f.gens[index])
	}
	delete(f.armed, index)
	delete(f.flows, t)
	if f.freed != nil {
		close(f.freed)
	}
}
func (f *fake) flow(t bpf.EproxyTuple) (uint32, bool) { i, ok := f.flows[t]; return i, ok }
func (f *fake) unseen(index, gen uint32) bool         { return f.gens[index] == gen && !f.reset[index] }
func (f *fake) ended(index, gen uint32) bool          { return f.gens[index] != gen || f.reset[index] }
func (f *fake) control(args *bpf.EproxyDeviceArgs) error {
	f.ops = append(f.ops, *args)
	if f.fails {
		return errFake
	}
	return nil
}
func (f *fake) lastTake(uint32) time.Duration     { return 0 }
func (f *fake) copies(index uint32) uint32        { return f.made[index] }
func (f *fake) grant(_ *bpf.EproxyGrantKey) error { return nil }
func (f *fake) alias(args *bpf.EproxyAliasArgs) error {
	f.aliases = append(f.aliases, *args)
	if f.fails {
		return errFake
	}
	return nil
}

func tableOf(t *testing.T, n uint32) (*fake, *Devices) {
	f := &fake{t: t, gens: make(map[uint32]uint32), armed: make(map[uint32]bpf.EproxyTuple), flows: make(map[bpf.EproxyTuple]uint32), reset: make(map[uint32]bool), made: make(map[uint32]uint32)}
	return f, newDevices(f, 100, n, slog.New(slog.DiscardHandler))
}

var server = netip.MustParseAddrPort("10.0.0.1:1883")

func client(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), uint16(port))
}

// TestEntriesAreNobodysOrOnes: connections come, end in any order, with RST or without, and come
// again with the same ports; at every moment an entry is one connection's or free, found by
// its generation and no other, and none is lost.
func TestEntriesAreNobodysOrOnes(t *testing.T) {
	for seed := range uint64(200) {
		const entries, ports = 8, 12
		r := rand.New(rand.NewPCG(seed, 1))
		f, table := tableOf(t, entries)
		open := make(map[int]*Device)
		now := time.Unix(0, 0)
		for range 400 {
			port := r.IntN(ports)
			f.fails = r.IntN(20) == 0
			switch d := open[port]; {
			case r.IntN(10) == 0:
				now = now.Add(time.Duration(r.IntN(int(closingTime))))
				table.reap(now)
			case d == nil || r.IntN(4) == 0: // perhaps before the server has noticed that the former one is gone
				d, err := table.arm(broker.ConnInfo{}, server, client(port))
				switch {
				case err == nil:
					open[port] = d
				case !errors.Is(err, errFake) && (!errors.Is(err, errNoRoom) || len(open) < entries):
					t.Fatalf("seed %d: %v with %d connections", seed, err, len(open))
				case len(f.flows) < len(open): // the former one's entry went first
					if _, ok := f.flow(bpf.TupleOf(server, client(port))); !ok {
						delete(open, port)
					}
				}
			case r.IntN(2) == 0:
				f.reset[d.index] = true
				fallthrough
			default:
				table.close(d, now)
				table.close(d, now) // twice does no harm
				delete(open, port)
			}
			if len(table.free)+len(table.live) != entries || len(table.live) != len(f.armed) {
				t.Fatalf("seed %d: %d free, %d in the table, %d in the kernel, of %d", seed, len(table.free), len(table.live), len(f.armed), entries)
			}
			for port, d := range open {
				if table.Get(d.index, d.gen) != d || table.Get(d.index, d.gen+1) != nil || table.Get(d.index, d.gen-1) != nil {
					t.Fatalf("seed %d: the connection of port %d is not found by its generation alone", seed, port)
				}
			}
		}
		table.reap(now.Add(2 * closingTime))
		if len(table.live) != len(open) {
			t.Fatalf("seed %d: %d connections are open and %d in the table", seed, len(open), len(table.live))
		}
	}
}

// TestFailedControlAborts: what the programs could not be told ends the connection.
func TestFailedControlAborts(t *testing.T) {
	f, table := tableOf(t, 1)
	aborted := make(chan struct{})
	d, err := table.arm(broker.ConnInfo{Abort: func() { close(aborted) }}, server, client(1))
	if err != nil {
		t.Fatal(err)
	}
	d.Stop()
	f.fails = true
	d.Stop()
	<-aborted
	if len(f.ops) != 2 || f.ops[0].Conn != d.index || f.ops[0].Gen != d.gen || f.ops[0].Op != uint32(bpf.EproxyDeviceOpDEVICE_OP_STOP) {
		t.Errorf("%+v", f.ops)
	}
}

// TestRunFrees: entries are freed without anybody asking, until the end.
func TestRunFrees(t *testing.T) {
	f, table := tableOf(t, chunk.Size)
	f.freed = make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { table.Run(ctx); close(done) }()
	d, err := table.arm(broker.ConnInfo{}, server, client(1))
	if err != nil {
		t.Fatal(err)
	}
	table.close(d, time.Now().Add(-2*closingTime))
	<-f.freed
	cancel()
	<-done
}

// TestCopiesOfAConnectionThatHasGone: copies for subscribers find their client also when its entry is another's; when all are read nothing is kept of it, and
// what a loader before has left is nobody's.
func TestCopiesOfAConnectionThatHasGone(t *testing.T) {
	f, table := tableOf(t, 1)
	d, err := table.arm(broker.ConnInfo{ClientID: "gone"}, server, client(1))
	if err != nil {
		t.Fatal(err)
	}
	f.made[d.index] = 2
	if got := table.Copied(d.index, d.gen); got != d || d.Copies() != 2 {
		t.Fatalf("the copy is of %v, of %d", got, d.Copies())
	}
	f.reset[d.index] = true
	table.close(d, time.Unix(0, 0))
	next, err := table.arm(broker.ConnInfo{ClientID: "next"}, server, client(2))
	if err != nil || next.index != d.index {
		t.Fatal(next, err)
	}
	f.made[d.index] = 7
	if d.Copies() != 2 || next.Copies() != 7 {
		t.Errorf("%d and %d copies", d.Copies(), next.Copies())
	}
	for i, want := range []*Device{d, nil} {
		if got := table.Copied(d.index, d.gen); got != want {
			t.Errorf("copy %d is of %v, want %v", i, got, want)
		}
	}
	if got := table.Copied(d.index, next.gen); got != next || len(table.owed) != 0 {
		t.Errorf("the copy is of %v, and %d are kept", got, len(table.owed))
	}
}
