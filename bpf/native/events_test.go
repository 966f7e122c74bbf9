//go:build cgo

package native

import (
	"fmt"
	"strings"
)

// An event is four bytes: what happens, and two parameters whose meaning
// depends on the state at that moment. So any subsequence of events is a
// scenario too, which is what makes shrinking possible.
type event struct {
	op op
	x  byte
	y  uint16
}

type op byte

const (
	opPeerSend op = iota
	opPeerResend
	opPeerAck
	opPeerProbe
	opPeerRead
	opPeerClose
	opPeerReset
	opLocalSend
	opLocalResend
	opLocalAck
	opLocalProbe
	opLocalRead
	opLocalClose
	opLocalReset
	opDeliverPM
	opDeliverMP
	opDeliverML
	opDeliverLM
	opDropPM
	opDropMP
	opDropML
	opDupPM
	opDupMP
	opOld
	opBlind
	opFinish
	opInsert
	opSweep
	opClock
	opResync
	opCount
)

var opNames = [opCount]string{"peer-send", "peer-resend", "peer-ack", "peer-probe", "peer-read", "peer-close", "peer-reset",
	"local-send", "local-resend", "local-ack", "local-probe", "local-read", "local-close", "local-reset",
	"deliver-pm", "deliver-mp", "deliver-ml", "deliver-lm", "drop-pm", "drop-mp", "drop-ml", "dup-pm", "dup-mp",
	"old", "blind", "finish", "insert", "sweep", "clock", "resync"}

// opTable turns a byte into an operation; how often each occurs is its weight.
var opTable = func() (t [256]op) {
	weight := [opCount]int{opPeerSend: 27, opPeerResend: 12, opPeerAck: 8, opPeerProbe: 2, opPeerRead: 5, opPeerClose: 1, opPeerReset: 1,
		opLocalSend: 14, opLocalResend: 7, opLocalAck: 8, opLocalProbe: 2, opLocalRead: 5, opLocalClose: 1, opLocalReset: 1,
		opDeliverPM: 38, opDeliverMP: 34, opDeliverML: 24, opDeliverLM: 18, opDropPM: 4, opDropMP: 4, opDropML: 2, opDupPM: 3, opDupMP: 2,
		opOld: 3, opBlind: 1, opFinish: 14, opInsert: 3, opSweep: 2, opClock: 2, opResync: 8}
	i := 0
	for o, n := range weight {
		for ; n > 0; n-- {
			t[i] = op(o)
			i++
		}
	}
	for ; i < 256; i++ {
		t[i] = opDeliverPM
	}
	return t
}()

func decode(b []byte) event {
	return event{op: opTable[b[0]], x: b[1], y: uint16(b[2])<<8 | uint16(b[3])}
}

func (e event) String() string { return fmt.Sprintf("%-12s %3d %5d", opNames[e.op], e.x, e.y) }

func (m *model) pick(q *[]packet, x byte, remove bool) (packet, bool) {
	if len(*q) == 0 {
		return packet{}, false
	}
	i := 0
	if x >= 250 || x >= 176 && !m.mild { // reordering
		i = int(x) % len(*q)
	}
	p := (*q)[i]
	if remove {
		*q = append((*q)[:i], (*q)[i+1:]...)
	}
	return p, true
}

func (m *model) fromPeer(p packet, ok bool) {
	if !ok || len(m.pm) >= 64 {
		return
	}
	m.pm = append(m.pm, p)
	if len(m.old) < 32 {
		m.old = append(m.old, p)
	} else {
		m.old[m.packets%32] = p
	}
}

// fromLocal: nothing is lost between the local socket and the program.
func (m *model) fromLocal(p packet, ok bool) {
	if ok {
		m.lm = append(m.lm, p)
	}
}

func (m *model) deliverMP(x byte) {
	if p, ok := m.pick(&m.mp, x, true); ok && m.peer.receive(p) {
		m.fromPeer(m.peer.bare(), true)
	}
}

func (m *model) deliverML() {
	if p, ok := m.pick(&m.ml, 0, true); ok && m.loc.receive(p) {
		m.fromLocal(m.loc.bare(), true)
	}
}

// resendSpan is a piece of what an end sent and was not acknowledged, mostly
// from its first byte on, cut in some other way than it was sent.
func resendSpan(e *endpoint, x byte, y uint16) (packet, bool) {
	if !before(e.una, e.nxt) {
		return packet{}, false
	}
	from := e.una
	if x >= 128 {
		from += uint32(y) % (e.nxt - e.una)
	}
	return e.resend(from, 1+uint32(y)%[]uint32{20, 200, 1400, 3000}[x%4])
}

func (m *model) step(e event) {
	p, l := &m.peer, &m.loc
	if m.mild && e.y%4 != 0 {
		switch e.op {
		case opDropPM:
			e.op = opDeliverPM
		case opDropMP:
			e.op = opDeliverMP
		case opDropML:
			e.op = opDeliverML
		case opLocalResend, opPeerResend:
			if e.y%8 != 1 {
				e.op = opDeliverPM
			}
		case opLocalSend:
			e.op = opDeliverLM
		}
	}
	switch e.op {
	case opPeerSend:
		n := m.nextMessage(p.nxt - p.iss)
		switch e.x % 8 {
		case 5:
			for range e.y % 4 {
				n += m.nextMessage(p.nxt - p.iss + n)
			}
		case 6:
			n = 1 + uint32(e.y)%1400
		case 7:
			n = 1 + uint32(e.y)%100
		}
		m.fromPeer(p.sendNew(n))
	case opPeerResend:
		m.fromPeer(resendSpan(p, e.x, e.y))
	case opPeerAck:
		if !p.dead && (p.ackDue || e.x < 20) {
			m.fromPeer(p.bare(), true)
		}
	case opPeerProbe:
		if p.dead {
			break
		}
		q := p.probe()
		if e.x%4 == 0 { // old stacks: with a byte that was acknowledged long ago
			q.data = []byte{0xee}
		}
		if p.una != p.iss {
			m.fromPeer(q, true)
		}
	case opPeerRead:
		p.read(uint32(e.y) % 4000)
		if e.x < 40 && !p.dead {
			m.fromPeer(p.bare(), true)
		}
	case opPeerClose:
		if e.y%16 == 0 {
			p.close(uint32(e.x))
		}
	case opPeerReset:
		if e.y%64 == 0 && !p.dead {
			p.dead = true
			m.fromPeer(packet{seq: p.nxt, ack: p.rcvNxt, flags: RST | ACK}, true)
			m.reset = true
		}
	case opLocalSend:
		n := 1 + uint32(e.y)%[]uint32{8, 100, 1400, 4000}[e.x%4]
		if e.x&4 != 0 {
			n = restOfPacket(l.nxt - l.iss + n - 1)
			n -= l.nxt - l.iss
		}
		m.fromLocal(l.sendNew(n))
	case opLocalResend:
		m.fromLocal(resendSpan(l, e.x, e.y))
	case opLocalAck:
		if !l.dead && (l.ackDue || e.x < 20) {
			m.fromLocal(l.bare(), true)
		}
	case opLocalProbe:
		if !l.dead && l.una != l.iss {
			m.fromLocal(l.probe(), true)
		}
	case opLocalRead:
		l.read(uint32(e.y) % 4000)
		if e.x < 40 && !l.dead {
			m.fromLocal(l.bare(), true)
		}
	case opLocalClose:
		if e.y%16 == 0 {
			l.close(uint32(e.x))
		}
	case opLocalReset:
		if e.y%64 == 0 && !l.dead {
			l.dead = true
			m.fromLocal(packet{seq: l.nxt, ack: l.rcvNxt, flags: RST | ACK}, true)
			m.reset = true
		}
	case opDeliverPM:
		if q, ok := m.pick(&m.pm, e.x, true); ok {
			m.rx(q, e.y&3 != 0)
		}
	case opDeliverMP:
		if e.y%8 == 0 && len(m.mp) > 0 && len(m.mp[0].data) > 1 { // the network cuts it
			q := m.mp[0]
			n := 1 + int(e.y/8)%(len(q.data)-1)
			m.mp[0].seq += uint32(n)
			m.mp[0].data = q.data[n:]
			q.data, q.flags = q.data[:n], q.flags&^(FIN|PSH)
			if p.receive(q) || e.y&64 != 0 && !p.dead {
				m.fromPeer(p.bare(), true)
			}
			break
		}
		m.deliverMP(e.x)
	case opDeliverML:
		m.deliverML()
	case opDeliverLM:
		if q, ok := m.pick(&m.lm, 0, true); ok {
			m.tx(q)
		}
	case opDropPM:
		m.pick(&m.pm, e.x, true)
	case opDropMP:
		m.pick(&m.mp, e.x, true)
	case opDropML:
		m.pick(&m.ml, 0, true)
	case opDupPM:
		if q, ok := m.pick(&m.pm, e.x, false); ok {
			m.rx(q, e.y&3 != 0)
		}
	case opDupMP:
		if q, ok := m.pick(&m.mp, e.x, false); ok && p.receive(q) {
			m.fromPeer(p.bare(), true)
		}
	case opOld:
		if len(m.old) > 0 {
			m.rx(m.old[int(e.x)%len(m.old)], e.y&3 != 0)
		}
	case opBlind:
		// someone who guesses: never the exact number
		seq := uint32(m.c.rx_acked) - 50 + uint32(e.y)%400
		flags := byte(RST)
		if e.x%4 == 0 {
			flags = SYN
		}
		switch {
		case e.x%4 == 2 && !m.kfin: // who knows all but the window
			beyond := m.loc.adv - m.place(m.rxNxt) + 1 + uint32(e.y)
			m.rx(packet{seq: uint32(m.c.rx_nxt) + beyond, ack: uint32(m.c.tx_una), wnd: uint16(m.c.tx_wnd >> m.c.tx_wscale), flags: ACK, data: world.inserted[:e.x]}, false)
		case e.x%4 == 1:
			m.rx(packet{seq: uint32(m.c.rx_nxt), ack: uint32(m.c.tx_nxt) + 1 + uint32(e.y), flags: ACK, data: world.inserted[:e.x]}, true)
		case seq != uint32(m.c.rx_nxt) && seq != uint32(m.c.rx_hole):
			m.rx(packet{seq: seq, ack: uint32(m.c.tx_nxt), flags: flags | ACK}, false)
		}
	case opFinish:
		m.finish(int(e.x), e.y)
	case opInsert:
		n := uint32(4)
		if m.kind == KindSlot {
			n = 1 + uint32(e.y)%2560
		} else if m.owed == 0 {
			break
		}
		if m.insert(n, uint16(e.x)) && m.kind == KindDevice {
			m.owed--
		}
	case opSweep:
		m.sweep()
	case opClock:
		m.now += uint32(e.y) % 1500
	case opResync:
		m.name()
		m.t.Compact(&m.c)
	}
}

// restOfPacket is the end of the local socket's packet that has its last byte
// at or behind this offset; the offset itself, if it lies between two.
func restOfPacket(off uint32) uint32 {
	for off < streamLen && !world.whole[off] {
		off++
	}
	return min(off, streamLen)
}

// nextMessage is the number of bytes from off to the next message.
func (m *model) nextMessage(off uint32) uint32 {
	n := uint32(1)
	for off+n < streamLen && !world.boundary[off+n] {
		n++
	}
	return n
}

// settle lets the ends and the network be fair and demands that everything
// comes to an end.
func (m *model) settle(conf byte) {
	p, l := &m.peer, &m.loc
	if conf&1 != 0 {
		p.close(0)
	}
	if conf&2 != 0 {
		l.close(0)
	}
	if m.log != nil {
		m.log("fair from here on")
	}
	last, still := "", 0
	for round := 0; m.err == nil && !m.reset; round++ {
		m.c.flags &^= FlagLost
		m.now += 600
		if round > 15 {
			m.rnd = 0
		}
		p.unread, l.unread = 0, 0
		for len(m.takes) > 0 {
			n := -1
			for i := range m.takes {
				if !m.takes[i].done && m.takes[i].injected {
					n = i
				}
			}
			if n < 0 {
				break
			}
			i := 0
			for _, t := range m.takes[:n] {
				if !t.done {
					i++
				}
			}
			m.finish(i, 3)
		}
		for m.owed > 0 {
			if m.c.flags&(FlagFinSent|FlagRstSent) != 0 {
				m.owed = 0 // nobody is there to ask
			} else if !m.insert(4, 0) {
				if at := l.nxt - l.iss; !l.closed && restOfPacket(at) > at { // the server writes its packet to the end
					q, ok := l.sendNew(restOfPacket(at) - at)
					if !ok {
						q, ok = l.probe(), true
					}
					m.fromLocal(q, ok)
				}
				break
			} else {
				m.owed--
			}
		}
		// timers of both ends, then every packet there is
		before := m.packets
		for range 20 {
			q, ok := p.sendNew(1400)
			m.fromPeer(q, ok && p.closed && !p.dead)
		}
		for range 20 {
			if !l.closed {
				break
			}
			m.fromLocal(l.sendNew(1400))
		}
		m.fromPeer(p.resend(p.una, 1400))
		m.fromLocal(l.resend(l.una, 1400))
		if p.closed && !p.finSent() {
			m.fromPeer(p.probe(), true)
		}
		if l.closed && !l.finSent() {
			m.fromLocal(l.probe(), true)
		}
		m.fromPeer(p.bare(), true)
		m.fromLocal(l.bare(), true)
		m.flush()
		m.sweep()
		m.flush()
		if n := m.packets - before; n > 3000 {
			m.fail("storm: %d packets in one round", n)
		}
		state := fmt.Sprint(p.una, p.nxt, p.rcvNxt, l.una, l.nxt, l.rcvNxt, len(m.takes), m.owed, m.c.rx.count, m.c.tx.count, p.edge, l.edge)
		drained := p.una == p.nxt && l.una == l.nxt && len(m.takes) == 0 && m.owed == 0 && m.c.rx.count == 0 && m.c.tx.count == 0 &&
			(!p.closed || p.finSent()) && (!l.closed || l.finSent())
		if drained {
			m.stats.drained++
			break
		}
		if state != last || m.rnd != 0 {
			last, still = state, 0
			continue
		}
		if still++; still > 8 {
			m.fail("stalled: peer una %d nxt %d fin %v, has %d of %d; local una %d nxt %d fin %v, has %d of %d; takes %d owed %d rx %d tx %d; framed %d of %d, %+v",
				p.una-p.iss, p.nxt-p.iss, p.finSent(), p.rcvNxt-p.irs, len(m.wexp),
				l.una-l.iss, l.nxt-l.iss, l.finSent(), l.rcvNxt-l.irs, len(m.kexp), len(m.takes), m.owed, m.c.rx.count, m.c.tx.count,
				uint32(m.c.tx_framed)-l.iss, uint32(m.c.tx_knxt)-l.iss, m.c.tx_framing)
		}
	}
	if m.err != nil || m.reset {
		return
	}
	if got := p.rcvNxt - p.irs; p.finRcvd != m.wfin || got != uint32(len(m.wexp))+bit(m.wfin) {
		m.fail("peer has %d of %d, FIN %v of %v", got, len(m.wexp), p.finRcvd, m.wfin)
	}
	if got := l.rcvNxt - l.irs; l.finRcvd != m.kfin || got != uint32(len(m.kexp))+bit(m.kfin) {
		m.fail("local has %d of %d, FIN %v of %v", got, len(m.kexp), l.finRcvd, m.kfin)
	}
	m.rnd = 0
	// keepalive works both ways, also on a connection that was wholly grafted
	m.now += 15000
	p.heard = false
	if p.nxt != p.iss {
		m.fromPeer(p.probe(), true)
		m.flush()
		if !p.heard {
			m.fail("peer's keepalive probe unanswered")
		}
	}
	l.heard = false
	m.fromLocal(l.probe(), true)
	m.flush()
	if !l.heard {
		m.fail("local keepalive probe unanswered")
	}
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// lose says whether the next packet is lost although all are fair; after some
// rounds none is.
func (m *model) lose() bool {
	if m.rnd == 0 {
		return false
	}
	m.rnd = m.rnd*1664525 + 1013904223
	return m.rnd>>24 < 40
}

// flush delivers everything, in order.
func (m *model) flush() {
	for n := 0; m.err == nil && len(m.pm)+len(m.mp)+len(m.ml)+len(m.lm) > 0; n++ {
		if n > 4000 {
			m.fail("storm: packets answer each other without end")
			return
		}
		if q, ok := m.pick(&m.pm, 0, true); ok && !m.lose() {
			m.rx(q, n&1 == 0)
		}
		if q, ok := m.pick(&m.lm, 0, true); ok {
			m.tx(q)
		}
		if m.lose() {
			m.pick(&m.mp, 0, true)
		}
		m.deliverMP(0)
		if m.lose() {
			m.pick(&m.ml, 0, true)
		}
		m.deliverML()
		if m.peer.ackDue && len(m.pm) == 0 {
			m.fromPeer(m.peer.bare(), true)
		}
		if m.loc.ackDue && len(m.lm) == 0 {
			m.fromLocal(m.loc.bare(), true)
		}
	}
}

// run plays a scenario: head bytes of configuration, then events.
func run(t *Table, scenario []byte, log func(string, ...any), st *stats) (events int, err error) {
	if len(scenario) < head {
		return 0, nil
	}
	m := newModel(t, scenario, log, st)
	b := scenario[head:]
	for ; len(b) >= 4 && m.err == nil; b = b[4:] {
		e := decode(b)
		if log != nil {
			log("%v", e)
		}
		m.step(e)
		m.stats.events[e.op]++
		events++
	}
	if m.err == nil {
		m.settle(scenario[6] >> 4)
	}
	m.stats.scenarios++
	m.stats.fins += int(bit(m.wfin) + bit(m.kfin))
	m.stats.resets += int(bit(m.reset))
	m.stats.bytesLocal += len(m.kexp)
	m.stats.bytesPeer += len(m.wexp)
	return events, m.err
}

// shrink drops events as long as the scenario still fails.
func shrink(t *Table, scenario []byte) []byte {
	return shrinkWhile(scenario, func(s []byte) bool {
		_, err := run(t, s, nil, nil)
		return err != nil
	})
}

// shrinkWhile drops what follows the head, four bytes or more at a time.
func shrinkWhile(scenario []byte, fails func([]byte) bool) []byte {
	for size := (len(scenario) - head) / 4 / 2 * 4; size >= 4; {
		smaller := false
		for at := head; at+size <= len(scenario); {
			s := append(append([]byte(nil), scenario[:at]...), scenario[at+size:]...)
			if fails(s) {
				scenario, smaller = s, true
			} else {
				at += size
			}
		}
		if !smaller || size > 4 && len(scenario)-head < 2*size {
			size = size / 8 * 4
		}
	}
	return scenario
}

// explain replays a scenario and returns its course.
func explain(t *Table, scenario []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "scenario %x\n", scenario)
	_, _ = run(t, scenario, func(f string, a ...any) { fmt.Fprintf(&b, f+"\n", a...) }, nil)
	return b.String()
}
