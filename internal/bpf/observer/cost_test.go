package observer

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// side is a packet that comes again and again, each time with the next sequence number.
type side struct {
	fromPod bool
	frame   []byte
	seq     uint32
	step    uint32
}

const (
	tcpSeq    = 14 + 20 + 4 // of TCP's sequence number behind Ethernet and IPv4 without options
	maxFrame  = 2048
	sideState = 8 + maxFrame // sequence number, step, frame
)

// pacer is a program that makes the next packet of two sides in turn and hands it to a program: BPF_PROG_RUN repeats one packet only,
// which an observer has seen before. What the pacer costs by itself is measured with a program that does nothing behind it.
type pacer struct {
	program *ebpf.Program
	state   *ebpf.Map
	next    *ebpf.Map
	len     int
}

func newPacer(t testing.TB, sides [2]side) *pacer {
	t.Helper()
	n := max(len(sides[0].frame), len(sides[1].frame))
	p := &pacer{len: n}
	var err error
	if p.state, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8 + 2*sideState, MaxEntries: 1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.state.Close() })
	if p.next, err = ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 2}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.next.Close() })
	value := make([]byte, 8+2*sideState)
	for i, s := range sides {
		at := value[8+i*sideState:]
		binary.NativeEndian.PutUint32(at, s.seq)
		binary.NativeEndian.PutUint32(at[4:], s.step)
		copy(at[8:], s.frame)
	}
	if err := p.state.Put(uint32(0), value); err != nil {
		t.Fatal(err)
	}
	p.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, p.state.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Reg(asm.R7, asm.R0),
		// whose turn it is
		asm.LoadMem(asm.R8, asm.R7, 0, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R7, 0, asm.R1, asm.Word),
		asm.And.Imm(asm.R8, 1),
		asm.Mov.Reg(asm.R1, asm.R8),
		asm.Mul.Imm(asm.R1, sideState),
		asm.Add.Reg(asm.R7, asm.R1),
		// its next sequence number
		asm.LoadMem(asm.R1, asm.R7, 8, asm.Word),
		asm.LoadMem(asm.R2, asm.R7, 12, asm.Word),
		asm.Add.Reg(asm.R2, asm.R1),
		asm.StoreMem(asm.R7, 8, asm.R2, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(asm.R7, 16+tcpSeq, asm.R1, asm.Word),
		// its bytes
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.R7),
		asm.Add.Imm(asm.R3, 16),
		asm.Mov.Imm(asm.R4, int32(n)),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, p.next.FD()),
		asm.Mov.Reg(asm.R3, asm.R8),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"), // nothing else returns it
		asm.Return(),
	}})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { _ = p.program.Close() })
	return p
}

// run hands so many packets to the programs of the two sides.
func (p *pacer) run(t testing.TB, n int, programs [2]*ebpf.Program) time.Duration {
	t.Helper()
	for i, q := range programs {
		if err := p.next.Put(uint32(i), uint32(q.FD())); err != nil {
			t.Fatal(err)
		}
	}
	ret, took, err := p.program.Benchmark(make([]byte, p.len), n, nil)
	if err != nil || int32(ret) != -1 {
		t.Fatalf("verdict %d: %v", int32(ret), err)
	}
	return took
}

const (
	smallRequest = "GET /a HTTP/1.1\r\nHost: temp.local\r\n\r\n"
	smallAnswer  = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
)

var (
	usualRequest = "POST /ingest HTTP/1.1\r\nHost: temp.local\r\nUser-Agent: bench\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n" +
		strings.Repeat("x", 20)
	usualAnswer  = "HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
	largeRequest = "GET /api/v1/items?page=3 HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: application/json, text/plain, */*\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
		"X-Forwarded-For: 203.0.113.7\r\nX-Request-Id: 5f2b7a7e-3c1c-4d83-9f0e-0a6d1fbb9d11\r\nCookie: session=" + strings.Repeat("0123456789abcdef", 12) + "\r\n\r\n"
)

// kinds of packets, each with how many of its packets are requests or responses.
var costs = []struct {
	name  string
	sides func(r *rig) [2]side
	want  func(c *ObserveObserveCounts, packets uint64) bool
}{
	{"other port", func(r *rig) [2]side {
		s := r.exchange(usualRequest, usualAnswer)
		s[0].frame[37], s[1].frame[35] = 8081&0xff, 8081&0xff
		return s
	}, func(c *ObserveObserveCounts, _ uint64) bool { return c.Requests == 0 }},
	{"bare ACK", func(r *rig) [2]side {
		r.asks(usualRequest)
		r.answers(usualAnswer)
		return r.exchange("", "")
	}, func(c *ObserveObserveCounts, _ uint64) bool { return c.Requests == 1 }},
	{"body of a request", func(r *rig) [2]side {
		r.asks("POST / HTTP/1.1\r\nContent-Length: 1000000000000000\r\n\r\n")
		s := r.exchange(strings.Repeat("b", 1400), "")
		s[0].step *= 2
		s[1] = s[0]
		s[1].seq += 1400
		return s
	}, func(c *ObserveObserveCounts, n uint64) bool { return c.RequestBytes > 1400*n }},
	{"small heads", func(r *rig) [2]side { return r.exchange(smallRequest, smallAnswer) }, exchanged},
	{"usual heads", func(r *rig) [2]side { return r.exchange(usualRequest, usualAnswer) }, exchanged},
	{"a browser's", func(r *rig) [2]side { return r.exchange(largeRequest, usualAnswer) }, exchanged},
}

func exchanged(c *ObserveObserveCounts, n uint64) bool {
	return c.Requests == n/2 && c.Responses[2] == n/2 && c.Took[0] == n/2
}

// exchange is a request and its response again and again.
func (r *rig) exchange(request, response string) [2]side {
	return [2]side{
		{frame: r.packet(false, r.toPod, r.fromPod, "A", request), seq: r.toPod, step: uint32(len(request))},
		{fromPod: true, frame: r.packet(true, r.fromPod, r.toPod, "A", response), seq: r.fromPod, step: uint32(len(response))},
	}
}

// BenchmarkPacket is what a packet costs more than with a program that does nothing, by its kind: in a loop, so with all in the caches.
// Half of the packets are one side's. Rounds are interleaved, so that what else the machine does meets all alike; the median of the rounds.
func BenchmarkPacket(b *testing.B) {
	const packets = 20000
	nothing := emptyProgram(b)
	for _, k := range costs {
		b.Run(k.name, func(b *testing.B) {
			r := newRig(b, false)
			r.open()
			sides := k.sides(r)
			p := newPacer(b, sides)
			observers := [2]*ebpf.Program{r.objs.ObserveOut, r.objs.ObserveOut}
			for i, s := range sides {
				if s.fromPod {
					observers[i] = r.objs.ObserveIn
				}
			}
			q := newPacer(b, sides)
			var took, idle []time.Duration
			for b.Loop() {
				took = append(took, p.run(b, packets, observers))
				idle = append(idle, q.run(b, packets, [2]*ebpf.Program{nothing, nothing}))
			}
			if c := r.counts(); !k.want(&c, uint64(b.N*packets)) {
				b.Fatalf("%d rounds: %+v", b.N, c)
			}
			b.ReportMetric(float64(median(took)-median(idle)), "ns/packet")
			b.ReportMetric(float64(slices.Min(took)-slices.Min(idle)), "least-ns/packet")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
