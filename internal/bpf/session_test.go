package bpf

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
)

// control runs device_control for the rig's device.
func (r *rig) control(op EproxyDeviceOp, rights uint32) EproxyDeviceArgs {
	r.t.Helper()
	args := EproxyDeviceArgs{Conn: rigDevice, Gen: 1, Op: uint32(op), Rights: rights}
	if _, err := r.objs.DeviceControl.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args}); err != nil {
		r.t.Fatal(err)
	}
	return args
}

// TestNothingBehindTheEnd: behind a packet with which a session ends, by its
// first byte or because no valid message begins so, nothing is taken, in the
// same segment or in the next; all of it passes to the server.
func TestNothingBehindTheEnd(t *testing.T) {
	whole := string(publish("sensors/a/temp", 1, 7, "x"))
	ends := map[string]string{
		"DISCONNECT":              "\xe0\x00",
		"DISCONNECT with reason":  "\xe0\x01\x00",
		"second CONNECT":          "\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00",
		"AUTH":                    "\xf0\x00",
		"what only servers send":  "\x20\x02\x00\x00",
		"reserved type":           "\x00\x00",
		"PINGREQ with flags":      "\xc1\x00",
		"SUBSCRIBE without flags": "\x80\x06\x12\x34\x00\x01a\x00",
		"PUBREL without flags":    "\x60\x02\x00\x07",
		"QoS 3":                   "\x36\x06\x00\x01t\x00\x07x",
		"DUP with QoS 0":          "\x38\x04\x00\x01tx",
		"topic with a wildcard":   "\x30\x04\x00\x01#x",
		"packet identifier 0":     "\x32\x06\x00\x01t\x00\x00x",
		"topic beyond its packet": "\x30\x03\x00\x09t",
		"length of five bytes":    "\x30\xff\xff\xff\xff\x01",
		"only its first byte":     "\xe0",
	}
	for name, end := range ends {
		for _, front := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s/%d before", name, front), func(t *testing.T) {
				r := newRig(t, false)
				first := end
				if front > 0 {
					first = whole + end
				}
				seq := uint32(devISS)
				for _, payload := range []string{first + whole, whole} {
					if name == "only its first byte" && payload != whole {
						payload = first
					}
					r.run(r.objs.XdpDevice, r.fromDevice(seq, "PA", []byte(payload)))
					if ret, out := r.run(r.objs.TcDeviceIn, r.fromDevice(seq, "PA", []byte(payload))); ret == tcRedirect {
						t.Fatalf("left as %q", checkSegment(t, out).Payload)
					}
					seq += uint32(len(payload))
					if r.slot().Tail > 0 { // it is answered: the slot is free again
						m := r.slot().Messages[0]
						r.run(r.objs.TcPodIn, r.fromPod(podISS, m.RequestSeq+m.RequestLen, "PA", []byte(okResponse)))
					}
				}
				r.device(func(d *EproxyDevice) {
					if d.Taken != uint32(front) {
						t.Errorf("%d messages taken, want the %d in front: %v", d.Taken, front, r.allReasons())
					}
				})
				if c := r.readConn(rigDevice); c.Flags&uint32(EproxyConnFlagCONN_LOST) == 0 || c.RxNxt != seq {
					t.Errorf("flags %#x, next byte %d of %d", c.Flags, c.RxNxt, seq)
				}
			})
		}
	}
}

// TestSessionControl: what userspace changes counts from the next message on;
// another generation's entry is nobody's business.
func TestSessionControl(t *testing.T) {
	all := uint32(EproxyRightRIGHTS_ALL)
	grant := func(r *rig, rights uint32) {
		key := EproxyGrantKey{Conn: rigDevice, Gen: 1, Rights: rights, Len: uint32(len("sensors/a/temp"))}
		copy(key.Topic[:], "sensors/a/temp")
		r.put(r.objs.Grants, &key, uint32(1))
	}
	for name, c := range map[string]struct {
		do    func(r *rig)
		taken uint32
	}{
		"nothing changes":                    {func(r *rig) {}, 2},
		"stopped":                            {func(r *rig) { r.control(EproxyDeviceOpDEVICE_OP_STOP, 0) }, 1},
		"no rights":                          {func(r *rig) { r.control(EproxyDeviceOpDEVICE_OP_RIGHTS, 6) }, 1},
		"granted under the rights of before": {func(r *rig) { grant(r, 2); r.control(EproxyDeviceOpDEVICE_OP_RIGHTS, 8) }, 1},
		"granted under these rights":         {func(r *rig) { grant(r, 4); r.control(EproxyDeviceOpDEVICE_OP_RIGHTS, 4) }, 2},
		"all topics":                         {func(r *rig) { r.control(EproxyDeviceOpDEVICE_OP_RIGHTS, 4|all) }, 2},
		"stopped in the name of another life": {func(r *rig) {
			r.change(rigDevice, func(c *EproxyConn) { c.Gen = 2 })
			r.device(func(d *EproxyDevice) { d.Gen = 2 })
			r.control(EproxyDeviceOpDEVICE_OP_STOP, 0)
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			n, req := r.take(t)
			r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse)))
			c.do(r)
			r.run(r.objs.TcDeviceIn, r.fromDevice(devISS+n, "PA", publish("sensors/a/temp", 1, 8, "y")))
			r.device(func(d *EproxyDevice) {
				if d.Taken != c.taken {
					t.Errorf("%d messages taken, want %d: %v", d.Taken, c.taken, r.allReasons())
				}
			})
		})
	}
}
