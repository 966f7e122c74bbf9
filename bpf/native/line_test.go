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
	turns []uint64 // names of those with messages that may be sent, in the order of their turns
	now   uint32
}

// modelLine is one line. Where flight or held says so, or it is moving, none of those that wait may be sent.
type modelLine struct {
	number   uint32
	admitted []uint32 // numbers of messages that processors have in their hands, in order
	waiting  []uint32 // of those among the others
	ages     map[uint32]int
	flight   uint32 // the one that a pod has, or is to have
	placing  bool   // it has no slot yet,
	landed   bool   // and is answered already
	held     int    // how often userspace is in front
	watched  bool
	born     int
	ahead    int // messages that were put among the others since some are admitted
}

func (l *modelLine) busy() bool { return l.flight != 0 || l.held > 0 || l.moving() }

// moving says whether something may still come in front of those that wait.
func (l *modelLine) moving() bool {
	return l.placing || len(l.admitted) > 0 && len(l.waiting) <= l.ahead
}

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

// settle keeps the order of turns behind a change of a line, which has its own next (front) or last if it had none, and forgets an empty one.
func (m *lineModel) settle(name uint64, front bool) {
	l, at := m.lines[name], slices.Index(m.turns, name)
	has := len(l.waiting) > 0 && !l.busy()
	switch {
	case has && front:
		m.turns = slices.Insert(m.turns, 0, name)
	case has && at < 0:
		m.turns = append(m.turns, name)
	case !has && at >= 0:
		m.turns = slices.Delete(m.turns, at, at+1)
	}
	if l.empty() {
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
	m.settle(name, false)
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
	m.settle(name, false)
	return nil
}

// pop takes what has its turn, to send it.
func (m *lineModel) pop() error {
	n := m.table.Park(&m.p, &m.q, ParkPop, 0, 0, 0)
	for name, l := range m.lines {
		if n == 0 && len(l.waiting) > 0 && !l.busy() {
			return fmt.Errorf("nothing has its turn, but line %x has", name)
		}
		if n == 0 || !slices.Contains(l.waiting, n) {
			continue
		}
		if l.busy() {
			return fmt.Errorf("line %x: message %d leaves while another is on its way", name, l.ages[n])
		}
		if err := l.leaves(name, n); err != nil {
			return err
		}
		if len(m.turns) == 0 || m.turns[0] != name {
			return fmt.Errorf("line %x leaves, but the turns are %x", name, m.turns)
		}
		l.flight, l.placing = n, true
		m.settle(name, false)
		return nil
	}
	if n != 0 {
		return fmt.Errorf("message %d is in no line", n)
	}
	return nil
}

// leaves takes a message out of those that wait, if there is no older one of its line but what is with a pod, or userspace's.
func (l *modelLine) leaves(name uint64, n uint32) error {
	older := func(other uint32) bool { return l.ages[other] < l.ages[n] }
	if l.waiting[0] != n || slices.ContainsFunc(l.admitted, older) || l.placing {
		return fmt.Errorf("line %x: message %d leaves before an older one: %d wait, %d are to come, one is about to leave: %v", name, l.ages[n],
			len(l.waiting), len(l.admitted), l.placing)
	}
	l.waiting = l.waiting[1:]
	return nil
}

// place gives a message that was popped its slot, or puts it back.
func (m *lineModel) place(r *rand.Rand, name uint64) error {
	l := m.lines[name]
	if l == nil || !l.placing {
		return nil
	}
	n := l.flight
	l.placing = false
	if !l.landed && r.IntN(3) == 0 { // no slot takes it
		m.do(LineBack, name, n)
		l.flight = 0
		l.waiting = slices.Insert(l.waiting, 0, n)
		m.settle(name, true)
		return nil
	}
	tell, _ := m.do(LinePlaced, name, 0)
	m.table.Park(&m.p, &m.q, ParkFree, 0, n, 0)
	if want := l.landed && l.watched; (tell == 1) != want {
		return fmt.Errorf("line %x: userspace is told %d, want %v", name, tell, want)
	}
	if l.landed {
		l.flight, l.landed, l.watched = 0, false, false
	}
	m.settle(name, false)
	return nil
}

// hand has userspace take what has waited longest, from those that have their turn or those behind others. Not all are looked at at once.
func (m *lineModel) hand(r *rand.Rand) error {
	list, n := r.Uint32N(2)*families, uint32(0)
	for range 1 + len(m.lines)/TurnsMax {
		if n == 0 {
			n = m.table.Line(&m.p, &m.q, LineTake, &LineArgs{Line: list, Ms: m.now})
		}
	}
	for name, l := range m.lines {
		if n == 0 && len(l.waiting) > 0 && l.busy() == (list > 0) && !l.moving() {
			return fmt.Errorf("nothing is taken from list %d, but line %x has something", list, name)
		}
		if n == 0 || !slices.Contains(l.waiting, n) {
			continue
		}
		if err := l.leaves(name, n); err != nil {
			return err
		}
		l.held++
		m.settle(name, false)
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
	if l == nil || l.flight == 0 || l.landed {
		return nil
	}
	if l.placing { // the pod was faster than who sent it
		l.landed = true
		if tell, _ := m.do(LineAnswered, name, 0); tell != 0 {
			return fmt.Errorf("line %x: userspace is told before the message has its slot", name)
		}
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
	m.settle(name, false)
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
		m.settle(name, false)
	}
	return nil
}

func (m *lineModel) step(r *rand.Rand, names uint64) error {
	m.now += r.Uint32N(3)
	name := (r.Uint64N(names) + 1) << 32 // of one bucket, some of them
	if r.IntN(2) == 0 {
		name |= 1
	}
	switch n := r.IntN(12); {
	case n < 2:
		return m.admit(name)
	case n < 4:
		return m.put(r, name)
	case n < 6:
		return m.pop()
	case n < 7:
		return m.hand(r)
	case n < 9:
		return m.place(r, name)
	case n < 11:
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
	{"next one sent while a pod has one", "parking.h", "return c->flight || c->held || line_moving(c);", "return c->held || line_moving(c);"},
	{"next one sent in front of userspace's", "parking.h", "return c->flight || c->held || line_moving(c);", "return c->flight || line_moving(c);"},
	{"next one sent before an older one is there", "parking.h", "return c->flight || c->held || line_moving(c);", "return c->flight || c->held;"},
	{"more out of order than is put in order", "line.h", "c->pending + c->ahead < TURNS_MAX && ", ""},
	{"end of an empty line not forgotten", "parking.h", "		c->last = PARK_NONE; /* the line goes on */\n", "		;\n"},
	{"what userspace takes holds nothing", "parking.h", "	if (c->line && hand)\n		c->held++;\n	else if (c->line)", "	if (c->line)"},
	{"what is taken over holds nothing", "line.h", "	c->flight = 0;\n	c->held++;\n", "	c->flight = 0;\n"},
	{"put back, and on its way still", "line.h", "	c->flight = 0;\n	parking_insert", "	parking_insert"},
	{"younger one taken while one is about to leave", "parking.h", "c->flight >= FLIGHT_PLACING || ", ""},
	{"younger one taken before an older one is there", "parking.h", " || (c->pending && c->count <= c->ahead);", ";"},
	{"answered before it has its slot, and on its way still", "line.h", "	if (c->flight == FLIGHT_LANDED)\n", "	if (0)\n"},
	{"answered before it has its slot, and then another's", "line.h", "	if (c->flight == FLIGHT_PLACING) {", "	if (0) {"},
	{"turn lost with each message that comes", "line.h", "	if (now != was || front) {", "	if (1) {"},
	{"turn lost while a message comes", "parking.h", "(c->pending && c->count <= c->ahead)", "c->pending"},
	{"what is put back has its turn last", "line.h", "	line_settle(p, q, k, was, true);", "	line_settle(p, q, k, was, false);"},
	{"userspace in front though others were before", "line.h", "	*behind = k || lost;\n", "	*behind = lost;\n"},
	{"userspace not told", "line.h", "		park_client(p, k)->watched = 1;\n	if (*behind ||", "		;\n	if (*behind ||"},
	{"line not left when it is empty", "line.h", "	if (now == PARK_LISTS && !line_busy(c))\n", "	if (0)\n"},
	{"line left while it is busy", "line.h", "	if (now == PARK_LISTS && !line_busy(c))\n", "	if (now == PARK_LISTS)\n"},
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
