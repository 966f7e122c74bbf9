//go:build cgo

package native

// A small TCP endpoint: enough of RFC 9293 to be an honest peer or a local
// socket, without timers (the model decides when it acts).

type packet struct {
	seq, ack uint32
	wnd      uint16
	flags    byte
	data     []byte
}

func (p *packet) end() uint32 {
	e := p.seq + uint32(len(p.data))
	if p.flags&FIN != 0 {
		e++
	}
	return e
}

func before(a, b uint32) bool { return int32(a-b) < 0 }

func after(a, b uint32) bool { return int32(a-b) > 0 }

type endpoint struct {
	name     string
	iss, irs uint32 // first sequence number sent, received
	out      []byte // what the application could send
	limit    uint32 // bytes of out that it gave to the socket
	closed   bool   // a FIN follows out[:limit]

	una, nxt, edge, wl1, wl2 uint32
	shift, peerShift         uint8

	rcvNxt, adv uint32
	finRcvd     bool
	ooo         []packet
	buf, unread uint32
	ackDue      bool
	dead        bool
	heard       bool   // an acceptable segment came since this was cleared
	queue       int    // segments that the out-of-order queue holds
	widest      uint32 // largest window of the peer
	strict      bool   // drops what ends beyond its window, as Linux does from 6.17 on, and what acknowledges less than it ever sent, as from 6.7 on

	accept func(off uint32, data []byte, fin bool) // checks what is delivered
	fail   func(format string, args ...any)
}

func (e *endpoint) start(iss, irs uint32, peerWnd uint16, buf uint32) {
	e.iss, e.irs = iss, irs
	e.una, e.nxt = iss, iss
	e.wl1, e.wl2 = irs, iss
	e.widest = uint32(peerWnd) << e.peerShift
	e.edge = iss + e.widest
	e.rcvNxt = irs
	e.buf = buf
	e.adv = irs
	e.queue = 16
	e.window()
}

// window offers what is free; the right edge never moves left.
func (e *endpoint) window() uint16 {
	var free uint32
	if e.unread < e.buf {
		free = e.buf - e.unread
	}
	raw := free >> e.shift
	if raw > 0xffff {
		raw = 0xffff
	}
	if edge := e.rcvNxt + raw<<e.shift; before(edge, e.adv) {
		raw = (e.adv - e.rcvNxt + 1<<e.shift - 1) >> e.shift
	}
	if edge := e.rcvNxt + raw<<e.shift; after(edge, e.adv) {
		e.adv = edge
	}
	return uint16(raw)
}

func (e *endpoint) segment(seq uint32, data []byte, flags byte) packet {
	e.ackDue = false
	return packet{seq: seq, ack: e.rcvNxt, wnd: e.window(), flags: flags | ACK, data: data}
}

func (e *endpoint) bare() packet { return e.segment(e.nxt, nil, 0) }

func (e *endpoint) probe() packet { return e.segment(e.una-1, nil, 0) }

func (e *endpoint) finSent() bool { return e.closed && e.nxt == e.iss+e.limit+1 }

// sendNew sends up to n bytes that were never sent, as the window allows.
func (e *endpoint) sendNew(n uint32) (packet, bool) {
	if e.dead || e.finSent() {
		return packet{}, false
	}
	var avail uint32
	if after(e.edge, e.nxt) {
		avail = e.edge - e.nxt
	}
	off := e.nxt - e.iss
	top := uint32(len(e.out))
	if e.closed {
		top = e.limit
	}
	n = min(n, top-off, avail)
	if !e.closed {
		e.limit = max(e.limit, off+n)
	}
	var flags byte
	if e.closed && off+n == e.limit {
		flags = FIN
	}
	if n == 0 && flags == 0 {
		return packet{}, false
	}
	p := e.segment(e.nxt, e.out[off:off+n], flags|PSH)
	e.nxt = p.end()
	return p, true
}

// resend repeats up to n bytes from seq on, which lies in [una, nxt).
func (e *endpoint) resend(seq, n uint32) (packet, bool) {
	if e.dead || !before(seq, e.nxt) {
		return packet{}, false
	}
	off := seq - e.iss
	n = min(n, e.limit-off, e.nxt-seq)
	var flags byte
	if off+n == e.limit && e.finSent() {
		flags = FIN
	}
	if n == 0 && flags == 0 {
		return packet{}, false
	}
	return e.segment(seq, e.out[off:off+n], flags|PSH), true
}

func (e *endpoint) close(extra uint32) {
	if !e.closed {
		e.closed = true
		e.limit = min(uint32(len(e.out)), e.nxt-e.iss+extra)
	}
}

func (e *endpoint) read(n uint32) { e.unread -= min(n, e.unread) }

// receive processes a segment and reports whether it must be answered at once.
func (e *endpoint) receive(p packet) bool {
	if e.dead {
		return false
	}
	if p.flags&RST != 0 {
		if p.seq == e.rcvNxt {
			e.dead = true
			return false
		}
		return !before(p.seq, e.rcvNxt) && before(p.seq, e.adv)
	}
	if p.flags&SYN != 0 {
		return true
	}
	end := p.end()
	if end == p.seq {
		if before(p.seq, e.rcvNxt) || after(p.seq, e.adv) {
			return true
		}
	} else if !after(end, e.rcvNxt) {
		return true
	}
	if after(p.ack, e.nxt) {
		e.fail("%s: acknowledges %d bytes that were never sent", e.name, p.ack-e.nxt)
		return true
	}
	if e.strict && (after(p.seq+uint32(len(p.data)), e.adv) || before(p.ack, e.una-min(e.una-e.iss, e.widest))) {
		return true
	}
	e.heard = true
	fresh := !before(p.ack, e.una)
	if after(p.ack, e.una) {
		e.una = p.ack
	}
	if fresh && (before(e.wl1, p.seq) || e.wl1 == p.seq && !after(e.wl2, p.ack)) {
		e.edge = p.ack + uint32(p.wnd)<<e.peerShift
		e.wl1, e.wl2 = p.seq, p.ack
		e.widest = max(e.widest, uint32(p.wnd)<<e.peerShift)
	}
	if end == p.seq {
		return false
	}
	if after(p.seq, e.rcvNxt) {
		if before(p.seq, e.adv) && len(e.ooo) < e.queue {
			e.ooo = append(e.ooo, p)
		}
		return true
	}
	reply := !e.deliver(p)
	for again := true; again; {
		again = false
		for i := 0; i < len(e.ooo); i++ {
			q := e.ooo[i]
			if after(q.seq, e.rcvNxt) {
				continue
			}
			e.ooo = append(e.ooo[:i], e.ooo[i+1:]...)
			i--
			if after(q.end(), e.rcvNxt) {
				e.deliver(q)
				again = true
			}
		}
	}
	e.ackDue = true
	return reply || len(e.ooo) > 0
}

// deliver takes what is in order and in the window.
func (e *endpoint) deliver(p packet) bool {
	data, flags := p.data[min(uint32(len(p.data)), e.rcvNxt-p.seq):], p.flags
	if room := e.adv - e.rcvNxt; uint32(len(data)) > room {
		data, flags = data[:room], flags&^FIN
	}
	fin := flags&FIN != 0
	if len(data) == 0 && !fin {
		return false
	}
	if e.finRcvd {
		e.fail("%s: data behind the FIN", e.name)
		return false
	}
	e.accept(e.rcvNxt-e.irs, data, fin)
	e.rcvNxt += uint32(len(data))
	e.unread += uint32(len(data))
	if fin {
		e.rcvNxt++
		e.finRcvd = true
	}
	return true
}
