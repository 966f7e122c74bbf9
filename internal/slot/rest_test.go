package slot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"eproxy/internal/bpf"
	"eproxy/internal/config"
	"eproxy/internal/conntable"
	"eproxy/internal/datapath"
	"eproxy/internal/depth"
	"eproxy/internal/mapmem"
	"eproxy/internal/takeover"
	"eproxy/test/lib/bpffs"
)

// handed are the messages that a slot hands to userspace, and how many it says that it is about to.
type handed struct {
	sent []takeover.Sent
	open int
}

func (h *handed) Begin()                     { h.open++ }
func (h *handed) Cancel()                    { h.open-- }
func (h *handed) FinishSent(s takeover.Sent) { h.sent = append(h.sent, s) }

// still is a pod that nothing is to be told.
type still struct{ fn config.Function }

func (p *still) Function() *config.Function     { return &p.fn }
func (*still) Deep() bool                       { return true }
func (*still) Connected()                       {}
func (*still) NotConnected(error)               {}
func (*still) Freed()                           {}
func (*still) Troubled(depth.Why, error)        {}
func (*still) Ended(*Slot, Ending) (again bool) { return false }

// inFlight loads the programs and makes a slot in them, with this many requests in flight on its connection. Its runs of the control
// program fail with what fails says, if that is not nil.
func inFlight(t *testing.T, ctx context.Context, n uint32, fails func() error) (s *Slot, gen uint32, got *handed) {
	t.Helper()
	cfg, err := config.Parse("test", []byte("functions: [{name: f, url: http://f.local/, pods: [10.9.9.2:8080], pipeline: 8}]\nroutes: [{topic: a, function: f}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	path, err := datapath.Load(datapath.Options{Dir: filepath.Join(bpffs.Mount(t), "eproxy"), Logger: slog.New(slog.DiscardHandler),
		Sizes: mapmem.Sizes(cfg), Knobs: mapmem.Knobs(cfg)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := path.Detach(); err != nil {
			t.Error(err)
		}
	})
	mem, err := mapmem.Open(path, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mem.Close)
	got = &handed{}
	entries := conntable.NewEntries(&path.Objects, mem.Conns, nil)
	at := At{Of: &Of{Address: netip.MustParseAddrPort("10.9.9.2:8080"), Log: slog.New(slog.DiscardHandler)}}
	s = New(&Common{Ctx: ctx, Memory: mem, Entries: entries, Messages: got, Control: func(a *bpf.EproxySlotArgs) error {
		if err := fails(); err != nil {
			return err
		}
		return bpf.ControlSlot(path.Objects.SlotControl, a)
	}}, &still{}, at)
	if err := mem.GrowSlot(0, true); err != nil {
		t.Fatal(err)
	}
	s.grown.Store(true)
	if gen, err = entries.Arm(0, bpf.EproxyConnKindCONN_SLOT, bpf.TupleOf(netip.MustParseAddrPort("10.9.9.1:1"), at.Of.Address)); err != nil {
		t.Fatal(err)
	}
	entry := mem.Slots.At(0)
	*entry = bpf.EproxySlot{State: uint32(bpf.EproxySlotStateSLOT_BUSY), Tail: n}
	for i := range n {
		request := fmt.Sprintf("request %d", i)
		entry.Messages[i] = bpf.EproxyMessage{RequestLen: uint32(len(request)), Qos: 1, PacketId: uint16(100 + i), Origin: ^uint32(0)}
		copy(mem.Request(0, i).Buf[:], request)
	}
	return s, gen, got
}

// TestTakesAllThatIsLeft: what is in flight on a connection that has ended becomes userspace's, each message once, in order and with its
// request, also if the kernel cannot run the program for a while, before any of them.
func TestTakesAllThatIsLeft(t *testing.T) {
	for name, failures := range map[string]int{"no run fails": 0, "runs fail": 3} {
		t.Run(name, func(t *testing.T) {
			left := failures
			s, gen, got := inFlight(t, t.Context(), 5, func() error {
				if left--; left >= 0 {
					return unix.ENOMEM
				}
				left = failures
				return nil
			})
			if n, cut := s.takeRest(gen, io.EOF); n != 5 || cut != 0 {
				t.Errorf("%d were taken over, %d of them behind the last response", n, cut)
			}
			if s.InFlight() != 0 || got.open != 5 || len(got.sent) != 5 {
				t.Fatalf("%d are in flight, %d are userspace's, which was handed %d", s.InFlight(), got.open, len(got.sent))
			}
			for i, m := range got.sent {
				if string(m.Request) != fmt.Sprintf("request %d", i) || m.Args.PacketId != uint16(100+i) || !errors.Is(m.Cause, io.EOF) {
					t.Errorf("message %d: %q, packet identifier %d, %v", i, m.Request, m.Args.PacketId, m.Cause)
				}
			}
		})
	}
}

// TestEndOfTheProcessIsNotHeldUp: if the kernel does not run the program any more the process can end all the same, and nothing was
// counted as userspace's that was not taken over.
func TestEndOfTheProcessIsNotHeldUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	runs := 0
	s, gen, got := inFlight(t, ctx, 1, func() error {
		if runs++; runs == 3 {
			cancel()
		}
		return unix.EBADF
	})
	if n, _ := s.takeRest(gen, io.EOF); n != 0 || runs < 3+1 || got.open != 0 || s.InFlight() != 1 {
		t.Errorf("%d were taken over in %d runs, %d are userspace's, %d are in flight", n, runs, got.open, s.InFlight())
	}
}
