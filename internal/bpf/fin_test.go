package bpf

import (
	"fmt"
	"testing"
)

// TestMessagesBeforeFIN: of a segment with FIN the messages are taken that something follows, and that passes with the FIN: the socket
// sees the end of the stream behind all that it gets of it. It comes again, the FIN does not count twice.
func TestMessagesBeforeFIN(t *testing.T) {
	a, b := string(publish("sensors/a/temp", 1, 7, "a")), string(publish("sensors/a/temp", 0, 0, "b"))
	const bye = "\xe0\x00"
	for _, c := range []struct {
		rest  string // of a packet before
		sent  string
		taken int
		left  string
	}{
		{"", a + bye, 1, bye},
		{"", a + b + bye, 2, bye},
		{"", a + b, 1, b},
		{"", a, 0, a},
		{"", bye, 0, bye},
		{"rest", a + bye, 1, bye},
		{"rest", a, 0, a},
		{"", a + b[:9], 1, b[:9]}, // cut off: nothing will bring what is missing
	} {
		for _, behind := range []bool{false, true} {
			for _, ipv6 := range []bool{false, true} {
				t.Run(fmt.Sprintf("rest=%q/taken=%d/left=%d/behind=%v/ipv6=%v", c.rest, c.taken, len(c.left), behind, ipv6), func(t *testing.T) {
					r := newRig(t, ipv6)
					r.device(func(d *EproxyDevice) { d.Framing.Left = uint32(len(c.rest)) })
					r.pod(func(p *EproxyPod) { p.Proven, p.Depth = 8, 8 })
					if behind { // the socket
						r.change(rigDevice, func(c *EproxyConn) { c.RxKack, c.RxAcked = devISS-5, devISS-5 })
					}
					s := r.fromDevice(devISS, "FA", []byte(c.rest+c.sent))
					ret, out := r.run(r.objs.TcDeviceIn, s)
					tcp := checkSegment(t, out)
					whole := len(c.rest) + len(c.sent)
					if ret != tcOK || !tcp.FIN || len(tcp.Payload) < len(c.left) || string(tcp.Payload[len(tcp.Payload)-len(c.left):]) != c.left {
						t.Fatalf("verdict %d, FIN %v, passed %q: %v", ret, tcp.FIN, tcp.Payload, r.allReasons())
					}
					if n := r.reason(EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_TAKEN); int(n) != c.taken {
						t.Errorf("%d taken: %v", n, r.allReasons())
					}
					grafted := 0
					k := r.readConn(rigDevice)
					for i := range k.Rx.Count {
						grafted += int(k.Rx.Ring[i].Len)
					}
					if end := int(int32(tcp.Seq-devISS)) + len(tcp.Payload) + grafted; end != whole {
						t.Errorf("the FIN is at %d, %d of %d bytes were removed", end-grafted, grafted, whole)
					}
					if k.RxNxt != devISS+uint32(whole)+1 || k.Flags&uint32(EproxyConnFlagCONN_FIN_SEEN) == 0 {
						t.Errorf("ledger: next %d, flags %#x", k.RxNxt-devISS, k.Flags)
					}
					r.run(r.objs.TcDeviceIn, s)
					if again := r.readConn(rigDevice); again.RxNxt != k.RxNxt || again.Rx.Count != k.Rx.Count {
						t.Errorf("again: next %d, %d grafts", again.RxNxt-devISS, again.Rx.Count)
					}
				})
			}
		}
	}
}

// TestCutMessageBeforeFIN: the rest of a message whose beginning was kept comes in the segment with FIN: it is taken, DISCONNECT
// and the FIN pass.
func TestCutMessageBeforeFIN(t *testing.T) {
	const k, bye = 25, "\xe0\x00"
	cut := publish("sensors/a/temp", 1, 9, "a message that is cut somewhere")
	for _, ipv6 := range []bool{false, true} {
		r, at := keptRig(t, ipv6, "A", cut, k)
		ret, out := r.run(r.objs.TcDeviceIn, r.fromDevice(at+k, "FPA", append(cut[k:len(cut):len(cut)], bye...)))
		tcp := checkSegment(t, out)
		end := at + uint32(len(cut)+len(bye))
		if ret != tcOK || !tcp.FIN || tcp.Seq+uint32(len(tcp.Payload)) != devISS+uint32(len(bye)) || string(tcp.Payload[len(tcp.Payload)-len(bye):]) != bye {
			t.Errorf("ipv6 %t: verdict %d, FIN %v, passed %q: %v", ipv6, ret, tcp.FIN, tcp.Payload, r.allReasons())
		}
		if c := r.readConn(rigDevice); c.RxNxt != end+1 || len(r.bodies()) != 2 {
			t.Errorf("ipv6 %t: next %d of %d, in flight %q", ipv6, c.RxNxt-at, end+1-at, r.bodies())
		}
	}
}
