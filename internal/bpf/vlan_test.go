package bpf

import (
	"bytes"
	"testing"

	"github.com/google/gopacket/layers"
)

// TestTaggedFrames: frames with tags. XDP takes messages behind one tag. The kernel
// moves an outer tag out of the frame before TC sees it, so that TC meets one in
// the frame only behind another: it takes nothing there, and what passes is
// translated. Two tags in the frame are nobody's business here. (BPF_PROG_RUN
// refuses a struct __sk_buff with a tag beside the frame.)
func TestTaggedFrames(t *testing.T) {
	q, ad := layers.EthernetTypeDot1Q, layers.EthernetTypeQinQ
	udp := func(f []byte) { f[14+4+9] = 17 }
	for _, c := range []struct {
		name   string
		tags   []tag
		change func(frame []byte)
		known  bool // as a segment of the connection
	}{
		{name: "802.1Q", tags: []tag{{q, 5}}, known: true},
		{name: "priority tag", tags: priorityTag, known: true},
		{name: "802.1ad", tags: []tag{{ad, 5}}, known: true},
		{name: "802.1Q in 802.1ad", tags: []tag{{ad, 5}, {q, 6}}},
		{name: "802.1Q in 802.1Q", tags: []tag{{q, 5}, {q, 6}}},
		{name: "UDP in 802.1Q", tags: []tag{{q, 5}}, change: udp},
		{name: "ARP in 802.1Q", tags: []tag{{q, 5}}, change: func(f []byte) { f[16], f[17] = 8, 6 }},
		{name: "cut behind the tag", tags: []tag{{q, 5}}, change: func(f []byte) { f[14+4+3]++ }}, // IP length beyond the frame
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, hook := range []string{"xdp", "tc"} {
				t.Run(hook, func(t *testing.T) { vlan(t, hook, c.tags, c.change, c.known) })
			}
		})
	}
}

func vlan(t *testing.T, hook string, tags []tag, change func([]byte), known bool) {
	r := newRig(t, false)
	n, req := r.take(t)
	r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
	s := r.fromDevice(devISS+n, "PA", publish("sensors/a/temp", 1, 8, "y"))
	s.ack = nodISS + 4
	s.tags = tags
	frame := s.frame(t)
	if change != nil {
		change(frame)
	}
	before := r.allReasons()
	if hook == "xdp" {
		ret, out := r.runFrame(r.objs.XdpDevice, frame, nil)
		if !known {
			untouched(t, r, ret == xdpPass, frame, out, before)
			return
		}
		if tcp := checkSegment(t, out); ret != xdpRedirect || string(tcp.Payload) != wantRequest(1, 2, "y") || out[12] != 8 || out[13] != 0 {
			t.Errorf("verdict %d, request %q", ret, tcp.Payload)
		}
		return
	}
	ret, out := r.runFrame(r.objs.TcDeviceIn, frame, nil)
	if !known {
		untouched(t, r, ret == tcOK, frame, out, before)
		return
	}
	tcp := checkSegment(t, out)
	if ret != tcOK || tcp.Seq != devISS || tcp.Ack != nodISS || !bytes.Equal(tcp.Payload, s.payload) || !bytes.Equal(out[:18], frame[:18]) {
		t.Errorf("verdict %d, seq %d ack %d, % x", ret, tcp.Seq, tcp.Ack, out)
	}
	r.expect(t, EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_TRANSLATED)
	if r.reason(EproxyHookHOOK_TC_DEVICE_IN, EproxyReasonREASON_TAKEN) != 0 {
		t.Error("taken")
	}
	// The device repeats it: the ledger knows it, and the response bears no tag, as the connection.
	c := r.readConn(rigDevice)
	if c.RxNxt != s.seq+uint32(len(s.payload)) {
		t.Errorf("the next byte is %d", c.RxNxt)
	}
	r.change(rigDevice, func(c *EproxyConn) { c.RxKack = devISS + uint32(len(s.payload)); c.RxAcked = c.RxNxt })
	ret, out = r.runFrame(r.objs.TcDeviceIn, frame, nil)
	if tcp := checkSegment(t, out); ret != tcRedirect || len(tcp.Payload) != 0 || tcp.Ack != c.RxNxt || out[12] != 8 || out[13] != 0 {
		t.Errorf("repeated: verdict %d, ack %d, % x", ret, tcp.Ack, out)
	}
}

// untouched: the packet passed as it was, and nothing was counted.
func untouched(t *testing.T, r *rig, passed bool, in, out []byte, before map[string]uint64) {
	t.Helper()
	after := r.allReasons()
	if !passed || !bytes.Equal(in, out) || len(after) != len(before) {
		t.Errorf("passed: %v; % x became % x; counters %v, before %v", passed, in, out, after, before)
	}
	for k, n := range after {
		if n != before[k] {
			t.Errorf("counted %s", k)
		}
	}
}
