//go:build cgo

package native

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
