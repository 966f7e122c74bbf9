package bpf

import (
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"

	"eproxy/internal/chunk"
)

// many is a rig with so many devices' connections, in chunks as userspace makes them.
type many struct {
	*rig
	n              uint32
	spec           *ebpf.CollectionSpec
	conns, devices *chunk.Array
}

func newMany(t *testing.T, n uint32) *many {
	t.Helper()
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := object().Load()
	if err != nil {
		t.Fatal(err)
	}
	hints := uint32(1)
	for hints < 2*n {
		hints *= 2
	}
	for name, n := range map[string]uint32{"flows": rigSlots + n, "hints": hints, "attention": (rigSlots+n)/64 + 1, "conns": chunk.Chunks(rigSlots + n),
		"devices": chunk.Chunks(n), "slots": 1, "requests": 1, "route_counters": 1, "pod_counters": 1, "pod_socks": rigSlots, "pods": 1} {
		spec.Maps[name].MaxEntries = n
	}
	for name, v := range map[string]uint32{"knob_slots": rigSlots, "knob_hints": hints} {
		if err := spec.Variables[name].Set(v); err != nil {
			t.Fatal(err)
		}
	}
	m := &many{rig: &rig{t: t}, n: n, spec: spec}
	if err := spec.LoadAndAssign(&m.objs, nil); err != nil {
		t.Fatal(whole(err))
	}
	t.Cleanup(func() { m.objs.Close() })
	for name, outer := range map[string]**ebpf.Map{"slots": &m.objs.Slots, "requests": &m.objs.Requests, "route_counters": &m.objs.RouteCounters, "pod_counters": &m.objs.PodCounters} {
		if err := fillChunk(spec.Maps[name].InnerMap, outer); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	m.conns = m.grow("conns", &m.objs.Conns, rigSlots+n)
	m.devices = m.grow("devices", &m.objs.Devices, n)
	m.fill()
	m.put(m.objs.Settings, uint32(0), &EproxyGlobals{Root: 1, RootDollar: 2, Epoch: 1, SlotsEnd: rigSlots, ConnsEnd: rigSlots + n})
	for i := range n {
		m.arm(i)
	}
	return m
}

// grow makes all chunks of an array; the first one stands for it in the rig.
func (m *many) grow(name string, outer **ebpf.Map, n uint32) *chunk.Array {
	m.t.Helper()
	a := chunk.New(*outer, m.spec.Maps[name], "")
	m.t.Cleanup(a.Close)
	for i := uint32(0); i < n; i += chunk.Size {
		if err := a.Grow(i); err != nil {
			m.t.Fatal(err)
		}
	}
	var id ebpf.MapID
	if err := (*outer).Lookup(uint32(0), &id); err != nil {
		m.t.Fatal(err)
	}
	first, err := ebpf.NewMapFromID(id)
	if err != nil {
		m.t.Fatal(err)
	}
	(*outer).Close() // the programs hold it
	*outer = first
	return a
}

// device is where device i comes from.
func (m *many) device(i uint32) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, byte(i >> 16), byte(i >> 8)}), 40000+uint16(i&0xff))
}

// arm opens the connection of device i.
func (m *many) arm(i uint32) {
	m.t.Helper()
	_, node, _, _ := m.addrs()
	c, d := m.opened(rigDevice+i, EproxyConnKindCONN_DEVICE, node, m.device(i), devISS, nodISS), rigDevicePart()
	if err := m.conns.Update(rigDevice+i, &c, ebpf.UpdateAny); err != nil {
		m.t.Fatal(err)
	}
	if err := m.devices.Update(i, &d, ebpf.UpdateAny); err != nil {
		m.t.Fatal(err)
	}
	m.put(m.objs.Flows, &c.Tuple, rigDevice+i)
}

// charged is what the kernel accounts for a map, bytes.
func (m *many) charged(x *ebpf.Map) int {
	m.t.Helper()
	info, err := x.Info()
	if err != nil {
		m.t.Fatal(err)
	}
	n, ok := info.Memlock()
	if !ok {
		m.t.Fatalf("%s: the kernel does not say what memory it has", x)
	}
	return int(n)
}

// TestManyConnections: 100,000 devices have entries of no more than is promised, each is found and
// can send, and the sweeper has an end with all of them; then it looks at none.
func TestManyConnections(t *testing.T) {
	const n, most = 100000, 2560
	m := newMany(t, n)
	all := int(chunk.Chunks(rigSlots+n))*m.charged(m.objs.Conns) + int(chunk.Chunks(n))*m.charged(m.objs.Devices) + m.charged(m.objs.Flows) + m.charged(m.objs.Hints) + m.charged(m.objs.Attention)
	t.Logf("%d connections: %d bytes of maps for each", n, all/n)
	if all/n > most {
		t.Errorf("%d bytes of maps for each connection, promised are %d", all/n, most)
	}
	for word := range uint32(rigSlots+n) / 64 {
		m.put(m.objs.Attention, word, ^uint64(0))
	}
	began := time.Now()
	if ret, err := m.objs.SweepStart.Run(&ebpf.RunOptions{}); err != nil || ret != 0 {
		t.Fatalf("sweep_start: %d, %v", int32(ret), err)
	}
	m.sweeperStops()
	t.Logf("the sweeper has looked at all of them, and stopped, after %s", time.Since(began))
	if rd, err := ringbuf.NewReader(m.objs.Events); err != nil {
		t.Fatal(err)
	} else if rd.AvailableBytes() != 0 {
		t.Errorf("%d bytes of events about connections that need nothing", rd.AvailableBytes())
	}
	pack, pseq := uint32(sltISS), uint32(podISS)
	for i := uint32(0); i < n; i += n / 50 {
		s := m.fromDevice(devISS, "PA", publish("sensors/a/temp", 1, 7, "x"))
		s.from = m.device(i)
		ret, out := m.run(m.objs.XdpDevice, s)
		if ret != xdpRedirect {
			t.Fatalf("message of device %d: verdict %d, %v", i, ret, m.allReasons())
		}
		pack += uint32(len(checkSegment(t, out).Payload))
		ret, out = m.run(m.objs.TcPodIn, m.fromPod(pseq, pack, "PA", []byte(okResponse)))
		if tcp := checkSegment(t, out); ret != tcRedirect || int(tcp.DstPort) != int(m.device(i).Port()) || string(tcp.Payload) != "\x40\x02\x00\x07" {
			t.Fatalf("PUBACK of device %d: verdict %d, %+v", i, ret, tcp)
		}
		pseq += uint32(len(okResponse))
	}
}
