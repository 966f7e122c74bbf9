//go:build cgo

package native

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// lineModel is the lines of a queue as lists.
type lineModel struct {
	table *Table
	p     Parking
	q     Queue
	lines map[uint64]*modelLine
	now   uint32
}

// modelLine is one line. Where admitted is not empty, or flight or held says so, none of those that wait may be sent.
type modelLine struct {
	number   uint32
	admitted []uint32 // numbers of messages that processors have in their hands, in order
	waiting  []uint32 // of those among the others
	ages     map[uint32]int
	flight   uint32 // the one that a pod has
	held     int    // how often userspace is in front
	watched  bool
	born     int
	ahead    int // messages that were put among the others since some are admitted
}

func (l *modelLine) busy() bool  { return l.flight != 0 || l.held > 0 || len(l.admitted) > 0 }
func (l *modelLine) empty() bool { return !l.busy() && len(l.waiting) == 0 }

func (m *lineModel) do(op LineOp, name uint64, n uint32) (uint32, *LineArgs) {
	a := &LineArgs{Name: name, N: n, Ms: m.now}
	if l := m.lines[name]; l != nil {
		a.Line = l.number
	}
	return m.table.Line(&m.p, &m.q, op, a), a
}

// of is the line of this name, made if it is not there.
func (m *lineModel) of(name uint64) *modelLine {
	if m.lines[name] == nil {
		m.lines[name] = &modelLine{ages: make(map[uint32]int)}
	}
	return m.lines[name]
}

func (m *lineModel) settle(name uint64) {
	if m.lines[name].empty() {
		delete(m.lines, name)
	}
}

func (m *lineModel) admit(name uint64) error {
	n, a := m.do(LineAdmit, name, 0)
	if l := m.lines[name]; (n == 0) != (l != nil && len(l.admitted)+l.ahead >= TurnsMax) {
		return fmt.Errorf("line %x: admitted as %d", name, n)
	}
	if n == 0 {
		return nil
	}
	l := m.of(name)
	if l.number != 0 && l.number != a.Line {
		return fmt.Errorf("line %x is number %d and %d", name, l.number, a.Line)
	}
	l.number = a.Line
	l.born++
	l.ages[n] = l.born
	l.admitted = append(l.admitted, n)
	return nil
}

// put puts an admitted message, whichever, among the others, or takes it back.
func (m *lineModel) put(r *rand.Rand, name uint64) error {
	l := m.lines[name]
	if l == nil || len(l.admitted) == 0 {
		return nil
	}
	i := r.IntN(len(l.admitted))
	n := l.admitted[i]
	if r.IntN(5) == 0 {
		tell, _ := m.do(LineCancel, name, n)
		want := l.watched && l.flight == 0
		if (tell == 1) != want {
			return fmt.Errorf("a cancelled message tells userspace %d, want %v", tell, want)
		}
		l.watched = l.watched && !want
	} else {
		m.do(LinePush, name, n)
		l.ahead++
		l.waiting = append(l.waiting, n)
		slices.SortFunc(l.waiting, func(a, b uint32) int { return l.ages[a] - l.ages[b] })
	}
	if l.admitted = slices.Delete(l.admitted, i, i+1); len(l.admitted) == 0 {
		l.ahead = 0
	}
	m.settle(name)
	return nil
}

// pop sends what has its turn, or has userspace take what stands behind others.
func (m *lineModel) pop(r *rand.Rand, hand bool) error {
	list := uint32(0)
	if hand {
		list = r.Uint32N(2) * families
	}
	op := ParkPop
	if hand {
		op = ParkHand
	}
	n := m.table.Park(&m.p, &m.q, op, list, 0, 0)
	for name, l := range m.lines {
		if n == 0 && len(l.waiting) > 0 && l.busy() == (list > 0) {
			return fmt.Errorf("nothing has its turn on list %d, but line %x has", list, name)
		}
		if n == 0 || !slices.Contains(l.waiting, n) {
			continue
		}
		if l.waiting[0] != n {
			return fmt.Errorf("line %x: message %d leaves before %d", name, l.ages[n], l.ages[l.waiting[0]])
		}
		if !hand && l.busy() {
			return fmt.Errorf("line %x: message %d leaves while another is on its way", name, l.ages[n])
		}
		l.waiting = l.waiting[1:]
		if hand {
			l.held++
			m.table.Park(&m.p, &m.q, ParkFree, 0, n, 0)
			return nil
		}
		l.flight = n
		if r.IntN(4) == 0 { // no slot takes it
			m.do(LineBack, name, n)
			l.flight = 0
			l.waiting = slices.Insert(l.waiting, 0, n)
			return nil
		}
		m.table.Park(&m.p, &m.q, ParkFree, 0, n, 0)
		return nil
	}
	if n != 0 {
		return fmt.Errorf("message %d is in no line", n)
	}
	return nil
}

// end ends what a pod has, or gives it to userspace.
func (m *lineModel) end(r *rand.Rand, name uint64) error {
	l := m.lines[name]
	if l == nil || l.flight == 0 {
		return nil
	}
	l.flight = 0
	if r.IntN(3) == 0 {
		m.do(LineTakeOver, name, 0)
		l.held++
		return nil
	}
	tell, _ := m.do(LineAnswered, name, 0)
	if (tell == 1) != l.watched {
		return fmt.Errorf("line %x: userspace is told %d, want %v", name, tell, l.watched)
	}
	l.watched = false
	m.settle(name)
	return nil
}

// userspace wants to be in front, asks, or gives way.
func (m *lineModel) userspace(r *rand.Rand, name uint64) error {
	l := m.lines[name]
	switch r.IntN(3) {
	case 0:
		n, a := m.do(LineHold, name, 0)
		if a.Flag != (l != nil) || (n != 0) != (l == nil) {
			return fmt.Errorf("line %x: held as %d, behind others %v; others %v", name, n, a.Flag, l != nil)
		}
		if l != nil {
			l.watched = true
			return nil
		}
		l = m.of(name)
		l.number, l.held = n, 1
	case 1:
		held, a := m.do(LineWatch, name, 0)
		if l == nil && (held > 0 || a.Flag) || l != nil && (int(held) != l.held || a.Flag != (l.flight != 0)) {
			return fmt.Errorf("line %x: held %d times, with a pod %v", name, held, a.Flag)
		}
		if l != nil {
			l.watched = l.watched || l.flight != 0
		}
	case 2:
		if l == nil || l.held == 0 {
			return nil
		}
		waits, _ := m.do(LineRelease, name, 0)
		l.held--
		if want := !l.busy() && len(l.waiting) > 0; (waits == 1) != want {
			return fmt.Errorf("line %x: waits %d, want %v", name, waits, want)
		}
		m.settle(name)
	}
	return nil
}

func (m *lineModel) step(r *rand.Rand, names uint64) error {
	m.now += r.Uint32N(3)
	name := (r.Uint64N(names) + 1) << 32 // of one bucket, some of them
	if r.IntN(2) == 0 {
		name |= 1
	}
	switch n := r.IntN(10); {
	case n < 2:
		return m.admit(name)
	case n < 4:
		return m.put(r, name)
	case n < 6:
		return m.pop(r, false)
	case n < 7:
		return m.pop(r, true)
	case n < 9:
		return m.end(r, name)
	}
	return m.userspace(r, name)
}

// runLines does random things with lines, and checks each.
func runLines(table *Table, seed uint64, steps int) error {
	r := rand.New(rand.NewPCG(seed, 5))
	m := &lineModel{table: table, lines: make(map[uint64]*modelLine)}
	ParkLimit(&m.p, ParkedMax)
	m.q.most, m.q.ids = ParkedMax, 1<<32-300
	for i := range steps {
		if err := m.step(r, []uint64{1, 3, 20}[seed%3]); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		count := 0
		for _, l := range m.lines {
			count += len(l.waiting) + len(l.admitted)
		}
		if int(m.q.count) != count || int(m.p.lines) != len(m.lines) {
			return fmt.Errorf("step %d: %d messages and %d lines, want %d and %d", i, int(m.q.count), int(m.p.lines), count, len(m.lines))
		}
	}
	return nil
}

// TestLines compares line.h with the model: of each line one at a time, in order, none behind what userspace has, no message and no line lost.
func TestLines(t *testing.T) {
	for seed := range uint64(24) {
		if err := runLines(Own(), seed, 8000); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// crowd has userspace hold as many lines as it can, few of which share a bucket, and then the programs take a message of another one.
func crowd(table *Table) error {
	m := &lineModel{table: table, lines: make(map[uint64]*modelLine)}
	ParkLimit(&m.p, ParkedMax)
	m.q.most = ParkedMax
	held := uint64(0)
	for ; held <= ParkLines; held++ {
		n, a := m.do(LineHold, held+1, 0)
		if a.Flag {
			return fmt.Errorf("line %d of userspace alone is behind others", held)
		}
		if n == 0 {
			break
		}
	}
	if held == 0 || held == ParkLines {
		return fmt.Errorf("userspace holds %d lines of %d", held, ParkLines)
	}
	return m.admit(held + 2)
}

// TestHeldLinesLeaveRoom: lines that userspace holds, as many as it may want, leave room for those of which the programs have messages.
func TestHeldLinesLeaveRoom(t *testing.T) {
	if err := crowd(Own()); err != nil {
		t.Error(err)
	}
	table, err := build(t.TempDir(), "line.h", " || p->lines >= LINES_HELD", "")
	if err != nil {
		t.Fatal(err)
	}
	if crowd(table) == nil {
		t.Error("not seen that userspace holds all lines")
	}
}

// plantedLines are mistakes that the model must find.
var plantedLines = []struct{ name, file, old, new string }{
	{"next one sent while a pod has one", "parking.h", "return c->flight || c->held || c->pending;", "return c->held || c->pending;"},
	{"next one sent in front of userspace's", "parking.h", "return c->flight || c->held || c->pending;", "return c->flight || c->pending;"},
	{"next one sent before an older one is there", "parking.h", "return c->flight || c->held || c->pending;", "return c->flight || c->held;"},
	{"more out of order than is put in order", "line.h", "c->pending + c->ahead < TURNS_MAX && ", ""},
	{"end of an empty line not forgotten", "parking.h", "		c->last = PARK_NONE; /* the line goes on */\n", "		;\n"},
	{"what userspace takes holds nothing", "parking.h", "	if (c->line && hand)\n		c->held++;\n	else if (c->line)", "	if (c->line)"},
	{"what is taken over holds nothing", "line.h", "	c->flight = 0;\n	c->held++;\n", "	c->flight = 0;\n"},
	{"put back, and on its way still", "line.h", "	c->flight = 0;\n	parking_insert", "	parking_insert"},
	{"userspace in front though others were before", "line.h", "	*behind = k || lost;\n", "	*behind = lost;\n"},
	{"userspace not told", "line.h", "		park_client(p, k)->watched = 1;\n	if (*behind ||", "		;\n	if (*behind ||"},
	{"line not left when it is empty", "line.h", "	else if (!line_busy(c))\n		line_leave(p, k);\n", "	else if (0)\n		line_leave(p, k);\n"},
	{"line left while it is busy", "line.h", "	else if (!line_busy(c))\n		line_leave(p, k);\n", "	else\n		line_leave(p, k);\n"},
	{"line without messages left though it is held again", "line.h", "		if (!--c->held)\n			line_leave(p, k);\n", "		--c->held;\n"},
}

// TestLineMistakesAreFound shows that the model finds mistakes.
func TestLineMistakesAreFound(t *testing.T) {
	for _, p := range plantedLines {
		t.Run(p.name, func(t *testing.T) {
			table, err := build(t.TempDir(), p.file, p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			for seed := range uint64(24) {
				if err := runLines(table, seed, 8000); err != nil {
					t.Logf("found with seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}
