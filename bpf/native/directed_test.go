//go:build cgo

package native

import "testing"

// opened is a connection without history: both directions at 1000.
func opened() *Conn {
	c := &Conn{gen: 1, state: ConnOpen, kind: KindDevice}
	c.rx_nxt, c.rx_kack, c.rx_acked, c.rx_edge = 1000, 1000, 1000, 2000
	c.tx_nxt, c.tx_una, c.tx_knxt, c.tx_kuna, c.tx_wnd = 1000, 1000, 1000, 1000, 1000
	c.tx_rawwnd, c.rx_rawwnd = 1000, 1000
	return c
}

// TestBypassed: a message that was on its way to the socket while the
// connection was armed, and that was taken as well because it came twice, must
// be noticed also when its graft is settled before the socket acknowledges it.
func TestBypassed(t *testing.T) {
	own := Own()
	for _, answered := range []bool{false, true} {
		c := opened()
		var v RxVerdict
		s := Segment{seq: 1000, ack: 1000, len: 50, wnd: 1000, flags: ACK, take: 1}
		if act := own.Rx(c, &s, &v, 1); act != RxTake {
			t.Fatalf("action %d", act)
		}
		own.Taken(c, 1, 1, GraftOpen)
		if answered {
			own.Done(c, 1, 1, 1000)
			var st Stamp
			own.Stamp(c, &st)
			if st.ack != 1050 || c.rx.count != 0 {
				t.Fatalf("ack %d, %d grafts", st.ack, c.rx.count)
			}
		}
		var x TxVerdict
		own.Tx(c, &Segment{seq: 1000, ack: 1050, wnd: 950, flags: ACK}, &x, 2)
		if x.reset != FlagBroken {
			t.Errorf("answered %v: flags %d", answered, x.reset)
		}
	}
}
