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
		if p.wnd > 0 {
			have := int64(int32(s.ack-m.peer.irs)) + int64(s.wnd)<<m.peer.shift
			used := k + int64(p.wnd)<<m.peer.shift + int64(m.insSum)
			if used > have {
				m.fail("to local: window reaches %d, the peer's %d", used, have)
			}
		}
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

// eligible is the hooks' decision to take a segment's payload.
func (m *model) eligible(p *packet) bool {
	off := p.seq - m.peer.iss
	n := uint32(len(p.data))
	return n > 0 && off+n <= streamLen && p.flags&FIN == 0 && m.t.Next(&m.c, p.seq) && off >= m.raw &&
		m.c.state == ConnOpen && m.c.flags&(FlagLost|FlagBroken|FlagFinSeen) == 0 &&
		world.boundary[off] && (m.burst || world.boundary[off+n]) && !m.t.RxFull(&m.c, m.ring)
}

func (m *model) rx(p packet, wantTake bool) {
	s := Segment{seq: u32(p.seq), ack: u32(p.ack), len: u32(len(p.data)), wnd: u16(p.wnd), flags: u8(p.flags)}
	if wantTake && m.c.rx_hole != m.c.rx_nxt { // TC asks the socket
		m.t.Follow(&m.c, m.loc.rcvNxt)
		m.follow(m.loc.rcvNxt - m.loc.irs)
	}
	whole := p
	front := m.t.Front(&m.c, &s)
	restOK := m.t.CaughtUp(&m.c)
	if front > 0 {
		m.stats.fronts++
	}
	advance := func(n uint32) {
		front += n
		p.seq += n
		p.data = p.data[n:]
		s.seq += u32(n)
		s.len -= u32(n)
	}
	if n := front; n > 0 {
		front = 0
		advance(n)
	}
	// never sent, or acknowledged longer ago than a window (RFC 5961 section 5.2)
	forged := after(p.ack, uint32(m.c.tx_nxt)) || before(p.ack, uint32(m.c.tx_una-m.c.tx_max_wnd))
	for p.flags&(RST|SYN) == 0 && wantTake && m.burst && restOK && !forged && m.eligible(&p) {
		n := m.nextMessage(p.seq - m.peer.iss)
		if n >= uint32(len(p.data)) {
			break
		}
		one := s
		one.len, one.remove = u32(n), 1
		m.take(&one, p.seq-m.peer.iss)
		m.stats.bursts++
		advance(n)
		if m.err != nil {
			return
		}
	}
	if m.kind == KindSlot && !wantTake && len(p.data)&3 == 0 { // some response is half removed
		s.in_order = 1
	}
	if p.flags&(RST|SYN) == 0 && wantTake && m.eligible(&p) && world.boundary[p.seq-m.peer.iss+uint32(len(p.data))] {
		s.remove = 1
	}
	off := p.seq - m.peer.iss
	floor := m.mapAck(m.kack)
	insertions := m.c.tx.count
	if p.flags == ACK && len(p.data) == 0 && wantTake { // XDP asks this first
		var v RxVerdict
		if m.t.Absorb(&m.c, &s, &v, m.now) {
			m.stats.actions[RxAbsorb]++
			m.ledgers()
			return
		}
	}
	var v RxVerdict
	act := m.t.Rx(&m.c, &s, &v, m.now)
	m.stats.actions[act]++
	if m.log != nil {
		m.log("  program: seq %d len %d flags %#x remove %d: action %d len %d", off, len(p.data), p.flags, s.remove, act, v.len)
	}
	// The byte that was acknowledged to the peer as next passes too, where the local socket stands there.
	if p.flags&RST != 0 && (act == RxPass) != (off == m.rxNxt || off == m.hole) && !(act == RxPass && off == floor) {
		m.fail("RST at %d, next is %d: action %d", off, m.rxNxt, act)
	}
	if forged && p.flags&SYN == 0 && act != RxDrop && act != RxChallenge {
		m.fail("acknowledges what was never sent: action %d", act)
		return
	}
	switch act {
	case RxPass:
		q := packet{seq: uint32(v.seq), ack: uint32(v.ack), wnd: uint16(v.wnd), flags: p.flags, data: p.data}
		if uint32(v.len) > uint32(len(p.data)) {
			m.fail("pass of %d bytes, there are %d", v.len, len(p.data))
			return
		}
		if uint32(v.len) < uint32(len(p.data)) {
			q.data = p.data[:v.len]
			q.flags &^= FIN | PSH
		}
		defer func() { m.front = 0 }()
		m.front = front
		if q.flags&RST != 0 {
			m.reset = true
		}
		end := off + uint32(len(q.data)) + bit(q.flags&FIN != 0)
		switch {
		case q.flags&RST != 0 || end == off:
		case int32(off-m.rxNxt) > 0:
			m.hole = max(m.hole, end)
			m.stats.holes++
			if s.in_order != 0 {
				m.fail("bytes at %d passed behind a response that is half removed, next is %d", off, m.rxNxt)
			}
		case off == m.rxNxt:
			m.extend(end - off)
		case q.flags&FIN != 0 && end == m.rxNxt+1 && !m.kfin:
			m.extend(1)
		}
		queued := len(m.ml)
		m.toLocal(p, q)
		if front > 0 && len(m.ml) > queued {
			l := &m.ml[queued]
			l.seq -= front
			l.data = append(append([]byte(nil), whole.data[:front]...), l.data...)
		}
	case RxRemove:
		if s.remove == 0 {
			m.fail("took what was not offered")
			return
		}
		m.took(off, uint32(len(p.data)))
	case RxReinject:
		for i := range m.takes {
			if t := &m.takes[i]; t.id == uint32(v.graft.who) {
				if t.done || off < t.a || off >= t.b {
					m.fail("injection of [%d,%d), done %v, by %d", t.a, t.b, t.done, off)
				}
				t.injected = true
				return
			}
		}
		m.fail("injection of an unknown message")
	case RxResend:
		m.sendInsertion(uint32(v.graft.seq), uint32(v.graft.len))
	case RxAck, RxChallenge:
		if act == RxAck && !m.timed && s.in_order == 0 && int32(off-m.rxNxt) > 0 && !after(m.place(off)+uint32(len(p.data)), m.kedge) {
			m.fail("segment at %d not passed, next is %d", off, m.rxNxt)
		}
		if len(p.data) > 0 && m.kind == KindDevice && p.flags&RST == 0 && act == RxAck && m.c.tx.count > 0 && insertions > 0 &&
			off < floor && p.end()-m.peer.iss <= floor {
			m.fail("lost insertion not sent again")
		}
		m.reply()
	case RxAbsorb:
		if p.end() != p.seq || p.flags&(RST|SYN) != 0 {
			m.fail("absorbed payload")
		}
	case RxDrop, RxPassRaw:
		m.syn = m.syn || act == RxPassRaw
		if len(p.data) > 0 && p.flags&(RST|SYN) == 0 && !forged {
			m.fail("payload: action %d", act)
		}
	}
	m.ledgers()
}

// place is where the byte at the wire offset off, at or behind the next one, lies in the socket's
// sequence space.
func (m *model) place(off uint32) uint32 {
	return m.loc.irs + uint32(len(m.kexp)) + bit(m.kfin) + off - m.rxNxt
}

// take offers one message of a segment with several; off is its wire offset.
func (m *model) take(s *Segment, off uint32) {
	var v RxVerdict
	act := m.t.Rx(&m.c, s, &v, m.now)
	m.stats.actions[act]++
	if m.log != nil {
		m.log("  program: seq %d len %d of a burst: action %d", off, s.len, act)
	}
	if act != RxRemove {
		m.fail("message of a burst not taken: action %d", act)
		return
	}
	m.took(off, uint32(s.len))
	m.ledgers()
}

// took notes a message that the program removed.
func (m *model) took(off, n uint32) {
	m.ids++
	t := take{a: off, b: off + n, id: m.ids}
	if m.kind == KindSlot {
		t.done = true
		m.t.Taken(&m.c, t.id, GraftDone)
	} else {
		m.t.Taken(&m.c, t.id, GraftOpen)
	}
	if m.hole != m.rxNxt {
		m.fail("took [%d,%d), but what ends at %d has been passed", t.a, t.b, m.hole)
	}
	m.rxNxt, m.hole = t.b, t.b
	m.takes = append(m.takes, t)
}

func (m *model) tx(p packet) {
	s := Segment{seq: u32(p.seq), ack: u32(p.ack), len: u32(len(p.data)), wnd: u16(p.wnd), flags: u8(p.flags)}
	var v TxVerdict
	m.t.Tx(&m.c, &s, p.data, &v, m.now)
	if m.log != nil {
		m.log("  program: local seq %d ack %d len %d flags %#x: wire %d len %d", p.seq-m.loc.iss, p.ack-m.loc.irs, len(p.data), p.flags,
			uint32(v.seq)-m.peer.irs, v.len)
	}
	if p.flags&RST == 0 && after(p.ack, m.kack) {
		m.kack = p.ack
		if !m.follow(p.ack - m.loc.irs) {
			if uint32(v.reset) != FlagLost {
				m.fail("socket is ahead: flags %d", v.reset)
			}
			m.extend(p.ack - m.loc.irs - uint32(len(m.kexp)) - bit(m.kfin))
			v.reset = 0
			m.stats.lost++
		}
	}
	if p.flags&RST == 0 {
		m.kedge = m.kack + uint32(p.wnd)<<m.loc.shift
	}
	if v.reset != 0 {
		m.fail("flags %d without cause", v.reset)
	}
	q := packet{seq: uint32(v.seq), ack: uint32(v.ack), wnd: uint16(v.wnd), flags: p.flags, data: p.data}
	if uint32(v.len) > uint32(len(p.data)) {
		m.fail("to peer: %d bytes, there are %d", v.len, len(p.data))
		return
	}
	if trimmed(&v, &s) {
		q.data = p.data[:v.len]
		q.flags &^= FIN | PSH
		m.stats.cut++
	}
	w := q.seq - m.peer.irs
	if end := w + uint32(len(q.data)); q.flags&RST == 0 && len(q.data) > 0 && int32(end) > int32(len(m.wexp)) {
		skip := uint32(len(m.wexp)) - w
		if int32(skip) < 0 {
			m.fail("to peer: gap before %d, sent %d", w, len(m.wexp))
			return
		}
		if k := p.seq - m.loc.iss + skip; k != uint32(len(m.wireOf)) {
			m.fail("to peer: local byte %d, next is %d", k, len(m.wireOf))
		}
		for i := range q.data[skip:] {
			m.wireOf = append(m.wireOf, w+skip+uint32(i))
		}
		m.wexp = append(m.wexp, q.data[skip:]...)
	}
	if q.flags&(FIN|RST) == FIN {
		if q.end()-1-m.peer.irs == uint32(len(m.wexp)) && uint32(len(m.wireOf)) == m.loc.limit {
			m.wfin = true
		} else if !m.wfin || after(q.end(), m.peer.rcvNxt) {
			m.fail("to peer: FIN at %d of %d", q.end()-1-m.peer.irs, len(m.wexp))
		}
	}
	if q.flags&RST != 0 {
		m.reset = true
	}
	if v.hold != 0 {
		m.held(q)
		return
	}
	if len(q.data) == 0 && q.flags == ACK && q.ack == m.lastAck && m.hole != m.rxNxt && m.mapAck(m.kack) != m.natural() &&
		q.ack+uint32(q.wnd)<<m.loc.shift == m.edge && !m.syn && w == uint32(len(m.wexp))+bit(m.wfin) {
		m.fail("duplicate acknowledgement asks for an open message")
	}
	m.syn = false
	m.toPeer(q)
	m.ledgers()
}

// held checks an acknowledgement of the socket that the program does not send: the peer has had
// it, and no bytes are missing that it asks for.
func (m *model) held(p packet) {
	off := p.ack - m.peer.iss
	switch {
	case len(p.data) > 0 || p.flags != ACK || p.ack != m.lastAck || after(p.ack+uint32(p.wnd)<<m.loc.shift, m.edge):
		m.fail("held back: seq %d ack %d len %d flags %#x", p.seq-m.peer.irs, off, len(p.data), p.flags)
	case !m.timed && m.hole != m.rxNxt && off == m.natural():
		m.fail("duplicate acknowledgement of %d held back, [%d,%d) is missing", off, m.rxNxt, m.hole)
	}
	m.ledgers()
}

// natural is what the socket's acknowledgement is on the wire, were no message open.
func (m *model) natural() uint32 {
	w := m.kack - m.loc.irs + m.gone
	for _, t := range m.takes {
		if w < t.a {
			break
		}
		w += t.b - t.a
	}
	return w
}

// dups sends the duplicate acknowledgements that have waited for a message's end.
func (m *model) dups() {
	n := m.t.Dups(&m.c)
	if n > 0 && m.lastAck-m.peer.iss != m.mapAck(m.kack) { // the PUBACK is the server's to send
		m.reply()
	}
	for range n {
		m.stats.dups++
		if m.hole == m.rxNxt || m.mapAck(m.kack) != m.natural() {
			m.fail("duplicate acknowledgement without need")
		}
		m.reply()
	}
}

// insert puts n bytes into the stream towards the peer; sent in one of several ways.
func (m *model) insert(n uint32, how uint16) bool {
	if !m.t.CanInsert(&m.c, int(n)) {
		return false
	}
	if m.kind == KindDevice && !world.whole[len(m.wireOf)] {
		m.fail("insertion inside a packet, behind byte %d of the local socket", len(m.wireOf))
	}
	if after(uint32(m.c.tx_nxt)+n, m.peer.adv) {
		m.fail("insertion of %d bytes beyond the peer's window", n)
	}
	if m.wfin || m.c.flags&FlagRstSent != 0 {
		m.fail("insertion behind FIN or RST")
	}
	seq := m.t.Insert(&m.c, int(n), m.now)
	if seq != m.peer.irs+uint32(len(m.wexp)) {
		m.fail("insertion at %d, sent %d", seq-m.peer.irs, len(m.wexp))
	}
	if how%16 == 15 { // could not be sent after all
		if !m.t.Uninsert(&m.c, seq, int(n)) {
			m.fail("uninsert refused")
		}
		return false
	}
	from := int(m.ids*37+uint32(how)) % (streamLen - 4096)
	data := world.inserted[from : from+int(n)]
	m.ins = append(m.ins, insertion{w: uint32(len(m.wexp)), n: n, data: data})
	m.insSum += n
	m.stats.inserted++
	m.wexp = append(m.wexp, data...)
	m.sendInsertion(seq, n)
	m.ledgers()
	return true
}

// finish is the response of a function: the n-th open message is done.
func (m *model) finish(n int, how uint16) {
	var open []*take
	for i := range m.takes {
		if t := &m.takes[i]; !t.done {
			open = append(open, t)
		}
	}
	if len(open) == 0 {
		return
	}
	t := open[n%len(open)]
	if !t.injected { // the request reaches the pod now, the response may come next time
		t.injected = how&3 != 0
		return
	}
	if !m.t.Done(&m.c, t.id, m.peer.iss+t.a) {
		m.fail("message [%d,%d) unknown", t.a, t.b)
	}
	if m.t.Done(&m.c, t.id+1, m.peer.iss+t.a) || m.t.Done(&m.c, t.id, m.peer.iss+t.a+1) {
		m.fail("late response accepted")
	}
	t.done = true
	switch how % 4 {
	case 0: // acknowledged by the pod, answered later
		m.owed++
		m.reply()
	case 1:
		m.owed++
		return
	default:
		if !m.insert(4, how>>2) {
			m.owed++
		}
	}
	m.dups()
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
