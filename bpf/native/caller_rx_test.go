//go:build cgo

package native

// eligible is the hooks' decision to take a segment's payload.
func (m *model) eligible(p *packet) bool {
	off := p.seq - m.peer.iss
	n := uint32(len(p.data))
	return n > 0 && off+n <= streamLen && m.t.Next(&m.c, p.seq) && off >= m.raw &&
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
	if p.flags&(RST|SYN|FIN) == 0 && wantTake && m.eligible(&p) && world.boundary[p.seq-m.peer.iss+uint32(len(p.data))] {
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
