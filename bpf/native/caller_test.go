//go:build cgo

package native

// The program's caller: what the hooks do around the state machine, with a
// check of each step against what the model decided.

import (
	"bytes"
	"sort"
)

// mapAck is how much may be acknowledged to the peer, if the local socket acknowledged k
// (wire offset).
func (m *model) mapAck(kack uint32) uint32 {
	w := kack - m.loc.irs + m.gone
	for i := range m.takes {
		t := &m.takes[i]
		if w < t.a {
			break
		}
		if !t.done {
			return t.a
		}
		w += t.b - t.a
	}
	return w
}

// toPeer checks and sends a segment on the wire.
func (m *model) toPeer(p packet) {
	m.packets++
	if p.flags&RST == 0 {
		off := p.ack - m.peer.iss
		if want := m.mapAck(m.kack); off != want {
			m.fail("to peer: ack %d, must be %d", off, want)
		}
		if most := m.mapAck(m.loc.rcvNxt); off > most {
			m.fail("to peer: ack %d above %d", off, most)
		}
		if before(p.ack, m.lastAck) {
			m.fail("to peer: ack went back by %d", m.lastAck-p.ack)
		}
		m.lastAck = p.ack
		for len(m.takes) > 0 && m.takes[0].done && m.takes[0].b <= off {
			m.gone += m.takes[0].b - m.takes[0].a
			m.takes = m.takes[1:]
		}
		edge := p.ack + uint32(p.wnd)<<m.loc.shift
		if before(edge, m.edge) {
			m.fail("to peer: right edge of the window moved left by %d", m.edge-edge)
		}
		m.edge = edge
	}
	if m.log != nil {
		m.log("  -> peer  seq %d ack %d len %d wnd %d flags %#x", p.seq-m.peer.irs, p.ack-m.peer.iss, len(p.data), p.wnd, p.flags)
	}
	if len(m.mp) < 64 {
		m.mp = append(m.mp, p)
	}
}

// toLocal checks and passes a segment on. Its front, which lies below the next
// byte, must be what is there, or have been acknowledged.
func (m *model) toLocal(s packet, p packet) {
	m.packets++
	off := int64(int32(p.seq - m.loc.irs))
	end := off + int64(len(p.data))
	fin := p.flags&FIN != 0
	if m.front > 0 && off != int64(len(m.kexp)-len(p.data)) {
		m.fail("to local: what follows the front is at %d of %d", off+int64(len(p.data)), len(m.kexp))
	}
	if len(p.data) > 0 || fin {
		if off < 0 {
			m.fail("to local: [%d,%d) of %d bytes", off, end, len(m.kexp))
		} else if !bytes.Equal(p.data, m.expected(uint32(off), uint32(end))) {
			m.fail("to local: wrong bytes in [%d,%d) of %d", off, end, len(m.kexp))
		}
		if fin && !m.finAt(uint32(end)) {
			m.fail("to local: FIN at %d of %d", end, len(m.kexp))
		}
		if m.kind == KindDevice && after(p.seq+uint32(len(p.data)), m.loc.adv) {
			m.fail("to local: %d bytes beyond the window", p.seq+uint32(len(p.data))-m.loc.adv)
		}
	} else if next := int64(len(m.kexp)) + int64(bit(m.kfin)) + int64(m.hole-m.rxNxt); off > next {
		m.fail("to local: at %d, next is %d", off, next)
	}
	if len(p.data) > 0 || fin {
		if !after(p.end(), m.kack) {
			m.fail("to local: nothing above the acknowledgement")
		}
	}
	if p.flags&RST == 0 {
		// everything acknowledged must have reached the peer
		k := int64(int32(p.ack - m.loc.iss))
		got := m.peer.rcvNxt - m.peer.irs
		switch {
		case k > int64(len(m.wireOf)):
			if !m.wfin || k != int64(len(m.wireOf))+1 || !m.peer.finRcvd {
				m.fail("to local: ack %d of %d", k, len(m.wireOf))
			}
		case k > 0 && m.wireOf[k-1] >= got:
			m.fail("to local: ack %d, wire %d, but the peer has %d", k, m.wireOf[k-1], got)
		}
		if s.ack == uint32(m.c.tx_una) {
			w := s.ack - m.peer.irs
			want := sort.Search(len(m.wireOf), func(i int) bool { return m.wireOf[i] >= w })
			if m.wfin && w == uint32(len(m.wexp))+1 {
				want++
			}
			if k != int64(want) {
				m.fail("to local: ack %d for %d, must be %d", k, w, want)
			}
		}
		if before(p.ack, m.passedAck) {
			m.fail("to local: ack went back by %d", m.passedAck-p.ack)
		}
		if before(s.ack, uint32(m.c.tx_una)) {
			if p.ack != m.passedAck || p.wnd != m.passedWnd {
				m.fail("to local: ack %d and window %d of an old segment", k, p.wnd)
			}
			m.stats.olds++
		} else if p.wnd > 0 {
			have := int64(int32(s.ack-m.peer.irs)) + int64(s.wnd)<<m.peer.shift
			used := k + int64(p.wnd)<<m.peer.shift + int64(m.insSum)
			if used > have {
				m.fail("to local: window reaches %d, the peer's %d", used, have)
			}
		}
		m.passedAck, m.passedWnd = p.ack, p.wnd
	}
	if m.log != nil {
		m.log("  -> local seq %d ack %d len %d wnd %d flags %#x", off, int32(p.ack-m.loc.iss), len(p.data), p.wnd, p.flags)
	}
	if len(m.ml) < 64 {
		m.ml = append(m.ml, p)
	}
}

// reply sends a bare ACK to the peer.
func (m *model) reply() {
	var s Stamp
	m.t.Stamp(&m.c, &s)
	m.toPeer(packet{seq: uint32(s.seq), ack: uint32(s.ack), wnd: uint16(s.wnd), flags: ACK})
}

// sendInsertion puts the insertion at wire position seq on the wire (again).
func (m *model) sendInsertion(seq, n uint32) {
	for i := len(m.ins) - 1; i >= 0; i-- {
		if in := &m.ins[i]; m.peer.irs+in.w == seq {
			if in.n != n {
				m.fail("insertion at %d has %d bytes, not %d", in.w, in.n, n)
			}
			var s Stamp
			m.t.Stamp(&m.c, &s)
			m.toPeer(packet{seq: seq, ack: uint32(s.ack), wnd: uint16(s.wnd), flags: ACK | PSH, data: in.data})
			return
		}
	}
	m.fail("no insertion at %d", seq-m.peer.irs)
}

// name: the server has read to a packet's end and says so.
func (m *model) name() {
	read := m.loc.rcvNxt - m.loc.irs - bit(m.loc.finRcvd) - m.loc.unread
	if n := uint32(len(m.kexp)); read > 0 {
		last := m.rxNxt + read - 1 - n
		if read <= n {
			last = m.kwire[read-1]
		}
		if !world.boundary[last+1] {
			return
		}
	}
	ok := m.t.Boundary(&m.c, m.loc.irs+read)
	m.follow(read)
	if !ok {
		m.ledgers()
		return
	}
	m.stats.named++
	if m.hole != m.rxNxt || !world.boundary[m.rxNxt] {
		m.fail("boundary named at %d, what was passed ends at %d", m.rxNxt, m.hole)
	}
	m.c.flags &^= FlagLost
	m.ledgers()
}

// sweep sends again what the peer has not acknowledged.
func (m *model) sweep() {
	for i := range int(m.c.tx.count) {
		g := &m.c.tx.ring[(int(m.c.tx.head)+i)%Ring]
		m.sendInsertion(uint32(g.seq), uint32(g.len))
	}
	if m.c.tx.count == 0 && m.mapAck(m.kack) != m.lastAck-m.peer.iss {
		m.reply()
	}
}

// ledgers compares the program's ledger with the model's.
func (m *model) ledgers() {
	if got := uint32(m.c.rx_nxt) - m.peer.iss; got != m.rxNxt {
		m.fail("ledger: next byte %d, must be %d", got, m.rxNxt)
	}
	if got := uint32(m.c.rx_hole) - m.peer.iss; got != m.hole {
		m.fail("ledger: passed up to %d, must be %d", got, m.hole)
	}
	want := uint32(len(m.wexp))
	if m.wfin {
		want++
	}
	if got := uint32(m.c.tx_nxt) - m.peer.irs; got != want {
		m.fail("ledger: sent %d, must be %d", got, want)
	}
	if seen := m.c.flags&FlagFinSeen != 0; seen != m.kfin {
		m.fail("ledger: FIN seen %v, must be %v", seen, m.kfin)
	}
	open := 0
	for i := range m.takes {
		if !m.takes[i].done {
			open++
		}
	}
	if open > m.ring || int(m.c.rx.open) != open {
		m.fail("ledger: %d messages open, must be %d, of at most %d", m.c.rx.open, open, m.ring)
	}
	if m.c.rx.count > Ring || m.c.tx.count > Ring {
		m.fail("ledger: %d and %d grafts", m.c.rx.count, m.c.tx.count)
	}
}
