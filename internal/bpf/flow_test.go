package bpf

import "testing"

// TestHintIsChecked: a hint leads to a connection only if the connection's own entry
// has the packet's 4-tuple and is open; else the flows map decides.
func TestHintIsChecked(t *testing.T) {
	const other = rigDevice + 1 // conn index
	for _, ipv6 := range []bool{false, true} {
		for name, spoil := range map[string]func(r *rig, hint *uint64){
			"good":                 func(*rig, *uint64) {},
			"empty":                func(_ *rig, hint *uint64) { *hint = 0 },
			"of another hash":      func(_ *rig, hint *uint64) { *hint ^= 1 << 40 },
			"another's, live":      func(_ *rig, hint *uint64) { *hint = *hint>>32<<32 | rigSlot },
			"no entry":             func(_ *rig, hint *uint64) { *hint |= 0xffffffff },
			"freed, and used anew": func(r *rig, _ *uint64) { moveDevice(r, other, func(c *EproxyConn) { *c = EproxyConn{Gen: c.Gen + 1} }) },
			"closed": func(r *rig, _ *uint64) {
				moveDevice(r, other, func(c *EproxyConn) { c.State = uint16(EproxyConnStateCONN_CLOSED) })
			},
			"freed by its SYN-ACK": func(r *rig, _ *uint64) { moveDevice(r, other, func(c *EproxyConn) { c.State = 0 }) },
			"armed, not yet seeded": func(r *rig, _ *uint64) {
				moveDevice(r, other, func(c *EproxyConn) { c.State = uint16(EproxyConnStateCONN_ARMED) })
			},
			"same ports, other host": func(r *rig, _ *uint64) { moveDevice(r, other, func(c *EproxyConn) { c.Tuple.Remote[3]++ }) },
		} {
			t.Run(name, func(t *testing.T) {
				r := newRig(t, ipv6)
				r.eachHint(func(i uint32, _ uint64) { r.put(r.objs.Hints, i, uint64(0)) })
				first, second := publish("sensors/a/temp", 1, 1, "x"), publish("sensors/a/temp", 1, 2, "y")
				if ret, _ := r.run(r.objs.XdpDevice, r.fromDevice(devISS, "PA", first)); ret != xdpRedirect {
					t.Fatalf("not taken: %v", r.allReasons())
				}
				r.put(r.objs.Slots, uint32(rigSlot), &EproxySlot{State: uint32(EproxySlotStateSLOT_IDLE)})
				r.put(r.objs.Pods, uint32(0), &EproxyPod{Idle: 1, Room: 1, Up: 1, XdpOk: 1, Ipv6: b2u(ipv6), Ifindex: 1, Concurrency: 16})
				var at uint32
				hints := 0
				r.eachHint(func(i uint32, v uint64) {
					at, hints = i, hints+1
					spoil(r, &v)
					r.put(r.objs.Hints, i, v)
				})
				if hints != 1 {
					t.Fatalf("%d hints, want 1", hints)
				}
				if ret, _ := r.run(r.objs.XdpDevice, r.fromDevice(devISS+uint32(len(first)), "PA", second)); ret != xdpRedirect {
					t.Fatalf("not taken: %v", r.allReasons())
				}
				var index uint32
				tuple := r.deviceTuple()
				if err := r.objs.Flows.Lookup(&tuple, &index); err != nil {
					t.Fatal(err)
				}
				if want := devISS + uint32(len(first)+len(second)); r.readConn(index).RxNxt != want {
					t.Errorf("connection %d: next byte %d, want %d", index, r.readConn(index).RxNxt, want)
				}
				var v uint64
				if err := r.objs.Hints.Lookup(at, &v); err != nil || uint32(v) != index {
					t.Errorf("the hint says %d, flows %d: %v", uint32(v), index, err)
				}
			})
		}
	}
}

// eachHint calls f for all hints that are there.
func (r *rig) eachHint(f func(i uint32, v uint64)) {
	r.t.Helper()
	for i := range r.objs.Hints.MaxEntries() {
		var v uint64
		if err := r.objs.Hints.Lookup(i, &v); err != nil {
			r.t.Fatal(err)
		}
		if v != 0 {
			f(i, v)
		}
	}
}

// moveDevice gives the device's connection another entry, as a reconnect does,
// and leaves the old one as f says.
func moveDevice(r *rig, to uint32, f func(old *EproxyConn)) {
	c := r.readConn(rigDevice)
	var d EproxyDevice
	if err := r.objs.Devices.Lookup(uint32(rigDevice-rigSlots), &d); err != nil {
		r.t.Fatal(err)
	}
	r.put(r.objs.Devices, to-rigSlots, &d)
	r.put(r.objs.Conns, to, &c)
	r.t.Cleanup(func() { r.put(r.objs.Conns, to, &EproxyConn{}) }) // the next rig opens it under its old index
	tuple := r.deviceTuple()
	r.put(r.objs.Flows, &tuple, to)
	r.change(rigDevice, f)
}

func (r *rig) deviceTuple() EproxyTuple {
	dev, node, _, _ := r.addrs()
	return rigTuple(node, dev)
}
