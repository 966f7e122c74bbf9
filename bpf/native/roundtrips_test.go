//go:build cgo

package native

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// How long it takes, in round trips: a sender without SACK (RFC 5681, RFC 6582), a
// link that loses and reorders, and either the program with its socket or a
// socket alone. Both meet the same faults: the fate of a packet is a matter of
// its place in the stream and of how often it was sent before. What goes back is
// not the same for both, and one lost acknowledgement may cost a timeout: bare ones
// are only reordered, and of a round the last one arrives.

// A trip is head bytes of configuration and then its faults, four bytes each.
type fault struct {
	back  bool // of an acknowledgement
	place byte // number of the segment; for an acknowledgement, of those that it covers
	again byte // how often it was sent before
	kind  faultKind
	n     byte // places in the round by which it falls behind
}

type faultKind byte

const (
	faultDrop   faultKind = iota
	faultLate             // comes with the next round
	faultBehind           // comes behind others of its round
	faultKinds
)

func (f fault) String() string {
	return fmt.Sprintf("%s %d, sent %d times before: %s %d", map[bool]string{false: "segment", true: "ack"}[f.back], f.place, f.again,
		[]string{"lost", "late", "behind"}[f.kind], f.n)
}

func (f fault) encode() []byte {
	b := []byte{byte(f.kind) << 1, f.place, f.again, f.n}
	if f.back {
		b[0] |= 1
	}
	return b
}

func decodeFault(b []byte) fault {
	return fault{back: b[0]&1 != 0, kind: faultKind(b[0] >> 1 % byte(faultKinds)), place: b[1], again: b[2], n: b[3]}
}

// randomTrip is determined by its seed alone.
func randomTrip(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 77))
	b := make([]byte, head)
	b[0] = 1 // window
	if r.IntN(8) > 0 {
		b[0] = []byte{4, 8, 16, 32}[r.IntN(4)]
	}
	b[1] = byte(4 + r.IntN(60))                   // segments
	b[2] = byte(r.IntN(8))                        // where sequence numbers begin
	b[3] = byte(r.IntN(3))                        // what they are: messages, several, or pieces
	lose := []int{5, 10, 50, 100, 200}[r.IntN(5)] // per mille
	behind := []int{0, 0, 50, 200}[r.IntN(4)]
	for place := range b[1] {
		for again := range byte(3) {
			for _, back := range []bool{false, true} {
				f := fault{back: back, place: place, again: again, n: byte(1 + r.IntN(6))}
				switch x := r.IntN(1000); {
				case x < lose:
					f.kind = faultDrop
				case x < lose+behind:
					f.kind = []faultKind{faultLate, faultBehind, faultBehind, faultBehind}[r.IntN(4)]
				default:
					continue
				}
				b = append(b, f.encode()...)
			}
		}
	}
	return b
}

// sender is one end that sends segments, repeats them, and judges acknowledgements.
type sender struct {
	e       *endpoint
	ends    []uint32 // offsets at which its segments end
	next    int      // segments sent
	window  int
	dups    int
	recover uint32 // loss recovery ends there
	repairs bool
	resend  bool
	quiet   int // rounds without progress
}

// rounds without progress after which a sender repeats its oldest segment
const timeout = 4

func (s *sender) acked() int {
	return len(s.ends) - len(slices.DeleteFunc(slices.Clone(s.ends), func(end uint32) bool { return end <= s.e.una-s.e.iss }))
}

func (s *sender) over() bool { return s.acked() == len(s.ends) }

// turn is what it sends in a round.
func (s *sender) turn() (out []packet) {
	acked := s.acked()
	if s.resend && acked < s.next {
		p, _ := s.e.resend(s.e.una, s.ends[acked]-(s.e.una-s.e.iss))
		out = append(out, p)
	}
	s.resend = false
	for s.next < len(s.ends) && s.next-acked < s.window {
		p, ok := s.e.sendNew(s.ends[s.next] - (s.e.nxt - s.e.iss))
		if !ok {
			break
		}
		s.next++
		out = append(out, p)
	}
	if len(out) == 0 && s.e.ackDue {
		out = append(out, s.e.bare())
	}
	return out
}

func (s *sender) repair() { s.repairs, s.resend, s.recover = true, true, s.e.nxt }

// hear judges what came back.
func (s *sender) hear(p packet) {
	una, edge := s.e.una, s.e.edge
	s.e.receive(p)
	switch {
	case after(s.e.una, una):
		s.quiet, s.dups = 0, 0
		if s.repairs {
			s.repairs = before(s.e.una, s.recover)
			s.resend = s.repairs // a partial acknowledgement
		}
	case len(p.data) == 0 && p.ack == una && una != s.e.nxt && s.e.edge == edge:
		if s.dups++; s.dups == 3 && !s.repairs {
			s.repair()
		}
	}
}

// tick ends a round.
func (s *sender) tick() {
	if s.quiet++; s.quiet >= timeout && s.acked() < s.next {
		s.repair()
		s.quiet = 0
	}
}

// link is one direction with its faults.
type link struct {
	faults map[[2]byte]fault
	sent   map[byte]byte // how often, by place
	late   []packet
}

func newLink(faults []byte, back bool) *link {
	l := &link{faults: map[[2]byte]fault{}, sent: map[byte]byte{}}
	for ; len(faults) >= 4; faults = faults[4:] {
		if f := decodeFault(faults); f.back == back {
			l.faults[[2]byte{f.place, f.again}] = f
		}
	}
	return l
}

// round is what arrives of what was sent, in order.
func (l *link) round(sent []packet, place func(p packet) int) []packet {
	type arrival struct {
		p  packet
		at int
	}
	var in []arrival
	for _, p := range l.late {
		in = append(in, arrival{p, -1})
	}
	l.late = nil
	for i, p := range sent {
		n := byte(place(p))
		f, ok := l.faults[[2]byte{n, l.sent[n]}]
		l.sent[n]++
		if f.back && (i == len(sent)-1 || f.kind == faultLate || f.kind == faultDrop && len(p.data) == 0) {
			ok = false
		}
		switch {
		case !ok:
			in = append(in, arrival{p, 2 * i})
		case f.kind == faultLate:
			l.late = append(l.late, p)
		case f.kind == faultBehind:
			in = append(in, arrival{p, 2*(i+int(f.n)) + 1})
		}
	}
	slices.SortStableFunc(in, func(a, b arrival) int { return a.at - b.at })
	var out []packet
	for _, a := range in {
		out = append(out, a.p)
	}
	return out
}

// receiver is what the segments come to.
type receiver interface {
	take(p packet)
	round(n int) []packet // ends a round: what goes back
}

// alone is a socket that no program stands before.
type alone struct {
	e    *endpoint
	out  []packet
	held int
}

func (a *alone) take(p packet) {
	at := a.e.receive(p)
	if a.e.ackDue {
		a.held++
	}
	if at || a.held >= 2 {
		a.out, a.held = append(a.out, a.e.bare()), 0
	}
}

func (a *alone) round(int) []packet {
	if a.e.ackDue {
		a.out, a.held = append(a.out, a.e.bare()), 0
	}
	a.e.unread = 0
	out := a.out
	a.out = nil
	return out
}

// grafted is a socket with the program before it, functions that answer within the round,
// and a server that reads at once.
type grafted struct {
	m    *model
	held int
}

func (g *grafted) take(p packet) {
	g.m.rx(p, true)
	g.settle()
}

// settle: what the program has passed reaches the socket, and what that says leaves.
func (g *grafted) settle() {
	m := g.m
	for len(m.ml)+len(m.lm) > 0 && m.err == nil {
		if q, ok := m.pick(&m.ml, 0, true); ok {
			at := m.loc.receive(q)
			if m.loc.ackDue {
				g.held++
			}
			if at || g.held >= 2 {
				m.fromLocal(m.loc.bare(), true)
				g.held = 0
			}
		}
		if q, ok := m.pick(&m.lm, 0, true); ok {
			m.tx(q)
		}
	}
}

func (g *grafted) round(n int) []packet {
	m := g.m
	for m.err == nil && m.c.rx.open > 0 {
		m.finish(0, 3) // the request reaches the pod; then it answers
	}
	for m.owed > 0 && m.insert(4, 0) {
		m.owed--
	}
	if m.owed > 0 { // the server writes them
		m.owed = 0
		m.reply()
	}
	if m.loc.ackDue {
		m.fromLocal(m.loc.bare(), true)
		g.held = 0
		g.settle()
	}
	m.loc.unread = 0
	m.name()
	m.now += 20
	if n%5 == 4 {
		m.sweep()
	}
	out := m.mp
	m.mp = nil
	return out
}

// trip plays one until everything has arrived and is acknowledged, or for so many rounds.
func trip(s *sender, r receiver, faults []byte, limit int, failed func() bool) (rounds int) {
	there, back := newLink(faults, false), newLink(faults, true)
	number := func(p packet) int {
		if len(p.data) == 0 {
			return 255
		}
		n, _ := slices.BinarySearch(s.ends, p.seq-s.e.iss+1)
		return n
	}
	for rounds = 0; rounds < limit && !s.over() && !failed(); rounds++ {
		for _, p := range there.round(s.turn(), number) {
			r.take(p)
		}
		covers := func(p packet) int { // before the sender hears of it
			n, _ := slices.BinarySearch(s.ends, p.ack-s.e.iss+1)
			return n
		}
		for _, p := range back.round(r.round(rounds), covers) {
			s.hear(p)
		}
		s.tick()
	}
	return rounds
}

// roundTrips plays a trip for the program and for a socket alone. It fails if
// the program's takes more than half as many rounds more, and three.
func roundTrips(t *Table, b []byte, log func(string, ...any)) (program, socket int, err error) {
	if len(b) < head {
		return 0, 0, nil
	}
	conf := []byte{1, b[2] | b[2]<<3, 0x10, 0x10, 0, 0xff, 1, 0}
	m := newModel(t, conf, log, nil)
	m.loc.queue, m.timed = 64, true
	var ends []uint32
	for n, at := 0, uint32(0); n < int(b[1]); n++ {
		size := m.nextMessage(at)
		switch b[3] {
		case 1:
			size += m.nextMessage(at + size)
		case 2:
			size = 300
		}
		at += size
		ends = append(ends, at)
	}
	m.burst = b[3] == 1
	window := max(1, int(b[0]))

	var p, l endpoint
	p.out, l.out = world.peer, world.local
	p.fail, l.fail = m.fail, m.fail
	nothing := func(uint32, []byte, bool) {}
	p.accept, l.accept = nothing, nothing
	p.start(m.peer.iss, m.peer.irs, 60000, 60000)
	l.start(m.peer.irs, m.peer.iss, 60000, 60000)
	l.queue = 64
	socket = trip(&sender{e: &p, ends: ends, window: window}, &alone{e: &l}, b[head:], 10000, func() bool { return false })
	most := socket*3/2 + 3
	s := &sender{e: &m.peer, ends: ends, window: window}
	program = trip(s, &grafted{m: m}, b[head:], most+1, func() bool { return m.err != nil })
	if m.err == nil && program > most {
		m.fail("%d of %d segments after %d round trips, a socket alone needs %d", s.acked(), len(ends), program, socket)
	}
	return program, socket, m.err
}

// explainTrip replays a trip and returns its faults and its course.
func explainTrip(t *Table, b []byte) string {
	var s strings.Builder
	fmt.Fprintf(&s, "trip %x: window %d, %d segments\n", b, b[0], b[1])
	for f := b[head:]; len(f) >= 4; f = f[4:] {
		fmt.Fprintln(&s, decodeFault(f))
	}
	_, _, err := roundTrips(t, b, func(f string, a ...any) { fmt.Fprintf(&s, f+"\n", a...) })
	fmt.Fprintln(&s, err)
	return s.String()
}

func shrinkTrip(t *Table, b []byte) []byte {
	return shrinkWhile(b, func(b []byte) bool {
		_, _, err := roundTrips(t, b, nil)
		return err != nil
	})
}

// TestRoundTrips: a device whose link loses and reorders needs hardly more round trips than it
// would without the program.
func TestRoundTrips(t *testing.T) {
	own := Own()
	seed := envUint(t, "EPROXY_MODEL_SEED", 1)
	var program, socket, worse int
	for range envUint(t, "EPROXY_MODEL_TRIPS", 20_000) {
		b := randomTrip(seed)
		p, s, err := roundTrips(own, b, nil)
		if err != nil {
			t.Fatalf("seed %d: %v\nshrunk:\n%s", seed, err, explainTrip(own, shrinkTrip(own, b)))
		}
		program, socket = program+p, socket+s
		if p > s {
			worse++
		}
		seed++
	}
	t.Logf("%d round trips, a socket alone %d; more of them in %d trips", program, socket, worse)
}

// slow are mistakes that cost nothing but time.
var slow = []struct{ name, file, old, new string }{
	{"what lies beyond a hole dropped", "conn_rx.h", "} else if (s->in_order) {", "} else if (1) {"},
	{"duplicate acknowledgement held back", "conn_tx.h", "\tif ((c->flags & CONN_SACK) || !conn_held_back(c))\n\t\treturn false;\n", ""},
	{"duplicate acknowledgements that have waited never sent", "conn_tx.h", "return conn_hole(c) ? n : 0;", "return 0;"},
}

// TestSlowMistakesAreFound shows that the bound on round trips finds what is only slow, and that
// what it finds is shrunk.
func TestSlowMistakesAreFound(t *testing.T) {
	for _, p := range slow {
		t.Run(p.name, func(t *testing.T) {
			table, err := build(t.TempDir(), p.file, p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			for seed := uint64(1); seed < 20_000; seed++ {
				b := randomTrip(seed)
				if _, _, err := roundTrips(table, b, nil); err == nil {
					continue
				}
				b = shrinkTrip(table, b)
				_, _, err := roundTrips(table, b, nil)
				if faults := (len(b) - head) / 4; err == nil || faults > 12 {
					t.Errorf("shrunk to %d faults: %v", faults, err)
				}
				t.Logf("seed %d: %v, with %d faults", seed, err, (len(b)-head)/4)
				return
			}
			t.Fatal("not found")
		})
	}
}
