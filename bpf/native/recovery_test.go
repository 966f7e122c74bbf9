//go:build cgo

package native

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// flight is what a slot has sent at once to a pod that buffers, and what comes of it.
type flight struct {
	table  *Table
	c      *Conn
	r      *Recovery
	starts []uint32 // of the requests, and the end
	rcv    uint32
	held   map[int]bool // that the pod has received
	resent []int
}

// newFlight sends n requests of a few bytes each.
func newFlight(table *Table, c *Conn, r *Recovery, n int, rng *rand.Rand) *flight {
	f := &flight{table: table, c: c, r: r, rcv: uint32(c.tx_nxt), held: map[int]bool{}, starts: []uint32{uint32(c.tx_nxt)}}
	for range n {
		c.tx_nxt += u32(1 + rng.IntN(1400))
		f.starts = append(f.starts, uint32(c.tx_nxt))
	}
	return f
}

// ack is a segment of the pod; where it shows a loss the request there leaves again.
func (f *flight) ack(s Segment) error {
	lost := f.table.RecoveryAck(f.r, f.c, &s)
	var v RxVerdict
	f.table.Rx(f.c, &s, &v, 1)
	if !lost {
		return nil
	}
	i := slices.Index(f.starts, uint32(f.c.tx_una))
	if i < 0 || i == len(f.starts)-1 {
		return fmt.Errorf("something is lost at %d, where no request begins", f.c.tx_una)
	}
	f.resent = append(f.resent, i)
	return nil
}

// arrive is a request that reaches the pod, which acknowledges what it has of the stream.
func (f *flight) arrive(i int) error {
	for _, forged := range []u32{f.c.tx_una - 1 - u32(i), f.c.tx_nxt + 1 + u32(i)} {
		if f.table.RecoveryAck(f.r, f.c, &Segment{seq: f.c.rx_nxt, ack: forged, wnd: 60000, flags: ACK}) {
			return fmt.Errorf("a loss by an acknowledgement of %d, [%d,%d) is in flight", forged, f.c.tx_una, f.c.tx_nxt)
		}
	}
	f.held[i] = true
	for next := slices.Index(f.starts, f.rcv); f.held[next]; next++ {
		f.rcv = f.starts[next+1]
	}
	return f.ack(Segment{seq: f.c.rx_nxt, ack: u32(f.rcv), wnd: 60000, flags: ACK})
}

// fly has some requests of a flight get lost, once each, and says what is wrong with
// what is sent again: all that is lost, nothing else, each once, if three others
// arrive behind the first loss; else nothing.
func (f *flight) fly(lost map[int]bool) error {
	n := len(f.starts) - 1
	first, behind := n, 0
	for i := range n {
		if lost[i] && first == n {
			first = i
		}
		if !lost[i] && i > first {
			behind++
		}
	}
	for i := range n {
		if !lost[i] {
			if err := f.arrive(i); err != nil {
				return err
			}
		}
	}
	for i := 0; i < len(f.resent) && i < 2*n; i++ {
		if err := f.arrive(f.resent[i]); err != nil {
			return err
		}
	}
	var want []int
	for i := range n {
		if lost[i] && behind >= 3 {
			want = append(want, i)
		}
	}
	if !slices.Equal(f.resent, want) {
		return fmt.Errorf("of %d requests %v were lost: %v were sent again", n, lost, f.resent)
	}
	// what nothing told of the device repeats
	for i := range n {
		if !f.held[i] {
			if err := f.arrive(i); err != nil {
				return err
			}
		}
	}
	if f.c.tx_una != f.c.tx_nxt {
		return fmt.Errorf("%d bytes are left", f.c.tx_nxt-f.c.tx_una)
	}
	return nil
}

// slotConn is a slot's connection without history, its next byte towards the pod at seq.
func slotConn(seq uint32) *Conn {
	c := opened()
	c.kind = KindSlot
	c.tx_nxt, c.tx_una, c.tx_knxt, c.tx_kuna = u32(seq), u32(seq), u32(seq), u32(seq)
	c.tx_wnd, c.tx_max_wnd = 60000, 60000
	return c
}

// recovers plays many flights on one connection after another.
func recovers(table *Table, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	c, r := slotConn(uint32(rng.Uint64())-20000), &Recovery{}
	for range 20 {
		if rng.IntN(4) == 0 { // much is sent without a loss
			far := u32(rng.Uint32())
			c.tx_nxt, c.tx_una = c.tx_nxt+far, c.tx_una+far
		}
		f := newFlight(table, c, r, 1+rng.IntN(16), rng)
		lost := map[int]bool{}
		for range rng.IntN(4) {
			lost[rng.IntN(len(f.starts)-1)] = true
		}
		if err := f.fly(lost); err != nil {
			return err
		}
	}
	for _, one := range []func(*Table, *rand.Rand) error{reordered, noDuplicates, lostAgain} {
		if err := one(table, rng); err != nil {
			return err
		}
	}
	return nil
}

// reordered: requests that change places by two or less are no loss.
func reordered(table *Table, rng *rand.Rand) error {
	f := newFlight(table, slotConn(uint32(rng.Uint64())), &Recovery{}, 12, rng)
	for i := 0; i < 12; i += 3 {
		for _, j := range []int{2, 1, 0} {
			if err := f.arrive(i + j); err != nil {
				return err
			}
		}
	}
	if len(f.resent) > 0 {
		return fmt.Errorf("reordered: %v were sent again", f.resent)
	}
	return nil
}

// noDuplicates: what is no duplicate ACK by RFC 5681 shows no loss, however often it comes.
func noDuplicates(table *Table, rng *rand.Rand) error {
	for name, change := range map[string]func(s *Segment, i int){
		"with payload":           func(s *Segment, _ int) { s.len = 9 },
		"with FIN":               func(s *Segment, _ int) { s.flags |= FIN },
		"with RST":               func(s *Segment, _ int) { s.flags |= RST },
		"without ACK":            func(s *Segment, _ int) { s.flags = PSH },
		"with another window":    func(s *Segment, i int) { s.wnd = u16(60001 + i) },
		"older":                  func(s *Segment, _ int) { s.ack -= 5 },
		"of what was never sent": func(s *Segment, _ int) { s.ack += 1 << 20 },
	} {
		f := newFlight(table, slotConn(uint32(rng.Uint64())), &Recovery{}, 8, rng)
		for i := range 9 {
			s := Segment{seq: f.c.rx_nxt, ack: f.c.tx_una, wnd: 60000, flags: ACK}
			change(&s, i)
			if table.RecoveryAck(f.r, f.c, &s) {
				return fmt.Errorf("%s: taken for a duplicate ACK", name)
			}
			if s.wnd != 60000 {
				f.c.tx_wnd = u32(s.wnd)
			}
		}
	}
	idle, r := slotConn(1), &Recovery{}
	for range 5 {
		if table.RecoveryAck(r, idle, &Segment{seq: idle.rx_nxt, ack: idle.tx_una, wnd: 60000, flags: ACK}) {
			return fmt.Errorf("a loss where nothing is in flight")
		}
	}
	return nil
}

// lostAgain: a request that is sent again and lost again is not sent a third time for
// the duplicate ACKs of the same flight.
func lostAgain(table *Table, rng *rand.Rand) error {
	f := newFlight(table, slotConn(uint32(rng.Uint64())), &Recovery{}, 16, rng)
	for i := 1; i < 16; i++ {
		if err := f.arrive(i); err != nil {
			return err
		}
	}
	if !slices.Equal(f.resent, []int{0}) {
		return fmt.Errorf("the first was lost, %v were sent again", f.resent)
	}
	return nil
}

// TestRecovery: what duplicate ACKs of a pod show to be lost is sent again, once, and
// nothing else.
func TestRecovery(t *testing.T) {
	for seed := range uint64(5000) {
		if err := recovers(Own(), seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// recoveryPlanted are mistakes that TestRecovery must find.
var recoveryPlanted = []struct{ name, file, old, new string }{
	{"two duplicate ACKs are enough", "loss.h", "#define DUPLICATE_ACKS 3", "#define DUPLICATE_ACKS 2"},
	{"four duplicate ACKs are needed", "loss.h", "#define DUPLICATE_ACKS 3", "#define DUPLICATE_ACKS 4"},
	{"duplicate ACKs of before counted", "recovery.h", "\t\tr->dup_acks = 0;\n\t\tif (r->on", "\t\tif (r->on"},
	{"second hole left to the timer", "recovery.h", "if (r->on && seq_lt(s->ack, r->recover))", "if (0)"},
	{"each acknowledgement of a flight taken for a hole", "recovery.h", "if (r->on && seq_lt(s->ack, r->recover))", "if (r->on)"},
	{"never over", "recovery.h", "\t\tr->on = 0;\n\t\treturn false;", "\t\treturn false;"},
	{"payload not looked at", "recovery.h", "if (s->len || (s->flags & TH_FIN)", "if ((s->flags & TH_FIN)"},
	{"FIN not looked at", "recovery.h", "if (s->len || (s->flags & TH_FIN) ||", "if (s->len ||"},
	{"window not looked at", "recovery.h", "c->tx_wnd != (__u32)s->wnd << (c->tx_wscale & 15))", "0)"},
	{"nothing in flight", "recovery.h", " || c->tx_una == c->tx_nxt ||", " ||"},
	{"same loss again and again", "recovery.h", "\treturn !r->on && recovery_begin(r, c, s->ack);", "\tr->on = 1;\n\tr->recover = c->tx_nxt;\n\treturn true;"},
	{"flags not looked at", "recovery.h", "if ((s->flags & (TH_ACK | TH_SYN | TH_RST)) != TH_ACK || ", "if ("},
	{"acknowledgement of what was never sent", "recovery.h", " || seq_gt(s->ack, c->tx_nxt))", ")"},
	{"old acknowledgement", "recovery.h", "|| seq_lt(s->ack, c->tx_una) ||", "||"},
	{"end of what was sent again never forgotten", "recovery.h", "r->known && r->recover - c->tx_una <= c->tx_nxt - c->tx_una && seq_lt", "r->known && seq_lt"},
}

// TestRecoveryMistakesAreFound shows that TestRecovery finds mistakes.
func TestRecoveryMistakesAreFound(t *testing.T) {
	for _, p := range recoveryPlanted {
		t.Run(p.name, func(t *testing.T) {
			table, err := build(t.TempDir(), p.file, p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(5000) {
				if err := recovers(table, seed); err != nil {
					t.Logf("found with seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}
