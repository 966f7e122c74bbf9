//go:build cgo

package native

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
