//go:build cgo

package native

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// idsModel is the identifiers under way as a map, with the hold of each. Two connections share two tables, as all
// of them do; the model is that of one of them, the other one only uses tables.
type idsModel struct {
	table   *Table
	ids     IDs
	tables  [2]IDTable
	held    map[uint16]uint32
	outside int
	all     []uint32 // holds that were given out, void ones among them

	others   *IDTable // the other connection's, with one identifier; nil: it has none
	kept     IDs
	keptHold uint32
}

// its is the connection's table, or nil.
func (m *idsModel) its() *IDTable {
	if m.ids.table == 0 {
		return nil
	}
	return &m.tables[m.ids.table-1]
}

func (m *idsModel) do(op IDsOp, arg uint32) uint32 { return m.table.IDs(&m.ids, m.its(), op, arg) }

// own counts the identifiers that are in the connection's own entry.
func (m *idsModel) own() (n int) {
	for _, h := range m.held {
		if h&(1<<HoldShift-1) < IDsMax {
			n++
		}
	}
	return n
}

// room is whether an identifier that is not under way finds an entry.
func (m *idsModel) room(id uint16) bool {
	if m.own() < IDsMax {
		return true
	}
	if m.ids.table == 0 {
		return false
	}
	for other, h := range m.held {
		if h&(1<<HoldShift-1) >= IDsMax && other%IDsInTable == id%IDsInTable {
			return false
		}
	}
	return true
}

// enter is a message that comes.
func (m *idsModel) enter(id uint16) error {
	before, known := m.held[id]
	room := m.room(id)
	if got := m.do(IDsKnown, uint32(id)) != 0; got != known {
		return fmt.Errorf("identifier %d: known %v, want %v", id, got, known)
	}
	if got := m.do(IDsRoom, uint32(id)) != 0; got && (m.outside > 0 || !room && !known) || !got && room && m.outside == 0 {
		return fmt.Errorf("identifier %d: room %v, with %d identifiers and %d outside", id, got, len(m.held), m.outside)
	}
	h := m.do(IDsEnter, uint32(id))
	m.all = append(m.all, h)
	if !room && !known {
		m.outside++
		if h != HoldOutside {
			return fmt.Errorf("identifier %d: hold %#x, but there is no room", id, h)
		}
		return nil
	}
	if h == before && known || h == HoldOutside {
		return fmt.Errorf("identifier %d: hold %#x, before %#x", id, h, before)
	}
	m.held[id] = h
	return nil
}

// release is a message that ends.
func (m *idsModel) release(h uint32) error {
	if h == HoldOutside {
		if m.outside > 0 {
			m.outside--
		}
		if m.do(IDsRelease, h) == 0 {
			return fmt.Errorf("a message outside may not be acknowledged")
		}
		return nil
	}
	own := false
	for id, held := range m.held {
		if held == h {
			delete(m.held, id)
			own = true
		}
	}
	if (m.do(IDsHeld, h) != 0) != own || (m.do(IDsRelease, h) != 0) != own || m.do(IDsHeld, h) != 0 {
		return fmt.Errorf("hold %#x: own %v", h, own)
	}
	return nil
}

// claim gives the connection a table that nobody has, as a program does that needs one.
func (m *idsModel) claim() error {
	for i := range m.tables {
		if t := &m.tables[i]; t.taken == 0 {
			had := m.ids.table != 0
			ClaimTable(t, i+1)
			if got := m.table.IDs(&m.ids, t, IDsTable, 0) != 0; got == had {
				return fmt.Errorf("took table %d: %v, had one: %v", i, got, had)
			} else if !got {
				t.taken = 0
			}
			return nil
		}
	}
	return nil
}

// other has another connection use a table, or give it back: with it go the generations of its entries.
func (m *idsModel) other(id uint16) error {
	if t := m.others; t != nil {
		m.others = nil
		if m.table.IDs(&m.kept, t, IDsRelease, m.keptHold) != 1 || t.taken != 0 || m.kept.table != 0 {
			return fmt.Errorf("an empty table was not given back: taken %d", t.taken)
		}
		return nil
	}
	for i := range m.tables {
		t := &m.tables[i]
		if t.taken != 0 {
			continue
		}
		ClaimTable(t, i+1)
		m.others, m.kept = t, FullIDs()
		m.table.IDs(&m.kept, t, IDsTable, 0)
		m.keptHold = m.table.IDs(&m.kept, t, IDsEnter, uint32(id))
		if t.count != 1 {
			return fmt.Errorf("another's identifier %d, hold %#x, is not in its table", id, m.keptHold)
		}
		// as after a look-up of before the lock
		if m.table.IDs(&m.ids, t, IDsKnown, uint32(id)) != 0 && m.held[id] == 0 {
			return fmt.Errorf("identifier %d is known from another's table", id)
		}
		return nil
	}
	return nil
}

func (m *idsModel) check() error {
	for id, h := range m.held {
		if m.do(IDsKnown, uint32(id)) == 0 || m.do(IDsHeld, h) == 0 {
			return fmt.Errorf("identifier %d, hold %#x is not there", id, h)
		}
	}
	if t, n := m.its(), len(m.held)-m.own(); t != nil && (int(t.count) != n || t.taken == 0) || t == nil && n > 0 {
		return fmt.Errorf("%d identifiers beyond the connection's own entry, table %+v", n, m.ids.table)
	}
	return nil
}

// run does what ops say: three bytes each, an identifier to enter, or which hold to release.
func (m *idsModel) run(ops []byte) error {
	m.held = map[uint16]uint32{}
	for i := 0; len(ops) >= 3; i, ops = i+1, ops[3:] {
		n := binary.BigEndian.Uint16(ops[1:])
		var err error
		switch {
		case ops[0]&0x1c == 0x1c && ops[0]&0x20 == 0:
			err = m.claim()
		case ops[0]&0x1c == 0x1c:
			err = m.other(max(n, 1))
		case ops[0]&1 == 0:
			err = m.enter(max(n, 1))
		case len(m.all) > 0:
			i := int(n) % len(m.all)
			if ops[0]&2 != 0 { // one of the latest
				i = len(m.all) - 1 - int(n)%min(len(m.all), IDsMax)
			}
			err = m.release(m.all[i])
		}
		if err == nil && (i%16 == 0 || len(m.held) < 2*IDsMax) {
			err = m.check()
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// voidInNextTable is a message that lost its identifier to another one, while the connection had another table: it
// must not have the identifier back.
func voidInNextTable(table *Table) error {
	m := &idsModel{table: table, ids: FullIDs()}
	if err := m.claim(); err != nil {
		return err
	}
	lost := m.do(IDsEnter, 7)
	m.do(IDsRelease, m.do(IDsEnter, 7))
	if err := m.other(9); err != nil { // it gets the table
		return err
	}
	if err := m.claim(); err != nil {
		return err
	}
	m.do(IDsEnter, 7)
	if m.do(IDsHeld, lost) != 0 {
		return fmt.Errorf("hold %#x is valid again, in table %d", lost, m.ids.table)
	}
	return nil
}

// idsOps are random messages of some kind: of few identifiers, of ones in a row as clients have them, of any.
func idsOps(round uint64) []byte {
	r := rand.New(rand.NewPCG(7, round))
	ops := make([]byte, 3*3000)
	next := uint16(r.Uint32())
	for i := 0; i < len(ops); i += 3 {
		ops[i] = byte(r.Uint32())
		if round%3 != 1 && i%(len(ops)/3) < len(ops)/6 {
			ops[i] &^= 1 // mostly entered: full
		}
		n := uint16(r.Uint32())
		if ops[i]&1 == 0 {
			switch round % 4 {
			case 0:
				n = n%80 + uint16(round)<<8
			case 1, 2:
				next++
				n = next
			}
		}
		binary.BigEndian.PutUint16(ops[i+1:], n)
	}
	return ops
}

// TestIDs: random messages against the model.
func TestIDs(t *testing.T) {
	if err := voidInNextTable(Own()); err != nil {
		t.Error(err)
	}
	beyond := 0
	for round := range uint64(60) {
		m := &idsModel{table: Own()}
		if err := m.run(idsOps(round)); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		beyond = max(beyond, len(m.held))
	}
	if beyond < 4*IDsMax {
		t.Errorf("at most %d identifiers were under way at an end: the tables were not used much", beyond)
	}
}

// plantedIDs are mistakes that the model must find.
var plantedIDs = []struct{ name, old, new string }{
	{"table of another connection used", "return t && ids->table && ids->table == t->number;", "return t;"},
	{"identifier in the table not found", "n == IDS_NONE && ids_has(ids, t) && t->ids[ids_place(id)] == id", "0"},
	{"any identifier at the same place found", " && t->ids[ids_place(id)] == id)\n\t\tn =", " && t->ids[ids_place(id)])\n\t\tn ="},
	{"identifier at the same place overwritten", "if (!ids_has(ids, t) || t->ids[ids_place(id)])\n", "if (!ids_has(ids, t))\n"},
	{"generation of the table, not of the connection", "t->gen[ids_place(n)] = ++ids->gen;", "++t->gen[ids_place(n)];"},
	{"generation in the table not looked at", " && t->gen[ids_place(n)] == hold >> HOLD_SHIFT", ""},
	{"full table not given back", "if (ids_has(ids, t) && !t->count)", "if (ids_has(ids, t) && t->count > 1)"},
	{"table given back with identifiers in it", "if (ids_has(ids, t) && !t->count)", "if (ids_has(ids, t))"},
	{"table given back is still the connection's", "\t\tids->table = 0;\n\t\t__sync", "\t\t__sync"},
	{"second table taken", "\tif (ids->table)\n\t\treturn false;\n", ""},
	{"messages outside do not count", "return !ids->outside &&", "return"},
}

// TestIDsMistakesAreFound shows that the model finds mistakes.
func TestIDsMistakesAreFound(t *testing.T) {
	for _, p := range plantedIDs {
		t.Run(p.name, func(t *testing.T) {
			table, err := build(t.TempDir(), "ids.h", p.old, p.new)
			if err != nil {
				t.Fatal(err)
			}
			if err := voidInNextTable(table); err != nil {
				t.Logf("found: %v", err)
				return
			}
			for round := range uint64(60) {
				if err := (&idsModel{table: table}).run(idsOps(round)); err != nil {
					t.Logf("found in round %d: %v", round, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}

// FuzzIDs does the same with what the fuzzer finds.
func FuzzIDs(f *testing.F) {
	f.Add([]byte{0, 0, 7, 0, 0, 8, 1, 0, 0, 0, 0, 7})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if err := (&idsModel{table: Own()}).run(ops); err != nil {
			t.Error(err)
		}
	})
}
