//go:build cgo

package native

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// block is a SACK block: received bytes [from, to).
type block struct{ from, to uint32 }

// sackOption is the SACK option with these blocks.
func sackOption(blocks ...block) []byte {
	b := []byte{5, byte(2 + 8*len(blocks))}
	for _, k := range blocks {
		b = binary.BigEndian.AppendUint32(b, k.from)
		b = binary.BigEndian.AppendUint32(b, k.to)
	}
	return b
}

// aligned is the option behind so many NOPs, filled up with NOPs to whole words.
func aligned(front int, option []byte) []byte {
	b := append(bytes.Repeat([]byte{1}, front), option...)
	for len(b)%4 != 0 {
		b = append(b, 1)
	}
	return b
}

// parseOptions is the reference for sack_scan: the blocks of the first SACK
// option as the kernel goes through a header's options, and whether there is
// nothing but NOPs and that one.
func parseOptions(b []byte) (blocks []block, only bool) {
	only = true
	for len(b) > 0 {
		if b[0] == 0 {
			break
		}
		if b[0] == 1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return blocks, false
		}
		n := int(b[1])
		if b[0] == 5 && n >= 10 && (n-2)%8 == 0 && blocks == nil {
			for o := 2; o < n; o += 8 {
				blocks = append(blocks, block{binary.BigEndian.Uint32(b[o:]), binary.BigEndian.Uint32(b[o+4:])})
			}
		} else {
			only = false
		}
		b = b[n:]
	}
	return blocks, only
}

// left is what is left of the options, with everything checked that does not
// depend on the blocks' values: their length, and that all but the first SACK
// option stays as it was, or becomes NOPs if it is another SACK option.
func left(t testing.TB, options []byte, k *Sack) []block {
	t.Helper()
	out := make([]byte, len(options))
	for i := range out {
		out[i] = byte(k.bytes[i])
	}
	came, only := parseOptions(options)
	if len(came) != int(k.came) || only != (k.other == 0) {
		t.Fatalf("% x: %d blocks, other options %v; want %d, %v", options, k.came, k.other != 0, len(came), !only)
	}
	got, _ := parseOptions(out)
	if len(got) != int(k.count) {
		t.Fatalf("% x became % x: %d blocks left, %d said", options, out, len(got), k.count)
	}
	if len(came) == 0 {
		if !bytes.Equal(out, options) {
			t.Fatalf("% x became % x", options, out)
		}
		return nil
	}
	for i, b := range out {
		if in := i >= int(k.at) && i < int(k.at)+2+8*len(came); !in && b != options[i] && b != 1 {
			t.Fatalf("% x became % x: byte %d", options, out, i)
		}
	}
	if again, _ := parseOptions(bytes.ReplaceAll(out, sackOption(got...), nil)); len(got) > 0 && len(again) > 0 {
		t.Fatalf("% x became % x: two SACK options", options, out)
	}
	return got
}

// stream is the reference for a ledger: each byte on the wire, with what it is.
type stream struct {
	wire   uint32 // position of the first byte
	kernel uint32
	owner  []int // of each byte: -1 the local socket's, else the graft's index
	open   []bool
}

// randomStream is a stream with grafts between bytes of the local socket, and the
// same as a ledger.
func randomStream(r *rand.Rand, l *Ledger, open bool) *stream {
	s := &stream{wire: r.Uint32()}
	if r.IntN(2) == 0 {
		s.wire = -uint32(r.IntN(400)) // wraps in the middle
	}
	s.kernel = r.Uint32()
	l.base, l.head = u32(s.wire-s.kernel), u16(r.IntN(Ring))
	for range r.IntN(10) {
		for range r.IntN(30) * r.IntN(2) {
			s.owner = append(s.owner, -1)
		}
		n, isOpen := 1+r.IntN(20), open && r.IntN(3) == 0
		g := &l.ring[(int(l.head)+int(l.count))%Ring]
		*g = Graft{seq: u32(s.wire + uint32(len(s.owner))), len: u16(n), state: GraftDone}
		if isOpen {
			g.state = GraftOpen
			l.open++
		}
		l.count++
		for range n {
			s.owner = append(s.owner, len(s.open))
		}
		s.open = append(s.open, isOpen)
	}
	for range r.IntN(40) {
		s.owner = append(s.owner, -1)
	}
	return s
}

// kernelBytes is how many of the first n bytes on the wire are the local socket's.
func (s *stream) kernelBytes(n int) (k uint32) {
	for _, o := range s.owner[:n] {
		if o < 0 {
			k++
		}
	}
	return k
}

// wireOf is the wire offset of the local socket's n-th byte; beyond the end they follow each other.
func (s *stream) wireOf(n uint32) int {
	for i, o := range s.owner {
		if o < 0 {
			if n == 0 {
				return i
			}
			n--
		}
	}
	return len(s.owner) + int(n)
}

// shown is what of the local socket's bytes [from, to) the peer may be shown, as wire offsets.
func (s *stream) shown(from, to uint32) (a, b int) {
	a, b = s.wireOf(from), s.wireOf(to-1)+1
	for i := a; i < b && i < len(s.owner); i++ {
		if o := s.owner[i]; o >= 0 && s.open[o] {
			return a, i
		}
	}
	return a, b
}

// ackAt is how much may be acknowledged, as a wire offset, if the local socket
// has acknowledged n of its bytes.
func (s *stream) ackAt(n uint32) int {
	for i, o := range s.owner {
		if o >= 0 && s.open[o] || o < 0 && n == 0 {
			return i
		}
		if o < 0 {
			n--
		}
	}
	return len(s.owner) + int(n)
}

// sackToWire compares sack_to_wire with the reference for one random connection.
func sackToWire(table *Table, r *rand.Rand) error {
	c := opened()
	s := randomStream(r, &c.rx, true)
	total := s.kernelBytes(len(s.owner)) + uint32(r.IntN(60)) // those behind are a hole's
	acked := uint32(r.IntN(int(total) + 1))
	reached := s.ackAt(acked)
	ack := s.wire + uint32(reached)
	kack := s.kernel + min(acked, uint32(r.IntN(int(acked)+1))*uint32(r.IntN(3))) // older than the latest, at times
	a := struct{ wire, kernel, n uint32 }{ack - uint32(r.IntN(300)), kack - uint32(r.IntN(100)), uint32(r.IntN(100))}
	c.rx_again.wire, c.rx_again.kernel, c.rx_again.len = u32(a.wire), u32(a.kernel), u32(a.n)
	var blocks, want []block
	for range 1 + r.IntN(4) {
		from := s.kernel + uint32(r.IntN(int(total)+2)) - uint32(r.IntN(2)*r.IntN(100))
		blocks = append(blocks, block{from, from + uint32(r.IntN(40))})
	}
	for i, b := range blocks {
		switch {
		case int32(b.to-b.from) <= 0:
		case i == 0 && before(b.from, kack):
			if from, to := int(int32(b.from-a.kernel)), int(int32(b.to-a.kernel)); from >= 0 && to <= int(a.n) && !after(a.wire+uint32(to), ack) {
				want = append(want, block{a.wire + uint32(from), a.wire + uint32(to)})
			}
		case before(b.from, s.kernel): // below all that is known: below the acknowledgement, too
		default:
			if from, to := s.shown(b.from-s.kernel, b.to-s.kernel); from < to && from > reached {
				want = append(want, block{s.wire + uint32(from), s.wire + uint32(to)})
			}
		}
	}
	options := aligned(r.IntN(min(4, 39-8*len(blocks))), sackOption(blocks...))
	k := table.Sack(c, options, false, kack, ack)
	return sameBlocks(options, &k, want)
}

// sackToKernel compares sack_admit, sack_strip and sack_keep with the reference for one random connection.
func sackToKernel(table *Table, r *rand.Rand) error {
	c := opened()
	s := randomStream(r, &c.tx, false)
	sent := len(s.owner)
	una := r.IntN(sent + 1)
	c.tx_nxt, c.tx_una = u32(s.wire+uint32(sent)), u32(s.wire+uint32(una))
	ack := s.wire + uint32(r.IntN(sent+1))
	reached := max(int(ack-s.wire), una)
	a := struct{ wire, kernel, n uint32 }{ack - uint32(r.IntN(100)), s.kernel - uint32(r.IntN(100)), uint32(r.IntN(100))}
	c.tx_again.wire, c.tx_again.kernel, c.tx_again.len = u32(a.wire), u32(a.kernel), u32(a.n)
	var blocks, want []block
	for range 1 + r.IntN(4) {
		from := s.wire + uint32(r.IntN(sent+5)) - uint32(r.IntN(2)*r.IntN(100))
		blocks = append(blocks, block{from, from + uint32(r.IntN(40))})
	}
	covered, top := uint32(0), reached
	for i, b := range blocks {
		switch {
		case int32(b.to-b.from) <= 0:
		case i == 0 && before(b.from, ack):
			if from, to := int(int32(b.from-a.wire)), int(int32(b.to-a.wire)); from >= 0 && to <= int(a.n) && !after(b.to, ack) {
				want = append(want, block{a.kernel + uint32(from), a.kernel + uint32(to)})
			}
		case !after(b.from, s.wire+uint32(reached)) || after(b.to, s.wire+uint32(sent)):
		default:
			from, to := s.kernelBytes(int(b.from-s.wire)), s.kernelBytes(int(b.to-s.wire))
			covered += to - from
			top = max(top, int(b.to-s.wire))
			if from < to && from > s.kernelBytes(reached) {
				want = append(want, block{s.kernel + from, s.kernel + to})
			}
		}
	}
	options := aligned(r.IntN(min(4, 39-8*len(blocks))), sackOption(blocks...))
	k := table.Sack(c, options, true, 0, ack)
	if lacking := int32(s.kernelBytes(top)-s.kernelBytes(reached)) - int32(covered); int32(k.lacking) != lacking || uint32(k.top) != s.wire+uint32(top) {
		return fmt.Errorf("blocks %v: %d bytes of the socket missing up to %d, want %d, %d", blocks, int32(k.lacking), uint32(k.top)-s.wire, lacking, top)
	}
	return sameBlocks(options, &k, want)
}

func sameBlocks(options []byte, k *Sack, want []block) error {
	var out []byte
	for _, b := range k.bytes[:len(options)] {
		out = append(out, byte(b))
	}
	got, only := parseOptions(out)
	if fmt.Sprint(got) != fmt.Sprint(want) || !only || len(got) != int(k.count) {
		in, _ := parseOptions(options)
		return fmt.Errorf("%v became %v, want %v: % x", in, got, want, out)
	}
	return nil
}

// TestSackTranslation: blocks come out at the other end as what they are about
// there, by a reference that knows each byte: random ledgers, also where the
// numbers wrap, open grafts, older acknowledgements, duplicates, nonsense.
func TestSackTranslation(t *testing.T) {
	own := Own()
	for name, f := range sackDirections {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(200_000) {
				if err := f(own, rand.New(rand.NewPCG(seed, 77))); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
		})
	}
}

var sackDirections = map[string]func(*Table, *rand.Rand) error{"to wire": sackToWire, "to kernel": sackToKernel}

// TestSackAlignment: one to four blocks are found wherever they stand, and what is
// left of them, none to all, is behind NOPs at the end of the same bytes.
func TestSackAlignment(t *testing.T) {
	own := Own()
	for n := 1; n <= 4; n++ {
		for front := 0; front+2+8*n <= 40; front++ {
			for gone := range 1 << n {
				c := opened()
				c.rx.base = 500
				var blocks, want []block
				for i := range n {
					from := uint32(2000 + 100*i)
					if gone>>i&1 != 0 {
						from = 900 // at the acknowledgement or below
					} else {
						want = append(want, block{from + 500, from + 550})
					}
					blocks = append(blocks, block{from, from + 50})
				}
				options := aligned(front, sackOption(blocks...))
				k := own.Sack(c, options, false, 900, 1400)
				left(t, options, &k)
				if err := sameBlocks(options, &k, want); err != nil {
					t.Errorf("behind %d bytes: %v", front, err)
				}
			}
		}
	}
}

// FuzzSackOptions: any bytes. What the kernel would read as blocks is translated or
// gone, the rest is left alone, and nothing is read or written elsewhere.
func FuzzSackOptions(f *testing.F) {
	two := sackOption(block{1, 2}, block{3, 4})
	for _, b := range [][]byte{{}, aligned(2, two), aligned(3, two), append(two, two...), {5, 10}, {5, 2, 1, 1}, {5, 18, 0}, {8, 10, 5, 10, 1, 2, 3, 4, 5, 6},
		{1, 0, 5, 10, 1, 2, 3, 4, 5, 6, 7, 8}, {5, 0}, {5}, {2, 4, 5, 180, 1, 1, 5, 10, 0, 0, 5, 0, 0, 0, 6, 0}, aligned(0, append(sackOption(block{5, 6}), 254, 3))} {
		f.Add(b, uint32(1000), true)
		f.Add(b, uint32(0xfffffff0), false)
	}
	own := Own()
	f.Fuzz(func(t *testing.T, options []byte, base uint32, received bool) {
		options = options[:min(len(options), 40)&^3]
		c := opened()
		c.rx.base, c.tx.base = u32(base), u32(base)
		k := own.Sack(c, options, received, 1000, 1000+base)
		for _, b := range left(t, options, &k) {
			if !before(b.from, b.to) {
				t.Errorf("% x: block %v", options, b)
			}
		}
	})
}

// sackMistakes are mistakes in the translation that the reference must find.
var sackMistakes = []struct{ name, file, old, new string }{
	{"block over an open graft", "ledger.h", "} else if (g->state != GRAFT_DONE) {", "} else if (0) {"},
	{"block that begins at the acknowledgement", "sack.h", "if (!seq_gt(b.from, ack) || !seq_lt(b.from, b.to))", "if (!seq_ge(b.from, ack) || !seq_lt(b.from, b.to))"},
	{"block of the socket's that begins at the acknowledgement", "sack.h", "if (!seq_gt(b.from, k->kernel_una - k->base) ||", "if (!seq_ge(b.from, k->kernel_una - k->base) ||"},
	{"constant of the wrong side", "sack.h", "ledger_range_to_wire(&c->rx, &b.from, &b.to);", "b.from += c->rx.base, b.to += c->rx.base;"},
	{"translated with the other ledger", "sack.h", "ledger_range_to_wire(&c->rx,", "ledger_range_to_wire(&c->tx,"},
	{"end behind the grafts that follow it", "ledger.h", "last = *to - 1 + l->base;", "last = *to + l->base;"},
	{"D-SACK translated by the ledger", "sack.h", "return !i && seq_lt(k->blocks[0].from, ack);", "return false;"},
	{"D-SACK untranslated", "sack.h", "\tb->from = to + off;\n", "\tb->from = from + off;\n"},
	{"D-SACK of what was not passed", "sack.h", "if (off > len || n > len - off)", "if (off > len)"},
	{"D-SACK above the acknowledgement", "sack.h", "c->rx_again.len) || seq_gt(b.to, ack))", "c->rx_again.len))"},
	{"block that covers insertions only", "sack.h", "k->base) || !seq_lt(b.from, b.to))", "k->base))"},
	{"block of what was never sent", "sack.h", "} else if (seq_gt(b.from, una) && seq_le(b.to, c->tx_nxt)) {", "} else if (seq_gt(b.from, una)) {"},
	{"position inside an insertion", "sack.h", "below < len ? below : len;", "len;"},
	{"what is missing counted on the wire", "sack.h", "k->lacking = k->kernel_top - k->kernel_una;", "k->lacking = k->top - k->una;"},
	{"blocks in the place of NOPs", "sack.h", "__u32 gone = 8 * (k->came - k->count)", "__u32 gone = 8 * (k->came - k->count) * 0"},
	{"length as before", "sack.h", "b = n ? 2 + 8 * k->count :", "b = n ? 2 + 8 * k->came :"},
	{"aligned blocks only", "sack.h", "\tk->at = at;\n", "\tk->at = at & ~1u;\n"},
}

// TestSackMistakesAreFound shows that the reference finds mistakes.
func TestSackMistakesAreFound(t *testing.T) {
	for _, p := range sackMistakes {
		t.Run(p.name, func(t *testing.T) {
			table, err := build(t.TempDir(), p.file, p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(20_000) {
				for _, f := range sackDirections {
					if err := f(table, rand.New(rand.NewPCG(seed, 77))); err != nil {
						t.Logf("found with seed %d: %.200v", seed, err)
						return
					}
				}
			}
			t.Fatal("not found")
		})
	}
}
