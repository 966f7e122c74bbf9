package bpf

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Verdicts of the programs.
const (
	xdpDrop, xdpPass, xdpRedirect = 1, 2, 4
	tcOK, tcShot, tcRedirect      = 0, 2, 7
)

func publish(topic string, qos byte, id uint16, payload string) []byte {
	var b []byte
	b = append(b, byte(len(topic)>>8), byte(len(topic)))
	b = append(b, topic...)
	if qos > 0 {
		b = append(b, byte(id>>8), byte(id))
	}
	b = append(b, payload...)
	head := []byte{0x30 | qos<<1}
	n := len(b)
	for {
		d := byte(n & 0x7f)
		n >>= 7
		if n > 0 {
			head = append(head, d|0x80)
			continue
		}
		head = append(head, d)
		break
	}
	return append(head, b...)
}

func (r *rig) fromDevice(seq uint32, flags string, payload []byte) seg {
	dev, node, _, _ := r.addrs()
	return seg{from: dev, to: node, seq: seq, ack: nodISS, flags: flags, payload: payload}
}

func (r *rig) fromPod(seq, ack uint32, flags string, payload []byte) seg {
	_, _, src, pod := r.addrs()
	return seg{from: pod, to: src, seq: seq, ack: ack, flags: flags, payload: payload}
}

func (r *rig) run(p *ebpf.Program, s seg) (uint32, []byte) {
	r.t.Helper()
	return r.runFrame(p, s.frame(r.t), nil)
}

// runMarked runs a packet of which skb->mark says that a program made it.
func (r *rig) runMarked(p *ebpf.Program, s seg) (uint32, []byte) {
	r.t.Helper()
	var mark uint32
	if err := r.objs.KnobMark.Get(&mark); err != nil {
		r.t.Fatal(err)
	}
	// the beginning of struct __sk_buff: len, pkt_type, mark
	return r.runFrame(p, s.frame(r.t), &[3]uint32{2: mark})
}

func (r *rig) runFrame(p *ebpf.Program, frame []byte, skb any) (uint32, []byte) {
	r.t.Helper()
	out := make([]byte, 4096)
	opts := &ebpf.RunOptions{Data: frame, DataOut: out, Context: skb}
	ret, err := p.Run(opts)
	if err != nil {
		r.t.Fatal(err)
	}
	return ret, opts.DataOut
}

func (r *rig) reason(hook EproxyHook, reason EproxyReason) uint64 {
	r.t.Helper()
	var per []uint64
	if err := r.objs.Reasons.Lookup(uint32(hook)*256+uint32(reason), &per); err != nil {
		r.t.Fatal(err)
	}
	n := uint64(0)
	for _, v := range per {
		n += v
	}
	return n
}

func (r *rig) readConn(index uint32) EproxyConn {
	var c EproxyConn
	if err := r.objs.Conns.Lookup(index, &c); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// checkSegment parses an output packet, verifies its checksums, and returns the TCP layer.
func checkSegment(t *testing.T, b []byte) *layers.TCP {
	t.Helper()
	pkt := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if pkt.ErrorLayer() != nil {
		t.Fatalf("output does not parse: %v\n%x", pkt.ErrorLayer().Error(), b)
	}
	tcp, _ := pkt.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if tcp == nil {
		t.Fatalf("no TCP in output %x", b)
	}
	_ = tcp.SetNetworkLayerForChecksum(pkt.NetworkLayer())
	want, err := tcp.ComputeChecksum()
	if err != nil {
		t.Fatal(err)
	}
	if want != 0 {
		t.Errorf("TCP checksum %#04x is wrong (residue %#04x)", tcp.Checksum, want)
	}
	if v4, ok := pkt.NetworkLayer().(*layers.IPv4); ok {
		var sum uint32
		h := v4.Contents
		for i := 0; i < 20; i += 2 {
			sum += uint32(h[i])<<8 | uint32(h[i+1])
		}
		for sum > 0xffff {
			sum = sum&0xffff + sum>>16
		}
		if sum != 0xffff {
			t.Errorf("IP checksum wrong")
		}
	}
	return tcp
}

func wantRequest(qos int, count int, payload string) string {
	q := ""
	if qos > 0 {
		q = "X-Mqtt-Qos: 1\r\n"
	}
	return rigHead + q + fmt.Sprintf("ce-id: 0123456789ab%08x\r\nContent-Length: %d\r\n\r\n%s", count, len(payload), payload)
}

func TestTakeAndRespond(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		for _, hook := range []string{"xdp", "tc"} {
			for _, vlan := range []bool{false, true} {
				if vlan && hook == "tc" {
					continue // the kernel strips the tag before TC
				}
				t.Run(fmt.Sprintf("ipv6=%v/%s/vlan=%v", ipv6, hook, vlan), func(t *testing.T) { takeAndRespond(t, ipv6, hook, vlan) })
			}
		}
	}
}

func takeAndRespond(t *testing.T, ipv6 bool, hook string, vlan bool) {
	r := newRig(t, ipv6)
	r.t = t
	prog, verdict, h := r.objs.XdpDevice, uint32(xdpRedirect), EproxyHookHOOK_XDP_DEVICE
	if hook == "tc" {
		prog, verdict, h = r.objs.TcDeviceIn, tcRedirect, EproxyHookHOOK_TC_DEVICE_IN
	}
	wire, wack, pwire, pack := uint32(devISS), uint32(nodISS), uint32(podISS), uint32(sltISS)
	for i := range 40 {
		qos := byte(i % 2)
		payload := fmt.Sprintf("%0*d", i, i)
		pub := publish("sensors/a/temp", qos, uint16(i+1), payload)
		s := r.fromDevice(wire, "PA", pub)
		s.ack = wack
		if vlan {
			s.tags = priorityTag
		}
		ret, out := r.run(prog, s)
		if ret != verdict || r.reason(h, EproxyReasonREASON_TAKEN) != uint64(i+1) {
			t.Fatalf("message %d: verdict %d; counters %v", i, ret, r.allReasons())
		}
		tcp := checkSegment(t, out)
		want := wantRequest(int(qos), i+1, payload)
		if string(tcp.Payload) != want {
			t.Fatalf("message %d: request\n%q\nwant\n%q", i, tcp.Payload, want)
		}
		if tcp.Seq != pack || tcp.Ack != pwire {
			t.Errorf("message %d: request at seq %d ack %d, want %d %d", i, tcp.Seq, tcp.Ack, pack, pwire)
		}
		wire += uint32(len(pub))
		pack += uint32(len(want))

		response := "HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\nContent-Length: 3\r\nContent-Type: text/plain\r\n\r\nok\n"
		r.neverQuiet() // on a slow machine, too
		ret, out = r.run(r.objs.TcPodIn, r.fromPod(pwire, pack, "PA", []byte(response)))
		if ret != tcRedirect {
			t.Fatalf("response %d: verdict %d; counters %v", i, ret, r.allReasons())
		}
		tcp = checkSegment(t, out)
		pwire += uint32(len(response))
		if tcp.Seq != wack || tcp.Ack != wire {
			t.Errorf("response %d: seq %d ack %d, want %d %d", i, tcp.Seq, tcp.Ack, wack, wire)
		}
		if qos == 1 {
			if want := []byte{0x40, 2, byte((i + 1) >> 8), byte(i + 1)}; !bytes.Equal(tcp.Payload, want) {
				t.Errorf("PUBACK %x, want %x", tcp.Payload, want)
			}
			wack += 4
		} else if len(tcp.Payload) != 0 {
			t.Errorf("QoS 0 got %x", tcp.Payload)
		}
	}
	c := r.readConn(rigDevice)
	if c.RxNxt != wire || c.TxNxt != wack {
		t.Errorf("ledger: rx_nxt %d tx_nxt %d, want %d %d", c.RxNxt, c.TxNxt, wire, wack)
	}
}

func (r *rig) allReasons() map[string]uint64 {
	m := map[string]uint64{}
	for h := range uint32(6) {
		for i := range uint32(EproxyReasonREASON_COUNT) {
			if n := r.reason(EproxyHook(h), EproxyReason(i)); n > 0 {
				m[fmt.Sprintf("hook%d/%d", h, i)] = n
			}
		}
	}
	return m
}
