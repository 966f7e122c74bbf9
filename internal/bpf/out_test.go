package bpf

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// side is one of the two egress programs with the connection that it translates.
type side struct {
	name     string
	hook     EproxyHook
	conn     uint32
	rcv, snd uint32 // next bytes before anything was grafted
}

var sides = []side{
	{"device", EproxyHookHOOK_TC_DEVICE_OUT, rigDevice, devISS, nodISS},
	{"pod", EproxyHookHOOK_TC_POD_OUT, rigSlot, podISS, sltISS},
}

func (s side) prog(r *rig) *ebpf.Program {
	if s.hook == EproxyHookHOOK_TC_POD_OUT {
		return r.objs.TcPodOut
	}
	return r.objs.TcDeviceOut
}

// send is a segment of the local socket; seq and ack are its own numbers.
func (s side) send(r *rig, seq, ack uint32, flags string, payload []byte) seg {
	dev, node, src, pod := r.addrs()
	if s.hook == EproxyHookHOOK_TC_POD_OUT {
		return seg{from: src, to: pod, seq: seq, ack: ack, flags: flags, payload: payload}
	}
	return seg{from: node, to: dev, seq: seq, ack: ack, flags: flags, payload: payload}
}

func eachSide(t *testing.T, f func(t *testing.T, r *rig, s side)) {
	for _, s := range sides {
		for _, ipv6 := range []bool{false, true} {
			t.Run(s.name+"/"+map[bool]string{false: "ipv4", true: "ipv6"}[ipv6], func(t *testing.T) {
				r := newRig(t, ipv6)
				r.t = t
				f(t, r, s)
			})
		}
	}
}

// graft takes a message and its response; it returns the lengths that both
// connections' streams grew by: received and sent.
func (r *rig) graft(t *testing.T, s side) (removed, inserted uint32) {
	t.Helper()
	pub, req := r.take(t)
	if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse))); ret != tcRedirect {
		t.Fatalf("not answered: %v", r.allReasons())
	}
	if s.hook == EproxyHookHOOK_TC_POD_OUT {
		return uint32(len(okResponse)), req
	}
	return pub, 4
}

// TestEgressTranslates: what the local socket sends behind a graft stands behind it
// on the wire, too.
func TestEgressTranslates(t *testing.T) {
	eachSide(t, func(t *testing.T, r *rig, s side) {
		removed, inserted := r.graft(t, s)
		ret, out := r.run(s.prog(r), s.send(r, s.snd, s.rcv, "PA", []byte("data")))
		if tcp := checkSegment(t, out); ret != tcOK || tcp.Seq != s.snd+inserted || tcp.Ack != s.rcv+removed || string(tcp.Payload) != "data" || !tcp.PSH {
			t.Errorf("verdict %d seq %d ack %d %q", ret, tcp.Seq, tcp.Ack, tcp.Payload)
		}
		ret, out = r.run(s.prog(r), s.send(r, s.snd+4, s.rcv, "RA", nil))
		if tcp := checkSegment(t, out); ret != tcOK || tcp.Seq != s.snd+inserted+4 || !tcp.RST {
			t.Errorf("RST: verdict %d seq %d", ret, tcp.Seq)
		}
		if c := r.readConn(s.conn); c.State != uint16(EproxyConnStateCONN_CLOSED) || c.Flags&uint32(EproxyConnFlagCONN_RST_SENT) == 0 {
			t.Errorf("after RST: state %d flags %x", c.State, c.Flags)
		}
		r.expectOnly(t, s.hook, reasons(EproxyReasonREASON_TRANSLATED, EproxyReasonREASON_TRANSLATED))
	})
}

// TestEgressLeavesInPieces: a segment that reaches over insertions, because the socket
// knows of none, leaves in pieces, each at its place, none longer than the socket meant it to
// be; the last one has its FIN. A real interface sends them.
func TestEgressLeavesInPieces(t *testing.T) {
	for name, c := range map[string]struct {
		payload string // of the segment, which begins 10 bytes before the first insertion; two of 4 bytes lie there, one 10 bytes behind
		flags   string
		options []layers.TCPOption
		want    []string
		seqs    []uint32 // from the segment's beginning on the wire
	}{
		"over two":               {"0123456789abcdefghijklmn", "PA", nil, []string{"0123456789", "abcdefghij", "klmn"}, []uint32{0, 18, 32}},
		"odd pieces":             {"123456789abcdefghijklmn", "PA", nil, []string{"123456789", "abcdefghij", "klmn"}, []uint32{1, 18, 32}},
		"with a FIN":             {"0123456789abcdefghijk", "FPA", nil, []string{"0123456789", "abcdefghij", "k"}, []uint32{0, 18, 32}},
		"only a FIN behind":      {"0123456789abcdefghij", "FA", nil, []string{"0123456789", "abcdefghij", ""}, []uint32{0, 18, 32}},
		"with blocks":            {"0123456789abcdefghijklm", "PA", sackOptions(1, sackBlock{devISS + 50, devISS + 60}), []string{"0123456789", "abcdefghij", "klm"}, []uint32{0, 18, 32}},
		"none: behind the first": {"abcdefghij", "PA", nil, []string{"abcdefghij"}, []uint32{18}},
	} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ipv6=%v", name, ipv6), func(t *testing.T) {
				r := newRig(t, ipv6)
				r.change(rigDevice, func(conn *EproxyConn) {
					conn.TxKnxt, conn.TxNxt = nodISS+30, nodISS+42
					conn.Tx.Count = 3
					for i, at := range []uint32{10, 14, 28} {
						conn.Tx.Ring[i] = EproxyGraft{Seq: nodISS + at, Len: 4, State: uint8(EproxyGraftStateGRAFT_DONE)}
					}
				})
				skip := uint32(strings.Index("0123456789abcdefghijklmn", c.payload[:1]))
				s := sides[0].send(r, nodISS+skip, devISS, c.flags, []byte(c.payload))
				s.options = c.options
				var frames [][]byte
				inNamespace(t, func() error { return nil }, func() { frames = r.onWire(t, r.objs.TcDeviceOut, s, len(c.want)) })
				for i, f := range frames {
					tcp := checkSegment(t, f)
					last := i == len(c.want)-1
					if string(tcp.Payload) != c.want[i] || tcp.Seq != nodISS+c.seqs[i] || tcp.Ack != devISS || tcp.FIN != (last && strings.Contains(c.flags, "F")) ||
						tcp.PSH != (last && strings.Contains(c.flags, "P")) {
						t.Errorf("piece %d: seq %d ack %d FIN %v PSH %v %q", i, tcp.Seq-nodISS, tcp.Ack, tcp.FIN, tcp.PSH, tcp.Payload)
					}
					if c.options != nil {
						checkBlocks(t, tcp, sackBlock{devISS + 50, devISS + 60})
					}
				}
				if fin := r.readConn(rigDevice).Flags&uint32(EproxyConnFlagCONN_FIN_SENT) != 0; fin != strings.Contains(c.flags, "F") {
					t.Errorf("FIN sent: %v", fin)
				}
			})
		}
	}
}

// onWire sends a segment through the program at an interface's egress, in this thread's
// namespace, and returns the frames that come out at the other end.
func (r *rig) onWire(t *testing.T, prog *ebpf.Program, s seg, n int) [][]byte {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"}))
	packetSocket := func(name string) (fd, index int) {
		l, err := netlink.LinkByName(name)
		must(err)
		must(netlink.LinkSetUp(l))
		const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // network byte order
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		must(err)
		must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index}))
		return fd, l.Attrs().Index
	}
	near, index := packetSocket("near")
	defer unix.Close(near)
	far, _ := packetSocket("far")
	defer unix.Close(far)
	must(carries("near"))
	must(carries("far"))
	at, err := link.AttachTCX(link.TCXOptions{Program: prog, Interface: index, Attach: ebpf.AttachTCXEgress})
	must(err)
	defer at.Close()
	_, err = unix.Write(near, s.frame(t))
	must(err)
	must(unix.SetsockoptTimeval(far, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}))
	var frames [][]byte
	for buf := make([]byte, 4096); len(frames) < n; {
		size, err := unix.Read(far, buf)
		if err != nil {
			t.Fatalf("%d frames of %d: %v: %v", len(frames), n, err, r.allReasons())
		}
		if bytes.Contains(buf[:size], s.tcpPorts(t)) { // not what the host itself sends
			frames = append(frames, slices.Clone(buf[:size]))
		}
	}
	return frames
}

// carries waits until the host has noticed that an interface has a carrier, which it does in the background: what is sent before
// is dropped.
func carries(name string) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for {
		l, err := netlink.LinkByName(name)
		if err != nil || l.Attrs().OperState == netlink.OperUp {
			return err
		}
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("%s is %s", name, l.Attrs().OperState)
		}
	}
}

// tcpPorts are the first four bytes of the TCP header.
func (s seg) tcpPorts(t *testing.T) []byte {
	b := s.frame(t)
	at := 34
	if s.from.Addr().Is6() {
		at = 54
	}
	return b[at : at+4]
}

// TestEgressCutsOffloadedSegment: several segments that the interface would have cut are
// one packet once they leave in pieces, and none is longer than each was to be: the
// socket knows the path's MTU.
func TestEgressCutsOffloadedSegment(t *testing.T) {
	eachSide(t, func(t *testing.T, r *rig, s side) {
		const size = 1228
		packet := append([]byte("\x30\xdd\x0b"), make([]byte, 1501)...)
		if ret, _ := r.run(s.prog(r), s.send(r, s.snd, s.rcv, "PA", packet)); ret != tcOK {
			t.Fatalf("verdict %d", ret)
		}
		r.change(s.conn, func(c *EproxyConn) { c.TxKuna = c.TxKnxt; c.DataUs -= 1000 })
		at := s
		at.snd += uint32(len(packet))
		_, inserted := r.insertAt(t, at)
		more := bytes.Repeat([]byte("more"), 400)
		again := s.send(r, s.snd, s.rcv, "PA", append(packet, more...))
		// struct __sk_buff up to gso_size
		ret, out := r.runFrame(s.prog(r), again.frame(t), &[45]uint32{41: 3, 44: size})
		last := len(more) % size
		if tcp := checkSegment(t, out); ret != tcOK || tcp.Seq != at.snd+inserted+uint32(len(more)-last) || len(tcp.Payload) != last {
			t.Errorf("verdict %d seq %d, %d bytes", ret, tcp.Seq-at.snd, len(tcp.Payload))
		}
		r.expect(t, s.hook, EproxyReasonREASON_TRIMMED)
	})
}

// insertAt is graft where the local socket has sent bytes of its own before.
func (r *rig) insertAt(t *testing.T, s side) (removed, inserted uint32) {
	t.Helper()
	pub, req := r.take(t)
	if s.hook == EproxyHookHOOK_TC_POD_OUT {
		return 0, req // the request is there, its response does not matter
	}
	if ret, _ := r.run(r.objs.TcPodIn, r.fromPod(podISS, sltISS+req, "PA", []byte(okResponse))); ret != tcRedirect {
		t.Fatalf("not answered: %v", r.allReasons())
	}
	return pub, 4
}

// TestEgressHoldsRepeatedAck: an acknowledgement that the peer has had already is not sent
// again: three of them would look like a loss.
func TestEgressHoldsRepeatedAck(t *testing.T) {
	eachSide(t, func(t *testing.T, r *rig, s side) {
		if ret, _ := r.run(s.prog(r), s.send(r, s.snd, s.rcv, "A", nil)); ret != tcShot {
			t.Errorf("verdict %d", ret)
		}
		if ret, _ := r.run(s.prog(r), s.send(r, s.snd-1, s.rcv, "A", nil)); ret != tcOK {
			t.Errorf("keepalive probe: verdict %d", ret)
		}
		if c := r.readConn(s.conn); c.Flags&uint32(EproxyConnFlagCONN_PROBE) == 0 {
			t.Error("nobody knows of the probe")
		}
	})
}

// TestEgressAckOfUnseenBytes: the socket acknowledges bytes that no program has seen. With
// grafts that is the end of the connection; without, only the boundary is lost.
func TestEgressAckOfUnseenBytes(t *testing.T) {
	eachSide(t, func(t *testing.T, r *rig, s side) {
		r.events()
		if ret, _ := r.run(s.prog(r), s.send(r, s.snd, s.rcv+5, "A", nil)); ret != tcOK {
			t.Errorf("without grafts: verdict %d", ret)
		}
		r.expectOnly(t, s.hook, reasons(EproxyReasonREASON_TRANSLATED))
		if c := r.readConn(s.conn); c.Flags&uint32(EproxyConnFlagCONN_LOST|EproxyConnFlagCONN_BROKEN) != uint32(EproxyConnFlagCONN_LOST) || c.RxNxt != s.rcv+5 {
			t.Errorf("without grafts: flags %x, next byte %d", c.Flags, c.RxNxt)
		}
		r = newRig(t, r.ipv6)
		r.graft(t, s)
		r.run(s.prog(r), s.send(r, s.snd, s.rcv+5, "A", nil))
		r.expectOnly(t, s.hook, reasons(EproxyReasonREASON_BROKEN, EproxyReasonREASON_TRANSLATED))
		if e := r.events(); len(e) != 1 || e[0].Kind != uint32(EproxyEventKindEVENT_BROKEN) || e[0].Conn != s.conn || e[0].Gen != 1 {
			t.Errorf("events %+v", e)
		}
	})
}

// TestEgressPassesWhatIsNotOurs: what is not the local socket's, or not on a connection with
// open ledger, leaves as it is.
func TestEgressPassesWhatIsNotOurs(t *testing.T) {
	state := func(to EproxyConnState) func(r *rig, s side) {
		return func(r *rig, s side) { r.change(s.conn, func(c *EproxyConn) { c.State = uint16(to) }) }
	}
	grafted := func(r *rig, s side) { r.graft(r.t.(*testing.T), s) }
	for name, c := range map[string]struct {
		rig    func(r *rig, s side)
		change func(s *seg)
		marked bool
		want   []EproxyReason
	}{
		"injected":            {rig: grafted, marked: true, want: reasons(EproxyReasonREASON_INJECTED)},
		"free":                {rig: state(EproxyConnStateCONN_FREE), want: reasons(EproxyReasonREASON_NOT_OPEN)},
		"armed, not a socket": {rig: state(EproxyConnStateCONN_ARMED), want: reasons(EproxyReasonREASON_NOT_OPEN)},
		"another connection":  {change: func(s *seg) { s.from, s.to = s.to, s.from }},
		"two tags":            {rig: grafted, change: func(s *seg) { s.tags = append(priorityTag, priorityTag...) }},
	} {
		t.Run(name, func(t *testing.T) {
			eachSide(t, func(t *testing.T, r *rig, s side) {
				if c.rig != nil {
					c.rig(r, s)
				}
				before := r.readConn(s.conn)
				p := s.send(r, s.snd, s.rcv, "PA", []byte("data"))
				if c.change != nil {
					c.change(&p)
				}
				run := r.run
				if c.marked {
					run = r.runMarked
				}
				if ret, out := run(s.prog(r), p); ret != tcOK || !bytes.Equal(out, p.frame(t)) {
					t.Errorf("verdict %d, % x became % x", ret, p.frame(t), out)
				}
				r.expectOnly(t, s.hook, c.want)
				if after := r.readConn(s.conn); after != before {
					t.Errorf("the ledger changed: %+v, before %+v", after, before)
				}
			})
		})
	}
}

// TestEgressLeavesOtherKind: each program leaves the other's connections alone.
func TestEgressLeavesOtherKind(t *testing.T) {
	for i, s := range sides {
		r := newRig(t, false)
		r.graft(t, s)
		p := s.send(r, s.snd, s.rcv, "PA", []byte("data"))
		if ret, out := r.run(sides[1-i].prog(r), p); ret != tcOK || !bytes.Equal(out, p.frame(t)) {
			t.Errorf("%s: verdict %d, % x", s.name, ret, out)
		}
	}
}

// TestEgressSYNBeginsAnew: a SYN-ACK to a device begins another connection: nothing of the
// old one's ledger is used again. A slot's SYN loses the options that grafting
// cannot honour: timestamps, not SACK.
func TestEgressSYNBeginsAnew(t *testing.T) {
	eachSide(t, func(t *testing.T, r *rig, s side) {
		p := s.send(r, s.snd, s.rcv, "SA", nil)
		if s.hook == EproxyHookHOOK_TC_POD_OUT {
			p.flags, p.ack = "S", 0
			r.change(s.conn, func(c *EproxyConn) { c.State = uint16(EproxyConnStateCONN_ARMED) })
		}
		p.options = []layers.TCPOption{{OptionType: 4, OptionLength: 2}, {OptionType: 1}, {OptionType: 1}}
		timestamps := layers.TCPOption{OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}
		p.options = append(p.options, layers.TCPOption{OptionType: 1}, layers.TCPOption{OptionType: 1}, timestamps)
		ret, out := r.run(s.prog(r), p)
		tcp := checkSegment(t, out)
		if ret != tcOK || tcp.Seq != s.snd {
			t.Errorf("verdict %d seq %d", ret, tcp.Seq)
		}
		sack := len(tcp.Options) > 0 && tcp.Options[0].OptionType == 4
		stamped := slices.ContainsFunc(tcp.Options, func(o layers.TCPOption) bool { return o.OptionType == 8 })
		c := r.readConn(s.conn)
		if s.hook == EproxyHookHOOK_TC_POD_OUT {
			r.expectOnly(t, s.hook, reasons(EproxyReasonREASON_SLOT_SYN))
			if !sack || stamped || c.Gen != 1 || c.State != uint16(EproxyConnStateCONN_ARMED) {
				t.Errorf("SACK permitted: %v, generation %d, state %d", sack, c.Gen, c.State)
			}
			return
		}
		r.expectOnly(t, s.hook, reasons(EproxyReasonREASON_REUSED))
		if !sack || c.Gen != 2 || c.State != uint16(EproxyConnStateCONN_FREE) {
			t.Errorf("SACK permitted: %v, generation %d, state %d", sack, c.Gen, c.State)
		}
	})
}

// TestEgressFollowsFraming: what the socket sends is followed packet by packet, so that
// PUBACKs come between them.
func TestEgressFollowsFraming(t *testing.T) {
	r, s := newRig(t, false), sides[0]
	at := s.snd
	for _, p := range []struct {
		segment    string
		left, head uint32
	}{
		{"\x90\x03\x00\x01\x00", 0, 0},
		{"\x30", 0, 1},
		{"\x90", 0, 2},
		{"\x01ab", 142, 0},
		{strings.Repeat("c", 142) + "\xd0\x00\x30\x02", 2, 0},
		{"xy", 0, 0},
	} {
		if ret, _ := r.run(s.prog(r), s.send(r, at, s.rcv, "PA", []byte(p.segment))); ret != tcOK {
			t.Fatalf("verdict %d", ret)
		}
		at += uint32(len(p.segment))
		if c := r.readConn(s.conn); c.TxFramed != at || c.TxFraming.Left != p.left || uint32(c.TxFraming.Head) != p.head || c.TxFraming.Bad != 0 {
			t.Errorf("behind %q: framing followed to %d of %d, %+v", p.segment, c.TxFramed, at, c.TxFraming)
		}
	}
	r.expectOnly(t, s.hook, slices.Repeat(reasons(EproxyReasonREASON_TRANSLATED), 6))
}

// TestEgressBareAckBesidePuback: a bare ACK of the socket stands before PUBACKs that were
// inserted just now and may still be on their way; nothing else does, and not
// once the device has acknowledged them.
func TestEgressBareAckBesidePuback(t *testing.T) {
	const notified, position = nodISS, nodISS + 4
	side := sides[0]
	for name, c := range map[string]struct {
		age     uint32 // microseconds
		una     uint32
		flags   string
		payload string
		want    uint32
	}{
		"just now":     {justNow, notified, "A", "", notified},
		"long ago":     {1000, notified, "A", "", position},
		"acknowledged": {justNow, position, "A", "", position},
		"with payload": {justNow, notified, "PA", "\xd0\x00", position},
		"with FIN":     {justNow, notified, "FA", "", position},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, false)
			r.change(side.conn, func(conn *EproxyConn) {
				conn.Tx.Count = 1
				conn.Tx.Ring[0] = EproxyGraft{Seq: notified, Len: 4, State: uint8(EproxyGraftStateGRAFT_DONE)}
				conn.TxNxt, conn.TxUna = position, c.una
				conn.RxKack, conn.RxAcked = side.rcv-5, side.rcv-5 // the ACK is news
				conn.NotifiedSeq, conn.NotifiedUs = notified, monotonicUs()-c.age
			})
			ret, out := r.run(side.prog(r), side.send(r, nodISS, side.rcv, c.flags, []byte(c.payload)))
			if tcp := checkSegment(t, out); ret != tcOK || tcp.Seq != c.want {
				t.Errorf("verdict %d, seq %d, want %d", ret, tcp.Seq, c.want)
			}
		})
	}
}

// justNow is an age in microseconds that the programs take for "just now": by
// another processor's clock, which may be ahead, it has not come yet. The test
// has 5 ms until it is older than that.
const justNow = ^uint32(5000)

// monotonicUs is the programs' clock.
func monotonicUs() uint32 { return uint32(monotonic() / 1000) }

// monotonic is the same in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
