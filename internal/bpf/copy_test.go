package bpf

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cilium/ebpf/ringbuf"
)

// copying makes the rig's route one with also_broker; the server has read all that its device has sent.
func (r *rig) copying() {
	r.put(r.objs.Routes, uint32(0), &EproxyRoute{Flags: uint32(EproxyRouteFlagROUTE_COPY)})
	r.change(rigDevice, func(c *EproxyConn) { c.Flags |= uint32(EproxyConnFlagCONN_CLEAR); c.RxClear = devISS })
}

// copies reads the ring of copies, until the test ends.
func (r *rig) copies() *ringbuf.Reader {
	reader, err := ringbuf.NewReader(r.objs.Copies)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = reader.Close() })
	return reader
}

// TestCopyIsThePacket: of what is taken on an also_broker route the ring has the PUBLISH as it came, whatever its length, and whose it is; also when its topic is
// remembered.
func TestCopyIsThePacket(t *testing.T) {
	for hook, name := range map[EproxyHook]string{EproxyHookHOOK_XDP_DEVICE: "xdp", EproxyHookHOOK_TC_DEVICE_IN: "tc"} {
		for _, size := range []int{0, 221, 222, 1000} { // 240 bytes have room in a short record
			t.Run(name, func(t *testing.T) {
				r := newRig(t, false)
				r.copying()
				copies := r.copies()
				prog := r.objs.XdpDevice
				if name == "tc" {
					prog = r.objs.TcDeviceIn
				}
				pub := publish("sensors/a/temp", 0, 0, strings.Repeat("x", size))
				for range 2 {
					seq := r.readConn(rigDevice).RxNxt
					r.run(prog, r.fromDevice(seq, "PA", pub))
					if n := r.reason(hook, EproxyReasonREASON_COPIED); n == 0 {
						t.Fatalf("not copied: %v", r.allReasons())
					}
					rec, err := copies.Read()
					if err != nil {
						t.Fatal(err)
					}
					b := rec.RawSample
					conn, n := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[8:])
					if conn != rigDevice || string(b[16:16+n]) != string(pub) || (len(b) == 256) != (len(pub) <= 240) {
						t.Fatalf("record of %d bytes for connection %d: %q, want %q", len(b), conn, b[16:16+n], pub)
					}
					m := r.slot().Messages[0]
					r.run(r.objs.TcPodIn, r.fromPod(r.readConn(rigSlot).RxNxt, m.RequestSeq+m.RequestLen, "PA", []byte(okResponse)))
				}
			})
		}
	}
}
