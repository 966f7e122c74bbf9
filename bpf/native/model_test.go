//go:build cgo

package native

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// The world: a peer, a hostile network, the program under test, a short queue
// that may drop, and the local socket.
//
//	peer --pm--> program --ml--> local
//	peer <--mp-- program <--lm-- local

const streamLen = 24 << 10

// Fixed contents of both streams and of insertions, and where the messages of
// the peer's stream and the MQTT packets of the local one begin.
var world = func() (w struct {
	peer, local, inserted []byte
	boundary, whole       []bool
}) {
	r := rand.New(rand.NewPCG(1, 2))
	fill := func() []byte {
		b := make([]byte, streamLen)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	w.peer, w.local, w.inserted = fill(), fill(), fill()
	w.boundary = make([]bool, streamLen+1)
	for i := 0; i <= streamLen; {
		w.boundary[i] = true
		if r.IntN(3) == 0 {
			i += 4 + r.IntN(500)
		} else {
			i += 4 + r.IntN(60)
		}
	}
	w.whole = make([]bool, streamLen+1)
	for i := 0; i < streamLen; {
		body := min(r.IntN([]int{3, 60, 500, 3000}[r.IntN(4)]), streamLen-i-3)
		if streamLen-i < 200 {
			body = streamLen&1 ^ i&1 // small ones fill the rest exactly
		}
		w.whole[i] = true
		i += 1 + binary.PutUvarint(w.local[i+1:], uint64(body)) + body // the same coding as MQTT's
	}
	w.whole[streamLen] = true
	return w
}()

type take struct {
	a, b     uint32 // wire offsets
	id       uint32
	done     bool
	injected bool
}

type insertion struct {
	w, n uint32 // wire offset, length
	data []byte
}

type model struct {
	t    *Table
	c    Conn
	kind uint32
	mild bool   // the network loses and reorders little
	rnd  uint32 // losses while things come to an end
	now  uint32
	ring int // most grafts open at once
	peer endpoint
	loc  endpoint
	pm   []packet
	mp   []packet
	ml   []packet
	lm   []packet
	old  []packet // what the network may repeat
	log  func(format string, args ...any)
	err  error

	// what each end must see, decided step by step
	rxNxt     uint32 // wire offset of the peer's stream decided so far, FIN included
	kexp      []byte // what the local socket must see
	kfin      bool
	hole      uint32   // end of what was passed, FIN included; above rxNxt while bytes are missing
	kwire     []uint32 // wire offset of each byte of kexp
	wexp      []byte   // what the peer must see
	wireOf    []uint32 // wire offset of each byte of the local socket
	wfin      bool
	raw       uint32 // bytes that were on their way to the socket while it was armed, and that nobody knows of
	takes     []take // not yet acknowledged to the peer
	gone      uint32 // bytes of takes that were acknowledged
	ids       uint32
	ins       []insertion
	insSum    uint32
	owed      int  // responses to be inserted
	timed     bool // what costs only time shows in the round trips
	syn       bool // a SYN was passed: the socket's response to it must leave
	kack      uint32
	passedAck uint32 // what the socket was passed last
	passedWnd uint16
	kedge     uint32 // right edge of the socket's window, as far as the program knows
	lastAck   uint32
	edge      uint32
	stats     *stats
	burst     bool   // TC: messages of one segment are taken one by one
	front     uint32 // bytes of the segment being passed that lie below the next byte
	reset     bool   // an RST passed: nothing need come to an end
	packets   int
}

func (m *model) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
		if m.log != nil {
			m.log("FAIL: %v", m.err)
		}
	}
}

// head is the number of configuration bytes before the events.
const head = 8

// stats shows that a run exercised what it claims to.
type stats struct {
	events, actions             [32]int // by operation, by action
	inserted, cut, fins, resets int
	fronts, bursts              int
	bytesLocal, bytesPeer       int
	scenarios, drained, lost    int
	holes, follows, named, dups int
	olds                        int
}

func newModel(t *Table, conf []byte, log func(string, ...any), st *stats) *model {
	if st == nil {
		st = new(stats)
	}
	m := &model{t: t, log: log, stats: st, kind: KindDevice}
	if conf[0]%3 == 0 {
		m.kind = KindSlot
	}
	m.mild = conf[0]/3%4 != 0
	m.burst = conf[2]&0x80 != 0
	m.rnd = uint32(conf[0])<<24 | uint32(conf[1])<<16 | uint32(conf[6])<<8 | uint32(conf[7])
	starts := [...]uint32{0, 1000, 0x7fffff00, 0x80000000, 0xffffff00, 0xfffffff0, 0xffffe000, 0xffffffff}
	iss, irs := starts[conf[1]%8], starts[conf[1]/8%8]
	m.now = starts[conf[2]%8]
	m.ring = 1 + int(conf[3]%Ring)
	if conf[3]&0x10 != 0 {
		m.ring = Ring
	}
	p, l := &m.peer, &m.loc
	p.name, l.name = "peer", "local"
	p.shift, l.shift = conf[4]%9, conf[4]/16%9
	p.peerShift, l.peerShift = l.shift, p.shift
	p.out, l.out = world.peer, world.local
	p.fail, l.fail = m.fail, m.fail
	l.strict = true
	buf := func(b byte) uint32 { return []uint32{300, 2000, 8000, 60000}[b%4] }
	pbuf, lbuf := buf(conf[5]), buf(conf[5]/4)
	raw := func(b uint32, shift uint8) uint16 { return uint16(b >> shift) }
	p.start(iss, irs, raw(lbuf, l.shift), pbuf)
	// what was removed and inserted before, as on a connection past 4 GiB
	removed, insertedBefore := starts[conf[7]%8], starts[conf[7]/8%8]
	if conf[6]%8 == 0 { // freshly armed
		removed, insertedBefore = 0, 0
	}
	l.start(irs-insertedBefore, iss-removed, raw(pbuf, p.shift), lbuf)
	p.accept, l.accept = m.peerGot, m.localGot

	c := &m.c
	c.gen, c.state, c.kind = 1, ConnOpen, u8(m.kind)
	c.rx.base, c.tx.base = u32(removed), u32(insertedBefore)
	c.rx_nxt, c.rx_hole, c.rx_kack, c.rx_acked, c.rx_edge = u32(iss), u32(iss), u32(l.irs), u32(iss), u32(l.adv+removed)
	c.tx_nxt, c.tx_una, c.tx_knxt, c.tx_kuna = u32(irs), u32(irs), u32(l.iss), u32(l.iss)
	c.tx_framed = u32(l.iss)
	c.tx_wnd = u32(l.edge - l.iss)
	c.tx_max_wnd = c.tx_wnd
	c.tx_rawwnd, c.rx_rawwnd = u16(raw(pbuf, p.shift)), u16(raw(lbuf, l.shift))
	c.tx_wscale, c.rx_wscale = u8(p.shift), u8(l.shift)
	c.challenge_ms = u32(m.now - 10000)
	m.passedAck, m.passedWnd = l.iss, uint16(c.tx_rawwnd)
	m.kack, m.kedge, m.lastAck, m.edge = l.irs, l.adv, iss, l.adv+removed

	if conf[6]%8 == 0 {
		m.arm(conf)
	}
	return m
}

// arm lets segments come before the program knows where the stream stands: the
// first is on its way to the socket, whether ingress has noted it or not, or lost;
// the second, if there is one, is in the socket's out-of-order queue.
func (m *model) arm(conf []byte) {
	p, l, c := &m.peer, &m.loc, &m.c
	first, ok := p.sendNew(uint32(conf[7]) + 1)
	if !ok {
		return
	}
	noted := m.kind == KindDevice && conf[2]&0x40 != 0
	lost := noted && conf[2]&0x20 != 0
	switch {
	case !noted:
		m.raw = uint32(len(first.data))
	case !lost:
		c.flags |= FlagPassed
		c.rx_hole = u32(first.end())
	}
	if !lost {
		m.ml = append(m.ml, first)
	}
	queued := l.rcvNxt
	if noted && conf[2]&0x10 != 0 {
		if q, ok := p.sendNew(uint32(conf[1]) + 1); ok {
			l.receive(q)
			queued = q.end()
		}
	}
	m.t.Seed(c, l.rcvNxt, queued)
	c.flags &^= FlagPassed
	m.hole = max(uint32(c.rx_hole), queued) - p.iss
	if noted && !lost {
		m.hole = max(m.hole, first.end()-p.iss)
	}
}

// expected is what the socket must see at [off,end) of its stream, also of what lies beyond a
// hole; nil, if nothing can be there.
func (m *model) expected(off, end uint32) []byte {
	n := uint32(len(m.kexp))
	b := append([]byte(nil), m.kexp[min(off, n):min(end, n)]...)
	for k := max(off, n); k < end; k++ {
		w := m.rxNxt + k - n
		if w >= max(m.hole, m.raw) || w >= streamLen {
			return nil
		}
		b = append(b, world.peer[w])
	}
	return b
}

// finAt says whether the peer's FIN is at this offset of the socket's stream, as far as it was passed.
func (m *model) finAt(off uint32) bool {
	n := uint32(len(m.kexp))
	if m.kfin {
		return off == n
	}
	w := m.rxNxt + off - n
	return m.peer.finSent() && w == m.peer.limit && w < m.hole
}

// follow: the socket has everything below this offset of its stream. It says whether what was
// passed accounts for that.
func (m *model) follow(have uint32) bool {
	known := uint32(len(m.kexp)) + bit(m.kfin)
	if int32(have-known) <= 0 {
		return true
	}
	more := have - known
	if more > m.hole-m.rxNxt {
		return false
	}
	m.stats.follows++
	if m.c.flags&FlagLost == 0 {
		m.fail("boundary known behind a hole that nobody has looked into")
	}
	m.extend(more)
	return true
}

// extend: so many bytes more, FIN included, are decided to be the socket's.
func (m *model) extend(n uint32) {
	for range n {
		if m.peer.finSent() && m.rxNxt == m.peer.limit {
			m.kfin = true
		} else {
			m.kexp = append(m.kexp, world.peer[m.rxNxt])
			m.kwire = append(m.kwire, m.rxNxt)
		}
		m.rxNxt++
	}
	m.hole = max(m.hole, m.rxNxt)
}

func (m *model) peerGot(off uint32, data []byte, fin bool) {
	end := off + uint32(len(data))
	if end > uint32(len(m.wexp)) || !bytes.Equal(data, m.wexp[off:end]) {
		m.fail("peer got wrong bytes in [%d,%d) of %d", off, end, len(m.wexp))
	}
	if fin && (!m.wfin || end != uint32(len(m.wexp))) {
		m.fail("peer got FIN at %d of %d", end, len(m.wexp))
	}
}

func (m *model) localGot(off uint32, data []byte, fin bool) {
	end := off + uint32(len(data))
	if !bytes.Equal(data, m.expected(off, end)) {
		m.fail("local got wrong bytes in [%d,%d) of %d", off, end, len(m.kexp))
	}
	if fin && !m.finAt(end) {
		m.fail("local got FIN at %d of %d", end, len(m.kexp))
	}
}
