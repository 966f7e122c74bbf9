package bpf

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket/layers"
)

// place is one hook with the packets that it knows: those of one connection, in
// one direction.
type place struct {
	name     string
	hook     EproxyHook
	prog     func(r *rig) *ebpf.Program
	conn     uint32
	out      bool   // what the local socket sends
	seq, ack uint32 // of the first segment in order
	send     func(r *rig, seq, ack uint32, flags string, payload []byte) seg
}

func places() []place {
	fromDevice := func(r *rig, seq, ack uint32, flags string, payload []byte) seg {
		s := r.fromDevice(seq, flags, payload)
		s.ack = ack
		return s
	}
	return []place{
		{"xdp_device", EproxyHookHOOK_XDP_DEVICE, func(r *rig) *ebpf.Program { return r.objs.XdpDevice }, rigDevice, false, devISS, nodISS, fromDevice},
		{"tc_device_in", EproxyHookHOOK_TC_DEVICE_IN, func(r *rig) *ebpf.Program { return r.objs.TcDeviceIn }, rigDevice, false, devISS, nodISS, fromDevice},
		{"tc_pod_in", EproxyHookHOOK_TC_POD_IN, func(r *rig) *ebpf.Program { return r.objs.TcPodIn }, rigSlot, false, podISS, sltISS, (*rig).fromPod},
		{"tc_device_out", EproxyHookHOOK_TC_DEVICE_OUT, func(r *rig) *ebpf.Program { return r.objs.TcDeviceOut }, rigDevice, true, nodISS, devISS, sides[0].send},
		{"tc_pod_out", EproxyHookHOOK_TC_POD_OUT, func(r *rig) *ebpf.Program { return r.objs.TcPodOut }, rigSlot, true, sltISS, podISS, sides[1].send},
	}
}

// row is the sum of a hook's counters.
func (r *rig) row(h EproxyHook) (n uint64) {
	for reason := range EproxyReasonREASON_COUNT {
		n += r.reason(h, reason)
	}
	return n
}

// TestEveryPacketCounted: whatever a known connection sends and in whatever state
// it is, its hook counts it: docs/REASONS.md says so.
func TestEveryPacketCounted(t *testing.T) {
	for _, p := range places() {
		t.Run(p.name, func(t *testing.T) {
			seed := rand.Uint64()
			rng := rand.New(rand.NewPCG(seed, 0))
			r := newRig(t, false)
			before := uint64(0)
			for i := range 1500 {
				if i%8 == 0 { // what came before has changed the state; now and then a fresh one
					r = newRig(t, rng.IntN(2) == 0)
					r.disturb(rng, p)
					before = r.row(p.hook)
				}
				s := p.random(r, rng)
				state := r.readConn(p.conn).State
				ret, _ := r.run(p.prog(r), s)
				after := r.row(p.hook)
				if after == before {
					t.Fatalf("seed %d, packet %d: verdict %d, not counted: %s seq %d ack %d %.60x, connection in state %d", seed, i, ret, s.flags, s.seq, s.ack, s.payload, state)
				}
				before = after
			}
			r.events()
		})
	}
}

// disturb brings the connection and what belongs to it into a random state.
func (r *rig) disturb(rng *rand.Rand, p place) {
	if rng.IntN(3) == 0 {
		r.change(p.conn, func(c *EproxyConn) { c.State = uint16(rng.IntN(4)) })
	}
	if rng.IntN(4) == 0 {
		r.change(p.conn, func(c *EproxyConn) { c.Flags ^= 1 << rng.IntN(9) &^ uint32(EproxyConnFlagCONN_IPV6) })
	}
	if rng.IntN(4) == 0 {
		r.change(p.conn, func(c *EproxyConn) { c.RxKack -= uint32(rng.IntN(9)); c.TxWnd = uint32(rng.IntN(500)) })
	}
	if rng.IntN(4) == 0 {
		r.device(func(d *EproxyDevice) { d.Framing.Left, d.Rights = uint32(rng.IntN(9)), uint32(rng.IntN(2)) })
	}
	if rng.IntN(4) == 0 {
		r.pod(func(p *EproxyPod) {
			p.Idle, p.XdpOk, p.Ipv6 = uint64(rng.IntN(2)), uint8(rng.IntN(2)), uint8(rng.IntN(2))
		})
	}
	if rng.IntN(6) == 0 {
		r.put(r.objs.Settings, uint32(0), &EproxyGlobals{Root: 1, RootDollar: 2, Epoch: 1, Draining: uint32(rng.IntN(2))})
	}
	if p.conn == rigSlot && rng.IntN(2) == 0 { // a request is in flight
		r.run(r.objs.XdpDevice, r.fromDevice(devISS, "PA", publish("sensors/a/temp", byte(rng.IntN(2)), 7, "x")))
		if rng.IntN(4) == 0 {
			s := r.slot()
			s.State = uint32(rng.IntN(10))
			r.put(r.objs.Slots, uint32(rigSlot), &s)
		}
	}
	r.change(rigDevice, func(c *EproxyConn) { c.Ifindex = 1 << 30 }) // nothing gets out of the test
	r.change(rigSlot, func(c *EproxyConn) { c.Ifindex = 1 << 30 })
}

// random is a segment of the place's connection: at or around the position
// where the last one in order ended.
func (p place) random(r *rig, rng *rand.Rand) seg {
	c := r.readConn(p.conn)
	seq, ack := c.RxNxt, c.TxNxt
	if p.out {
		seq, ack = c.TxKnxt, c.RxKack
	}
	near := func(v uint32) uint32 {
		switch rng.IntN(6) {
		case 0:
			return v + uint32(rng.IntN(40)) - 20
		case 1:
			return rng.Uint32()
		}
		return v
	}
	flags := []string{"A", "PA", "PA", "A", "FA", "FPA", "RA", "R", "S", "SA", "P", "", "UA"}
	payloads := [][]byte{
		nil, publish("sensors/a/temp", 1, 7, "x"), publish("sensors/a/temp", 0, 0, "y"), publish("other", 1, 8, "z"),
		append(publish("sensors/a/temp", 1, 7, "x"), publish("sensors/a/temp", 1, 9, "x")...), {0x30}, {0xc0, 0}, []byte("x"),
		{0x20, 2, 0, 0}, []byte(okResponse), []byte(okResponse + okResponse), []byte("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
		[]byte("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\nbegin"), make([]byte, 1+rng.IntN(1400)),
	}
	s := p.send(r, near(seq), near(ack), flags[rng.IntN(len(flags))], payloads[rng.IntN(len(payloads))])
	s.badSum = rng.IntN(16) == 0
	if rng.IntN(8) == 0 {
		s.options = []layers.TCPOption{{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}}
	}
	return s
}

// TestUnknownNotCounted: what docs/REASONS.md says is not counted is not.
func TestUnknownNotCounted(t *testing.T) {
	for _, p := range places() {
		for name, change := range map[string]func(r *rig, s *seg){
			"another connection": func(_ *rig, s *seg) { s.from, s.to = s.to, s.from },
			"two tags":           func(_ *rig, s *seg) { s.tags = append(priorityTag, priorityTag...) },
			"another hook's": func(r *rig, s *seg) {
				for _, o := range places() {
					if o.conn != p.conn && o.out == p.out {
						*s = o.send(r, o.seq, o.ack, "PA", []byte("x"))
					}
				}
			},
		} {
			t.Run(fmt.Sprintf("%s/%s", p.name, name), func(t *testing.T) {
				r := newRig(t, false)
				s := p.send(r, p.seq, p.ack, "PA", []byte("x"))
				change(r, &s)
				r.run(p.prog(r), s)
				r.expectOnly(t, p.hook, nil)
			})
		}
	}
}
