package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
)

// TestLinkAddressesChange: what is built for a connection bears the addresses that userspace
// gives it, while it is of that generation and open; a frame that comes in changes
// nothing.
func TestLinkAddressesChange(t *testing.T) {
	r := newRig(t, false)
	dst, src := [6]byte{2, 0, 0, 0, 7, 7}, [6]byte{2, 0, 0, 0, 8, 8}
	set := func(gen uint32) uint32 {
		args := EproxyLinkArgs{Conn: rigDevice, Gen: gen, DstMac: dst, SrcMac: src}
		if _, err := r.objs.LinkControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
			t.Fatal(err)
		}
		return args.Ok
	}
	probe := func() (to, from [6]byte) {
		r.change(rigDevice, func(c *EproxyConn) { c.ChallengeMs = 0 })
		_, out := r.run(r.objs.TcDeviceIn, r.fromDevice(devISS-1, "PA", []byte("x")))
		return [6]byte(out), [6]byte(out[6:])
	}
	before := r.readConn(rigDevice)
	if to, from := probe(); to != before.DstMac || from != before.SrcMac {
		t.Errorf("answer from %x to %x", from, to)
	}
	if set(2) != 0 {
		t.Error("another generation's addresses changed")
	}
	r.change(rigDevice, func(c *EproxyConn) { c.State = uint16(EproxyConnStateCONN_ARMED) })
	if set(1) != 0 {
		t.Error("addresses of a connection that is not seeded changed")
	}
	r.change(rigDevice, func(c *EproxyConn) { c.State = uint16(EproxyConnStateCONN_OPEN) })
	if to, _ := probe(); to != before.DstMac {
		t.Errorf("answer to %x", to)
	}
	if set(1) != 1 {
		t.Error("refused")
	}
	if to, from := probe(); to != dst || from != src {
		t.Errorf("answer from %x to %x", from, to)
	}
}
