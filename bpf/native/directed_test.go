//go:build cgo

package native

import (
	"strings"
	"testing"
)

// opened is a connection without history: both directions at 1000.
func opened() *Conn {
	c := &Conn{gen: 1, state: ConnOpen, kind: KindDevice}
	c.rx_nxt, c.rx_hole, c.rx_kack, c.rx_acked, c.rx_edge = 1000, 1000, 1000, 1000, 2000
	c.tx_nxt, c.tx_una, c.tx_knxt, c.tx_kuna, c.tx_wnd = 1000, 1000, 1000, 1000, 1000
	c.tx_framed, c.tx_rawwnd, c.rx_rawwnd = 1000, 1000, 1000
	return c
}

// TestTakenAndPassedIsNoticed: a message that was on its way to the socket while the
// connection was armed, and that was taken as well because it came twice, must
// be noticed also when its graft is settled before the socket acknowledges it.
func TestTakenAndPassedIsNoticed(t *testing.T) {
	own := Own()
	for _, answered := range []bool{false, true} {
		c := opened()
		var v RxVerdict
		s := Segment{seq: 1000, ack: 1000, len: 50, wnd: 1000, flags: ACK, remove: 1}
		if act := own.Rx(c, &s, &v, 1); act != RxRemove {
			t.Fatalf("action %d", act)
		}
		own.Taken(c, 1, GraftOpen)
		if answered {
			own.Done(c, 1, 1000)
			var st Stamp
			own.Stamp(c, &st)
			if st.ack != 1050 || c.rx.count != 0 {
				t.Fatalf("ack %d, %d grafts", st.ack, c.rx.count)
			}
		}
		var x TxVerdict
		own.Tx(c, &Segment{seq: 1000, ack: 1050, wnd: 950, flags: ACK}, nil, &x, 2)
		if x.reset != FlagBroken {
			t.Errorf("answered %v: flags %d", answered, x.reset)
		}
	}
}

// TestPubackOnlyBetweenPackets: a PUBACK is inserted between two MQTT packets of the local
// socket and nowhere else, however the socket cuts them.
func TestPubackOnlyBetweenPackets(t *testing.T) {
	own := Own()
	c := opened()
	stream := []byte("\x30\x05abcde\xd0\x00\x30\x81\x01" + strings.Repeat("x", 129) + "\xd0\x00")
	send := func(from, to uint32, cut bool) {
		t.Helper()
		var v TxVerdict
		own.Tx(c, &Segment{seq: u32(1000 + from), ack: 1000, len: u32(to - from), wnd: 1000, flags: ACK | PSH}, stream[from:to], &v, 1)
		if (v.cut != 0) != cut {
			t.Errorf("[%d,%d): cut %d", from, to, v.cut)
		}
	}
	between := func(want bool) {
		t.Helper()
		if own.CanInsert(c, 4) != want {
			t.Errorf("%d bytes sent: insertion possible: %v", c.tx_knxt-1000, !want)
		}
	}
	between(true)
	for _, p := range []struct {
		from, to uint32
		between  bool
	}{
		{0, 1, false}, {1, 2, false}, {2, 5, false}, {0, 5, false}, {5, 7, true}, // cut everywhere, and again
		{3, 8, false}, // repeated and new bytes in one
		{8, 9, true}, {9, 11, false}, {11, 12, false},
	} {
		send(p.from, p.to, false)
		between(p.between)
	}
	send(12, 141, false)
	between(true)
	own.Insert(c, 4, 1)
	between(true)
	send(130, 142, true) // the socket knows nothing of the insertion: the last byte is not sent
	between(false)
	send(141, 142, false)
	between(false)
	send(142, 143, false)
	between(true)

	c = opened()
	send(2, 7, false) // what lies in front was never seen
	between(false)
	send(7, 9, false)
	between(false)

	c = opened()
	stream = []byte("\x30\x80\x80\x80\x80\x01\x00\xd0\x00") // five bytes of length
	send(0, 9, false)
	between(false)
}

// TestQuotedPositions: what an ICMP error quotes is looked up among what was really
// sent and not acknowledged: the socket's own bytes at their place, an insertion
// at the place where it stands; also where the numbers wrap, and after a part,
// or half an insertion, was acknowledged.
func TestQuotedPositions(t *testing.T) {
	own := Own()
	for _, iss := range []uint32{1000, ^uint32(0) - 30} {
		c := opened()
		c.tx_nxt, c.tx_una, c.tx_knxt, c.tx_kuna, c.tx_framed = u32(iss), u32(iss), u32(iss), u32(iss), u32(iss)
		kernel := []uint32{} // of each byte on the wire
		knext := iss
		send := func(n int) {
			var v TxVerdict
			b := make([]byte, n) // a packet of n bytes
			b[0], b[1] = 0x30, byte(n-2)
			own.Tx(c, &Segment{seq: u32(knext), ack: 1000, len: u32(n), wnd: 1000, flags: ACK | PSH}, b, &v, 1)
			for range n {
				kernel = append(kernel, knext)
				knext++
			}
		}
		insert := func() {
			if !own.CanInsert(c, 4) {
				t.Fatal("no insertion")
			}
			own.Insert(c, 4, 1)
			for range 4 {
				kernel = append(kernel, knext)
			}
		}
		insert()
		send(10)
		insert()
		insert()
		send(20)
		send(5)
		insert()
		for _, una := range []int{0, 2, 4, 9, 16, 22, 40, len(kernel)} {
			var v RxVerdict
			own.Rx(c, &Segment{seq: 1000, ack: u32(iss + uint32(una)), wnd: 1000, flags: ACK}, &v, 2)
			if c.tx_una != u32(iss+uint32(una)) {
				t.Fatalf("acknowledged up to %d, want %d", uint32(c.tx_una)-iss, una)
			}
			for at := -200; at <= len(kernel)+200; at++ {
				got, flying := own.Quoted(c, iss+uint32(at))
				want := knext
				if at >= 0 && at < len(kernel) {
					want = kernel[at]
				}
				if inside := at >= una && at <= len(kernel); flying != inside || inside && got != want {
					t.Errorf("first byte %d, acknowledged %d: quoted %d is kernel position %d (in flight: %v), want %d (%v)", iss, una, at, got-iss, flying, want-iss, inside)
				}
			}
		}
	}
}

// TestGraftsOfManyBytes: neighbours that are done share a graft only while it can hold their length.
func TestGraftsOfManyBytes(t *testing.T) {
	const n, length = 40, 2000
	var c Conn
	l := &c.rx
	for i := range n {
		l.ring[i] = Graft{seq: u32(1000 + i*length), len: length, state: GraftDone}
	}
	l.ring[0].state, l.open, l.count = GraftOpen, 1, n
	Own().Compact(&c)
	end, open := uint32(1000), 0
	for i := range int(l.count) {
		g := &l.ring[i]
		if uint32(g.seq) != end {
			t.Errorf("graft %d begins at %d, the one before ends at %d", i, g.seq, end)
		}
		end += uint32(g.len)
		if g.state == GraftOpen {
			open++
		}
	}
	if end != 1000+n*length || open != 1 || l.count != 1+2 {
		t.Errorf("%d grafts, %d open, of %d bytes", l.count, open, end-1000)
	}
}
