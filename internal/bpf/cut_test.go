package bpf

import (
	"fmt"
	"strings"
	"testing"
)

// TestWholeMessageBetweenCutOnes: a segment begins with the rest of a packet that went to the
// socket, then comes a whole message, then the beginning of another. The whole
// one is taken, the others pass, each for itself: the end at once, the rest when
// the segment comes again, as a repetition.
func TestWholeMessageBetweenCutOnes(t *testing.T) {
	whole := publish("sensors/a/temp", 1, 7, "whole")
	long := string(publish("sensors/a/temp", 1, 9, strings.Repeat("x", 1300)))
	for _, ipv6 := range []bool{false, true} {
		for _, rest := range []string{"", "r", "rest", long[:700]} {
			for _, end := range []string{"", long[:1], long[:2], long[:77], long[:1200]} {
				t.Run(fmt.Sprintf("ipv6=%v/rest=%d/end=%d", ipv6, len(rest), len(end)), func(t *testing.T) {
					r := newRig(t, ipv6)
					r.device(func(d *EproxyDevice) { d.Framing.Left = uint32(len(rest)) })
					s := r.fromDevice(devISS, "PA", []byte(rest+string(whole)+end))
					r.change(rigDevice, func(c *EproxyConn) { c.RxKack, c.RxAcked = devISS-5, devISS-5 }) // the socket is behind
					ret, out := r.run(r.objs.TcDeviceIn, s)
					tcp := checkSegment(t, out)
					r.expect(t, EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_TAKEN)
					at := devISS + uint32(len(rest))
					switch {
					case end == "":
						if ret != tcRedirect || !strings.HasSuffix(string(tcp.Payload), "whole") {
							t.Errorf("verdict %d, request %q", ret, tcp.Payload)
						}
					case ret != tcOK || string(tcp.Payload) != end || tcp.Seq != at:
						t.Errorf("verdict %d, passed seq %d %.80q, want %d %.80q: %v", ret, tcp.Seq, tcp.Payload, at, end, r.allReasons())
					}
					c := r.readConn(rigDevice)
					if c.RxNxt != s.seq+uint32(len(s.payload)) || c.Rx.Count != 1 || c.Rx.Ring[0].Seq != at || c.Rx.Ring[0].Len != uint16(len(whole)) {
						t.Errorf("ledger: next %d, %d grafts, %+v", c.RxNxt, c.Rx.Count, c.Rx.Ring[0])
					}
					r.device(func(d *EproxyDevice) {
						if open := d.Framing.Left > 0 || d.Framing.Head > 0; open != (end != "") || d.Framing.Bad != 0 {
							t.Errorf("framing followed to %+v", d.Framing)
						}
					})
					if rest == "" {
						return
					}
					ret, out = r.run(r.objs.TcDeviceIn, s)
					if tcp := checkSegment(t, out); ret != tcOK || string(tcp.Payload) != rest || tcp.Seq != devISS {
						t.Errorf("again: verdict %d, passed seq %d %q, want %d %q", ret, tcp.Seq, tcp.Payload, uint32(devISS), rest)
					}
				})
			}
		}
	}
}

// TestCutFixedHeader: the rest of a packet may begin within its fixed header, and the
// packet behind it need not be a PUBLISH.
func TestCutFixedHeader(t *testing.T) {
	whole := publish("sensors/a/temp", 1, 7, "whole")
	for _, c := range []struct {
		framing EproxyFraming
		rest    string
		taken   bool
	}{
		{EproxyFraming{Head: 1}, "\x03abc", true},
		{EproxyFraming{Head: 1}, "\x00", true},
		{EproxyFraming{Head: 2, Length: 5}, "\x00abcde", true},
		{EproxyFraming{Head: 1}, "\x03abc\xc0\x00", false}, // PINGREQ first: all that follows it passes with it
		{EproxyFraming{Head: 1}, "\xff\xff\xff\xff", false},
		{EproxyFraming{Left: 1000}, "abc", false},
	} {
		r := newRig(t, false)
		r.device(func(d *EproxyDevice) { d.Framing = c.framing })
		ret, out := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS, "PA", append([]byte(c.rest), whole...)))
		if taken := ret == tcRedirect; taken != c.taken {
			t.Errorf("%q: verdict %d: %v", c.rest, ret, r.allReasons())
		} else if tcp := checkSegment(t, out); !taken && (string(tcp.Payload) != c.rest+string(whole) || tcp.Seq != devISS) {
			t.Errorf("%q: passed seq %d %q", c.rest, tcp.Seq, tcp.Payload)
		}
	}
}
