//go:build cgo

package native

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// notice is a PUBACK that was inserted, as the reference knows it.
type notice struct {
	seq    uint32
	id     uint16
	sentMs uint32 // for the last time
	again  int    // how often it was sent again
}

// flying is a segment on its way to the device.
type flying struct{ from, to uint32 }

// answer is an acknowledgement on its way back, as it was made.
type answer struct {
	ack    uint32
	blocks []block
}

// lossWorld is a stream of PUBACKs and bytes of the local socket towards a device, over
// a link that loses and reorders in both directions, beside a reference that knows
// what the device has shown.
type lossWorld struct {
	table *Table
	rng   *rand.Rand
	c     *Conn
	sack  bool
	now   uint32 // milliseconds, a multiple of the unit that the books keep
	more  uint32

	start   uint32
	owner   []bool // of each byte of the stream: a PUBACK's
	has     []bool // of each byte: the device has it
	recent  []uint32
	notices []notice // not acknowledged, oldest first
	down    []flying
	up      []answer

	srtt    uint32 // eighths of milliseconds
	una     uint32
	hole    uint32 // bytes of the socket below it are known to be missing
	missing bool
	dupAck  uint32
	dups    int
	id      uint16
	resent  int
}

const (
	lossTick    = 4     // milliseconds, the books' unit
	lossWindow  = 60000 // of the device
	lossLongest = 60000 // milliseconds, the longest timeout
)

// newLossWorld is a stream of which nothing was sent.
func newLossWorld(table *Table, seed uint64) *lossWorld {
	w := &lossWorld{table: table, rng: rand.New(rand.NewPCG(seed, 7)), c: opened()}
	w.start = w.rng.Uint32()
	if w.rng.IntN(2) == 0 {
		w.start = -uint32(w.rng.IntN(300)) // wraps soon
	}
	w.now = w.rng.Uint32() / lossTick * lossTick
	if w.rng.IntN(2) == 0 {
		w.now = -uint32(w.rng.IntN(200)) * lossTick // the clock's 32 bits wrap soon, too
	}
	w.more = []uint32{40, 200}[w.rng.IntN(2)]
	w.una, w.dupAck = w.start, w.start-1
	s, c := u32(w.start), w.c
	c.tx_nxt, c.tx_una, c.tx_knxt, c.tx_kuna, c.tx_framed = s, s, s, s, s
	c.tx_wnd, c.tx_max_wnd, c.tx_rawwnd, c.dup_ack = lossWindow, lossWindow, lossWindow, u32(w.dupAck)
	if w.sack = w.rng.IntN(3) > 0; w.sack {
		c.flags |= FlagSack
	}
	return w
}

func (w *lossWorld) end() uint32 { return w.start + uint32(len(w.owner)) }

// grow adds n bytes to the stream and sends them.
func (w *lossWorld) grow(n int, puback bool) {
	from := w.end()
	for range n {
		w.owner, w.has = append(w.owner, puback), append(w.has, false)
	}
	w.down = append(w.down, flying{from, w.end()})
}

// insert inserts a PUBACK where that is allowed.
func (w *lossWorld) insert() error {
	known := w.missing && int32(w.hole-w.una) > 0
	can := w.table.CanInsert(w.c, 4)
	if known && can {
		return fmt.Errorf("a PUBACK may be inserted while bytes of the socket below %d are missing", w.hole)
	}
	if !known && !can && len(w.notices) < Ring && len(w.owner) < lossWindow/2 {
		return fmt.Errorf("no PUBACK may be inserted, %d are under way", len(w.notices))
	}
	if !can {
		return nil
	}
	seq := w.table.Insert(w.c, 4, w.now)
	if seq != w.end() {
		return fmt.Errorf("PUBACK inserted at %d, the stream ends at %d", seq, w.end())
	}
	w.id++
	g := &w.c.tx.ring[(int(w.c.tx.head)+int(w.c.tx.count)-1)%Ring]
	g.who |= u32(w.id)
	w.notices = append(w.notices, notice{seq: seq, id: w.id, sentMs: w.now})
	w.grow(4, true)
	return nil
}

// write is a segment of the local socket: PINGRESPs.
func (w *lossWorld) write() {
	payload := make([]byte, 2*(1+w.rng.IntN(5)))
	for i := 0; i < len(payload); i += 2 {
		payload[i] = 0xd0
	}
	var v TxVerdict
	s := Segment{seq: w.c.tx_knxt, ack: w.c.rx_kack, len: u32(len(payload)), wnd: w.c.rx_rawwnd, flags: ACK | PSH}
	w.table.Tx(w.c, &s, payload, &v, w.now)
	w.grow(len(payload), false)
}

// repeat is the socket's own retransmission of bytes that the device lacks.
func (w *lossWorld) repeat() {
	for at := range w.owner {
		if !w.has[at] && !w.owner[at] {
			to := at
			for to < len(w.owner) && !w.owner[to] {
				to++
			}
			w.down = append(w.down, flying{w.start + uint32(at), w.start + uint32(to)})
			return
		}
	}
}

// arrive is a segment that reaches the device, which answers each.
func (w *lossWorld) arrive() {
	i := w.rng.IntN(len(w.down))
	if w.rng.IntN(3) > 0 {
		i = 0
	}
	f := w.down[i]
	w.down = slices.Delete(w.down, i, i+1)
	for s := f.from; s != f.to; s++ {
		w.has[s-w.start] = true
	}
	w.recent = append([]uint32{f.from}, w.recent...)
	w.up = append(w.up, w.answer())
}

// answer is what the device acknowledges now; its blocks begin with the latest.
func (w *lossWorld) answer() answer {
	n := slices.Index(w.has, false)
	if n < 0 {
		n = len(w.has)
	}
	a := answer{ack: w.start + uint32(n)}
	if !w.sack {
		return a
	}
	if w.rng.IntN(8) == 0 && n > 4 { // of a duplicate
		a.blocks = append(a.blocks, block{a.ack - 4, a.ack - 2})
	}
	for _, s := range w.recent {
		at := int(s - w.start)
		if at < n || len(a.blocks) == 3 {
			continue
		}
		from, to := at, at
		for w.has[from-1] {
			from--
		}
		for to < len(w.has) && w.has[to] {
			to++
		}
		if b := (block{w.start + uint32(from), w.start + uint32(to)}); !slices.Contains(a.blocks, b) {
			a.blocks = append(a.blocks, b)
		}
	}
	return a
}

// shown is what of an answer the books may go by: the blocks above the acknowledgement, and
// where the highest ends.
func (w *lossWorld) shown(a answer) (blocks []block, una, top uint32) {
	una = w.una
	if int32(a.ack-una) > 0 {
		una = a.ack
	}
	top = una
	for i, b := range a.blocks {
		if i == 0 && int32(b.from-a.ack) < 0 || int32(b.from-una) <= 0 {
			continue
		}
		blocks = append(blocks, b)
		if int32(b.to-top) > 0 {
			top = b.to
		}
	}
	return blocks, una, top
}

// hear is an answer that reaches the node.
func (w *lossWorld) hear(a answer) error {
	blocks, una, top := w.shown(a)
	seg := Segment{seq: w.c.rx_nxt, ack: u32(a.ack), wnd: lossWindow, flags: ACK}
	var options []byte
	if len(a.blocks) > 0 {
		options = aligned(w.rng.IntN(4), sackOption(a.blocks...))
		seg.sack = u32(len(a.blocks))
	}
	look := top != una
	if look {
		w.missing = false
		for s := una; s != top; s++ {
			if !w.owner[s-w.start] && !slices.ContainsFunc(blocks, func(b block) bool { return s-b.from < b.to-b.from }) {
				w.missing, w.hole = true, top
			}
		}
	} else if !w.sack && a.ack == w.una && a.ack != w.end() {
		look, top = w.duplicate(), w.end()
	}
	var want []int
	if look {
		want = w.wanted(blocks, una, top)
	}
	p, shown := w.table.Loss(w.c, &seg, options, w.now)
	if shown != look {
		return fmt.Errorf("%+v: a loss shown: %v, want %v", a, shown, look)
	}
	if err := w.again(p, want); err != nil {
		return fmt.Errorf("%+v: %w", a, err)
	}
	w.acknowledged(a.ack)
	var v RxVerdict
	w.table.Rx(w.c, &seg, &v, w.now)
	if uint32(w.c.srtt) != w.srtt {
		return fmt.Errorf("%+v: smoothed round trip %d, want %d eighths of milliseconds", a, w.c.srtt, w.srtt)
	}
	return nil
}

// duplicate is an acknowledgement without news and without blocks: the third in a row
// says that what begins there is missing. It returns whether that is a PUBACK.
func (w *lossWorld) duplicate() bool {
	if w.dupAck != w.una {
		w.dupAck, w.dups = w.una, 0
	}
	if w.dups++; w.dups != 3 {
		return false
	}
	if w.owner[w.una-w.start] {
		return true
	}
	w.missing, w.hole = true, w.end()
	return false
}

// wanted are the PUBACKs to be sent again for what an answer shows: the first that follow each other.
func (w *lossWorld) wanted(blocks []block, una, top uint32) (want []int) {
	for i, n := range w.notices {
		if int32(n.seq-top) >= 0 || len(want) == 16 {
			break
		}
		due := n.again == 0 || int32(w.now-n.sentMs) > int32(w.srtt/8)
		has := int32(n.seq+4-una) <= 0 || slices.ContainsFunc(blocks, func(b block) bool {
			return int32(n.seq-b.from) >= 0 && int32(b.to-n.seq-4) >= 0
		})
		if len(want) > 0 && (has || !due || n.seq != w.notices[i-1].seq+4) {
			break
		}
		if !has && due {
			want = append(want, i)
		}
	}
	return want
}

// timeout is after how many milliseconds a PUBACK is sent again that nothing was heard of.
func (w *lossWorld) timeout(n notice) uint32 {
	return min((2*w.srtt/8+w.more)<<min(n.again, 5), lossLongest)
}

// sweep is the sweeper's look at the connection.
func (w *lossWorld) sweep() error {
	if len(w.notices) == 0 {
		return nil
	}
	var want []int
	for i, n := range w.notices {
		if w.now-n.sentMs < w.timeout(n) || len(want) == 16 || (i > 0 && n.seq != w.notices[i-1].seq+4) {
			break
		}
		want = append(want, i)
	}
	oldest := w.notices[0]
	p, due := w.table.Overdue(w.c, w.more, w.now)
	if at := oldest.sentMs + w.timeout(oldest); due != at {
		return fmt.Errorf("the oldest PUBACK is due at %d, want %d", due, at)
	}
	if err := w.again(p, want); err != nil {
		return fmt.Errorf("timeout: %w", err)
	}
	return nil
}

// again checks what is sent again, byte by byte, and sends it.
func (w *lossWorld) again(p Pubacks, want []int) error {
	if int(p.len) != 4*len(want) {
		return fmt.Errorf("%d bytes are sent again, want the PUBACKs %v", p.len, want)
	}
	if len(want) == 0 {
		return nil
	}
	var bytes []byte
	for _, i := range want {
		n := &w.notices[i]
		n.sentMs, n.again = w.now, n.again+1
		bytes = append(bytes, 0x40, 2, byte(n.id>>8), byte(n.id))
	}
	if first := w.notices[want[0]]; uint32(p.seq) != first.seq {
		return fmt.Errorf("sent again at %d, want %d", p.seq, first.seq)
	}
	sum := uint32(0)
	for i := 0; i < len(bytes); i += 2 {
		sum += uint32(binary.NativeEndian.Uint16(bytes[i:]))
	}
	for i, b := range bytes {
		if byte(p.bytes[i]) != b {
			return fmt.Errorf("byte %d of what is sent again is %#x, want %#x", i, p.bytes[i], b)
		}
	}
	if uint32(p.sum) != sum {
		return fmt.Errorf("sum of what is sent again %#x, want %#x", p.sum, sum)
	}
	w.resent += len(want)
	w.down = append(w.down, flying{uint32(p.seq), uint32(p.seq) + uint32(p.len)})
	return nil
}

// acknowledged is what the reference learns of an acknowledgement.
func (w *lossWorld) acknowledged(ack uint32) {
	if int32(ack-w.una) <= 0 {
		return
	}
	if len(w.notices) > 0 {
		n := w.notices[0]
		if n.again == 0 && int32(ack-n.seq-4) >= 0 {
			ms := min(max(w.now-n.sentMs, 1), 60000)
			if w.srtt == 0 {
				w.srtt = 8 * ms
			} else {
				w.srtt = w.srtt - w.srtt/8 + ms
			}
		}
	}
	w.una = ack
	for len(w.notices) > 0 && int32(ack-w.notices[0].seq-4) >= 0 {
		w.notices = w.notices[1:]
	}
	if int32(w.hole-w.una) <= 0 {
		w.missing = false
	}
}

// step is something that happens.
func (w *lossWorld) step() error {
	switch n := w.rng.IntN(16); {
	case n < 3:
		return w.insert()
	case n < 4:
		if len(w.owner) < lossWindow/2 {
			w.write()
		}
	case n < 5 && len(w.down) > 0: // lost
		w.down = slices.Delete(w.down, 0, 1)
	case n < 9 && len(w.down) > 0:
		w.arrive()
	case n < 10 && len(w.up) > 0: // lost, or overtaken
		i := w.rng.IntN(len(w.up))
		a := w.up[i]
		w.up = slices.Delete(w.up, i, i+1)
		if w.rng.IntN(2) == 0 {
			return w.hear(a)
		}
	case n < 14 && len(w.up) > 0:
		a := w.up[0]
		w.up = w.up[1:]
		return w.hear(a)
	case n < 15:
		w.now += lossTick * uint32(1+w.rng.IntN(12))
	default:
		return w.sweep()
	}
	return nil
}

// drain lets the link lose nothing any more: all must arrive by what the programs and the
// socket send again, within the timeouts of a PUBACK that was lost before.
func (w *lossWorld) drain() error {
	for range 2000 {
		for len(w.down) > 0 || len(w.up) > 0 {
			for len(w.down) > 0 {
				w.arrive()
			}
			a := w.up[0]
			w.up = w.up[1:]
			if err := w.hear(a); err != nil {
				return err
			}
		}
		if w.una == w.end() {
			return nil
		}
		w.repeat()
		w.now += 200
		if err := w.sweep(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%d bytes never arrived", w.end()-w.una)
}

// loses plays one stream.
func loses(table *Table, seed uint64) (resent int, err error) {
	w := newLossWorld(table, seed)
	for range 600 {
		if err := w.step(); err != nil {
			return w.resent, err
		}
	}
	return w.resent, w.drain()
}

// TestLoss: PUBACKs that get lost are sent again when blocks, duplicate ACKs or time show
// it, with their own bytes, at most once a round trip, and none that the answer in hand
// says is there; none is inserted while bytes of the socket are known to be missing.
func TestLoss(t *testing.T) {
	resent := 0
	for seed := range uint64(3000) {
		n, err := loses(Own(), seed)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		resent += n
	}
	if resent < 3000 {
		t.Errorf("%d PUBACKs were sent again: the test tests little", resent)
	}
	t.Logf("%d PUBACKs were sent again", resent)
}

// lossPlanted are mistakes that TestLoss must find.
var lossPlanted = []struct{ name, file, old, new string }{
	{"PUBACK inserted while the socket's bytes are missing", "conn_books.h", "(!conn_at_boundary(c) || loss_of_socket(c))", "!conn_at_boundary(c)"},
	{"loss of the socket's bytes never over", "loss.h", "c->flags &= ~CONN_MISSING;\n\treturn c->flags & CONN_MISSING;", ";\n\treturn c->flags & CONN_MISSING;"},
	{"loss of the socket's bytes by blocks forgotten", "loss.h", "\t\tc->flags |= CONN_MISSING;\n\t\tc->tx_hole = k->top;\n", ""},
	{"loss of the socket's bytes by duplicate ACKs forgotten", "loss.h", "\tc->flags |= CONN_MISSING;\n\tc->tx_hole = c->tx_nxt;\n", ""},
	{"loss of PUBACKs taken for one of the socket's", "loss.h", "if ((__s32)k->lacking > 0) {", "if (1) {"},
	{"sent again with every answer", "loss.h", "(!g->sent || puback_age(g, now_ms) > (__s32)(c->srtt / 8))", "1"},
	{"sent again only after a round trip", "loss.h", "(!g->sent || puback_age", "(puback_age"},
	{"sent again after half a round trip", "loss.h", "puback_age(g, now_ms) > (__s32)(c->srtt / 8)", "puback_age(g, now_ms) > (__s32)(c->srtt / 16)"},
	{"sent again though a block has it", "loss.h", " && !loss_covered(k, g) &&", " &&"},
	{"sent again though half of it is in a block only", "loss.h", "covered |= seq_le(k->wire[i].from, g->seq) &&", "covered |="},
	{"sent again though it is acknowledged", "loss.h", "seq_gt(ack, c->tx_una) ? ack : c->tx_una;", "c->tx_una;"},
	{"sent again though nothing above it is there", "loss.h", "if (seq_ge(g->seq, k->top) || afresh(p->len)", "if (afresh(p->len)"},
	{"PUBACKs joined across bytes of the socket", "loss.h", "(!wanted || g->seq != p->seq + afresh(p->len))", "!wanted"},
	{"PUBACKs joined across one that is there", "loss.h", "(!wanted || g->seq != p->seq + afresh(p->len))", "0"},
	{"bytes of the wrong PUBACK", "loss.h", "bpf_htonl(0x40020000 | puback_id(g))", "bpf_htonl(0x40020000 | (puback_id(g) + g->sent))"},
	{"sum of one too few", "loss.h", "(p->len ? p->sum : 0) +", "(p->len > 4 ? p->sum : 0) +"},
	{"round trip of what was sent twice", "loss.h", "c->kind != CONN_DEVICE || g->sent ||", "c->kind != CONN_DEVICE ||"},
	{"round trip of what is not acknowledged", "loss.h", " || seq_gt(g->seq + g->len, ack))", ")"},
	{"round trip not smoothed", "loss.h", "c->srtt ? c->srtt - c->srtt / 8 + (__u32)ms : 8 * (__u32)ms", "8 * (__u32)ms"},
	{"no timeout", "loss.h", "if (puback_age(g, now_ms) < (__s32)loss_timeout(c, g, more) ||", "if (g->sent < 255 ||"},
	{"timeout after one round trip", "loss.h", "(c->srtt / 4 + more)", "(c->srtt / 8 + more)"},
	{"timeout without delayed ACK", "loss.h", "(c->srtt / 4 + more)", "(c->srtt / 4)"},
	{"timeout does not double", "loss.h", "<< (g->sent < BACKOFF_MAX ? g->sent : BACKOFF_MAX)", "<< 0"},
	{"timeout of those behind not looked at", "loss.h", "if (puback_age(g, now_ms) < (__s32)loss_timeout(c, g, more) ||", "if ((!i && puback_age(g, now_ms) < (__s32)loss_timeout(c, g, more)) ||"},
	{"two duplicate ACKs are enough", "loss.h", "#define DUPLICATE_ACKS 3", "#define DUPLICATE_ACKS 2"},
	{"duplicate ACKs of before counted", "loss.h", "\t\tc->dup_acks = 0;\n", ""},
	{"duplicate ACKs where there are blocks", "loss.h", "return !(c->flags & CONN_SACK) && ack", "return ack"},
	{"age without sign", "loss.h", "return (__s16)(now_ms", "return (__u8)(now_ms"},
}

// TestLossMistakesAreFound shows that TestLoss finds mistakes.
func TestLossMistakesAreFound(t *testing.T) {
	for _, p := range lossPlanted {
		t.Run(p.name, func(t *testing.T) {
			table, err := build(t.TempDir(), p.file, p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(3000) {
				if _, err := loses(table, seed); err != nil {
					t.Logf("found with seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}
