//go:build cgo

package native

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// idsModel is the identifiers under way as a map, with the hold of each.
type idsModel struct {
	t       *testing.T
	ids     IDs
	held    map[uint16]uint32
	outside int
	all     []uint32 // holds that were given out, void ones among them
}

// enter is a message that comes.
func (m *idsModel) enter(id uint16) {
	_, known := m.held[id]
	full := len(m.held) == IDsMax
	if Known(&m.ids, id) != known {
		m.t.Fatalf("identifier %d: known %v, want %v", id, !known, known)
	}
	h := Enter(&m.ids, id)
	m.all = append(m.all, h)
	if full && !known {
		m.outside++
		if h != HoldOutside {
			m.t.Fatalf("identifier %d: hold %#x, but there is no room", id, h)
		}
		return
	}
	if h == m.held[id] && known || h == HoldOutside {
		m.t.Fatalf("identifier %d: hold %#x, before %#x", id, h, m.held[id])
	}
	m.held[id] = h
}

// release is a message that ends.
func (m *idsModel) release(h uint32) {
	if h == HoldOutside {
		if m.outside > 0 {
			m.outside--
		}
		if !Release(&m.ids, h) {
			m.t.Fatal("a message outside may not be acknowledged")
		}
		return
	}
	own := false
	for id, held := range m.held {
		if held == h {
			delete(m.held, id)
			own = true
		}
	}
	if Held(&m.ids, h) != own || Release(&m.ids, h) != own || Held(&m.ids, h) {
		m.t.Fatalf("hold %#x: own %v", h, own)
	}
}

func (m *idsModel) check() {
	if Room(&m.ids) != (len(m.held) < IDsMax && m.outside == 0) {
		m.t.Fatalf("room %v with %d identifiers and %d outside", Room(&m.ids), len(m.held), m.outside)
	}
	for id, h := range m.held {
		if !Known(&m.ids, id) || !Held(&m.ids, h) {
			m.t.Fatalf("identifier %d, hold %#x is not there", id, h)
		}
	}
}

// run does what ops say: three bytes each, an identifier to enter, or which hold to release.
func (m *idsModel) run(ops []byte) {
	m.held = map[uint16]uint32{}
	for ; len(ops) >= 3; ops = ops[3:] {
		n := binary.BigEndian.Uint16(ops[1:])
		switch {
		case ops[0]&1 == 0:
			m.enter(max(n, 1))
		case len(m.all) > 0:
			i := int(n) % len(m.all)
			if ops[0]&2 != 0 { // one of the latest
				i = len(m.all) - 1 - int(n)%min(len(m.all), IDsMax)
			}
			m.release(m.all[i])
		}
		m.check()
	}
}

// TestIDs: random messages, with identifiers of few and of many values, against the model.
func TestIDs(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for round := range 200 {
		ops := make([]byte, 3*600)
		for i := 0; i < len(ops); i += 3 {
			ops[i] = byte(r.Uint32())
			if round%3 == 0 && i < len(ops)/2 {
				ops[i] &^= 1 // mostly entered: full
			}
			n := uint16(r.Uint32())
			if ops[i]&1 == 0 && round%2 == 0 {
				n = n%80 + uint16(round)<<8
			}
			binary.BigEndian.PutUint16(ops[i+1:], n)
		}
		(&idsModel{t: t}).run(ops)
	}
}

// FuzzIDs does the same with what the fuzzer finds.
func FuzzIDs(f *testing.F) {
	f.Add([]byte{0, 0, 7, 0, 0, 8, 1, 0, 0, 0, 0, 7})
	f.Fuzz(func(t *testing.T, ops []byte) { (&idsModel{t: t}).run(ops) })
}
