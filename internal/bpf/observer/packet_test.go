package observer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

const (
	get  = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
	head = "HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n"
	ok   = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
)

// want is what the counters say after a case.
type want struct {
	requests, unanswered, unknown uint64
	responses                     [8]uint64
	unfollowed                    ObserveObserveWhy // what once happened; WHY_COUNT: nothing
	protocol                      ObserveObserveProtocol
	inFlight                      uint32
}

func classes(n1, n2, n3, n4, n5 uint64) [8]uint64 { return [8]uint64{0, n1, n2, n3, n4, n5} }

const (
	followed = ObserveObserveWhyWHY_COUNT
	http1    = ObserveObserveProtocolPROTOCOL_HTTP1
)

var cases = []struct {
	name string
	run  func(r *rig)
	want want
}{
	{"keep-alive", func(r *rig) {
		for range 3 {
			r.asks(get)
			r.answers(ok)
		}
	}, want{requests: 3, responses: classes(0, 3, 0, 0, 0), unfollowed: followed, protocol: http1}},
	{"pipelined, in one segment", func(r *rig) {
		r.asks(get + get + head + get)
		r.answers(ok + "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + ok[:30])
		r.answers(ok[30:])
	}, want{requests: 4, responses: classes(0, 3, 0, 1, 0), unfollowed: followed, protocol: http1}},
	{"in flight", func(r *rig) { r.asks(get + get) }, want{requests: 2, unfollowed: followed, protocol: http1, inFlight: 2}},
	{"byte by byte", func(r *rig) {
		for i := range get {
			r.asks(get[i : i+1])
		}
		for i := range ok {
			r.answers(ok[i : i+1])
		}
	}, want{requests: 1, responses: classes(0, 1, 0, 0, 0), unfollowed: followed, protocol: http1}},
	{"every segment twice", func(r *rig) {
		for range 2 {
			r.run(false, r.packet(false, r.toPod, r.fromPod, "A", get))
		}
		for range 2 {
			r.run(true, r.packet(true, r.fromPod, r.toPod+uint32(len(get)), "A", ok))
		}
		r.toPod += uint32(len(get))
		r.fromPod += uint32(len(ok))
	}, want{requests: 1, responses: classes(0, 1, 0, 0, 0), unfollowed: followed, protocol: http1}},
	{"a body in the wrong order", func(r *rig) {
		r.asks(get)
		r.answers("HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n")
		part := strings.Repeat("b", 1000)
		for _, n := range []uint32{1000, 0, 2000} {
			r.run(true, r.packet(true, r.fromPod+n, r.toPod, "A", part))
		}
		r.fromPod += 3000
		r.asks(get)
		r.answers(ok)
	}, want{requests: 2, responses: classes(0, 2, 0, 0, 0), unfollowed: followed, protocol: http1}},
	{"a head that was not seen", func(r *rig) {
		r.asks(get)
		r.run(true, r.packet(true, r.fromPod+100, r.toPod, "A", ok))
		r.answers(ok)
	}, want{requests: 1, unknown: 1, unfollowed: ObserveObserveWhyWHY_GAP, protocol: http1}},
	{"interim responses", func(r *rig) {
		r.asks("PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
		r.answers("HTTP/1.1 100 Continue\r\n\r\n")
		r.asks("ok")
		r.answers("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok)
	}, want{requests: 1, responses: classes(2, 1, 0, 0, 0), unfollowed: followed, protocol: http1}},
	{"upgrade", func(r *rig) {
		r.asks("GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		r.answers("HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02hi")
		r.asks(get)
	}, want{requests: 1, responses: classes(1, 0, 0, 0, 0), unfollowed: followed, protocol: ObserveObserveProtocolPROTOCOL_UPGRADED}},
	{"HTTP/2", func(r *rig) { r.asks("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") }, want{unfollowed: followed, protocol: ObserveObserveProtocolPROTOCOL_HTTP2}},
	{"TLS", func(r *rig) { r.asks("\x16\x03\x01\x00\x01x") }, want{unfollowed: followed, protocol: ObserveObserveProtocolPROTOCOL_TLS}},
	{"another protocol", func(r *rig) { r.asks("\x00\x01\n") }, want{unfollowed: followed, protocol: ObserveObserveProtocolPROTOCOL_OTHER}},
	{"until the end of the connection", func(r *rig) {
		r.asks(get)
		r.answers("HTTP/1.1 200 OK\r\n\r\nsome")
		r.run(true, r.packet(true, r.fromPod, r.toPod, "FA", ""))
	}, want{requests: 1, responses: classes(0, 1, 0, 0, 0), unfollowed: followed, protocol: http1}},
	{"idle connection is reaped", func(r *rig) {
		r.asks(get)
		r.answers(ok)
		r.run(true, r.packet(true, r.fromPod, r.toPod, "FA", ""))
		r.run(false, r.packet(false, r.toPod, r.fromPod+1, "RA", ""))
	}, want{requests: 1, responses: classes(0, 1, 0, 0, 0), unfollowed: followed, protocol: http1}},
	{"abort", func(r *rig) {
		r.asks(get + get)
		r.answers(ok)
		r.run(false, r.packet(false, r.toPod, r.fromPod, "RA", ""))
	}, want{requests: 2, unanswered: 1, responses: classes(0, 1, 0, 0, 0), unfollowed: followed, protocol: http1}},
	{"RST at a wrong place", func(r *rig) {
		r.asks(get)
		r.run(true, r.packet(true, r.fromPod+5000, r.toPod, "RA", ""))
		r.answers(ok)
	}, want{requests: 1, responses: classes(0, 1, 0, 0, 0), unfollowed: followed, protocol: http1}},
	{"the client ends its direction first", func(r *rig) {
		r.run(false, r.packet(false, r.toPod, r.fromPod, "FA", get))
		r.toPod += uint32(len(get)) + 1
		r.answers(ok)
	}, want{requests: 1, responses: classes(0, 1, 0, 0, 0), unfollowed: followed, protocol: http1}},
	{"the 4-tuple is used again", func(r *rig) {
		r.asks(get)
		r.toPod += 70000
		r.open()
		r.asks(get)
		r.answers(ok)
	}, want{requests: 2, unanswered: 1, responses: classes(0, 1, 0, 0, 0), unfollowed: followed, protocol: http1}},
	{"a response that nobody asked for", func(r *rig) {
		r.asks(get)
		r.answers(ok + "HTTP/1.1 408 Request Timeout\r\n\r\n")
	}, want{requests: 1, responses: classes(0, 1, 0, 0, 0), unfollowed: ObserveObserveWhyWHY_UNASKED, protocol: http1}},
	{"too many in flight", func(r *rig) { r.asks(strings.Repeat(get, 17)) },
		want{requests: 16, unknown: 16, unfollowed: ObserveObserveWhyWHY_DEPTH, protocol: http1}},
	{"malformed response", func(r *rig) {
		r.asks(get)
		r.answers("HTTP/1.1 20x\r\n")
	}, want{requests: 1, unknown: 1, unfollowed: ObserveObserveWhyWHY_MALFORMED, protocol: http1}},
}

// TestPackets: what the programs count of segments, of both families, with sequence numbers that wrap.
func TestPackets(t *testing.T) {
	for _, c := range cases {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, "/ipv6=", ipv6), func(t *testing.T) {
				r := newRig(t, ipv6)
				r.open()
				c.run(r)
				got := r.counts()
				if got.Requests != c.want.requests || got.Unanswered != c.want.unanswered || got.Unknown != c.want.unknown || got.Responses != c.want.responses {
					t.Errorf("%d requests, %d unanswered, %d unknown, responses %v; want %+v", got.Requests, got.Unanswered, got.Unknown, got.Responses, c.want)
				}
				for i, n := range got.Unfollowed {
					if (n == 1) != (i == int(c.want.unfollowed)) {
						t.Errorf("reason %d: %d connections", i, n)
					}
				}
				if got.Protocols[c.want.protocol] == 0 {
					t.Errorf("protocols %v, want %d", got.Protocols, c.want.protocol)
				}
				if n := r.inFlight(); n != c.want.inFlight {
					t.Errorf("%d in flight, want %d", n, c.want.inFlight)
				}
			})
		}
	}
}

// TestBytesAreCountedOnce: payload counts once, also in front of a hole and behind it.
func TestBytesAreCountedOnce(t *testing.T) {
	r := newRig(t, false)
	r.open()
	r.asks(get)
	r.answers("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n")
	for _, n := range []uint32{200, 100, 0, 100} {
		r.run(true, r.packet(true, r.fromPod+n, r.toPod, "A", strings.Repeat("b", 100)))
	}
	c := r.counts()
	if c.RequestBytes != uint64(len(get)) || c.ResponseBytes != 39+300+1 {
		t.Errorf("%d bytes of requests, %d of responses", c.RequestBytes, c.ResponseBytes)
	}
}

// TestJoined: a connection that was open before is followed from a request on, and from nothing else.
func TestJoined(t *testing.T) {
	r := newRig(t, false)
	r.answers("rest of a body")
	r.asks(get)
	r.answers(ok)
	if c := r.counts(); c.Requests != 1 || c.Responses[2] != 1 || c.Took[0] != 1 {
		t.Errorf("%d requests, responses %v", c.Requests, c.Responses)
	}
	r = newRig(t, false)
	r.asks("rest of a body\r\n")
	r.asks(get)
	if c := r.counts(); c.Requests != 0 || c.Unfollowed[ObserveObserveWhyWHY_JOINED] != 1 {
		t.Errorf("%d requests, not followed %v", c.Requests, c.Unfollowed)
	}
}

// TestForget: idle connections are forgotten, those on which something is awaited later.
func TestForget(t *testing.T) {
	r := newRig(t, false)
	r.open()
	r.asks(get)
	forget := func(idle, gone uint64) ObserveObserveSweep {
		args, out := ObserveObserveSweep{IdleNs: idle, GoneNs: gone, Pod: ^uint32(0)}, ObserveObserveSweep{}
		if _, err := r.objs.ObserveForget.Run(&ebpf.RunOptions{Context: &args, ContextOut: &out}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if s := forget(0, 1<<60); s.Kept != 1 || s.Forgotten != 0 {
		t.Fatalf("with a request in flight: %+v", s)
	}
	if s := forget(0, 0); s.Kept != 0 || s.Forgotten != 1 || r.counts().Unanswered != 1 || r.inFlight() != 0 {
		t.Fatalf("for long: %+v, %d in flight", s, r.inFlight())
	}
}

// TestVerified: the programs stay far below what the verifier follows.
func TestVerified(t *testing.T) {
	o := newRig(t, false).objs
	for _, p := range []*ebpf.Program{o.ObserveIn, o.ObserveOut, o.ObserveForget} {
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := info.VerifiedInstructions(); ok && n > 750000 {
			t.Errorf("%s: %d instructions", info.Name, n)
		}
	}
}

// BenchmarkExchange is what a request and its response cost, in nanoseconds for each packet: of a pod that is observed,
// of an address that is no pod, and of a program that does nothing, which is what measuring costs. The packets are the
// same in every round, and rounds are interleaved, so that what else the machine does meets all alike.
func BenchmarkExchange(b *testing.B) {
	request := "POST /ingest HTTP/1.1\r\nHost: temp.local\r\nUser-Agent: bench\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n" + strings.Repeat("x", 20)
	response := "HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
	r, nothing := newRig(b, false), emptyProgram(b)
	r.open()
	kinds := []struct {
		name    string
		program [2]*ebpf.Program
		port    byte // the lowest of the pod's port
		took    [2][]time.Duration
	}{
		{name: "pod", program: [2]*ebpf.Program{r.objs.ObserveOut, r.objs.ObserveIn}, port: 8080 & 0xff},
		{name: "other", program: [2]*ebpf.Program{r.objs.ObserveOut, r.objs.ObserveIn}, port: 8081 & 0xff},
		{name: "nothing", program: [2]*ebpf.Program{nothing, nothing}, port: 8080 & 0xff},
	}
	const source, destination = 34, 36 // of TCP's ports behind Ethernet and IPv4 without options
	for b.Loop() {
		packets := [2][]byte{r.packet(false, r.toPod, r.fromPod, "A", request), r.packet(true, r.fromPod, r.toPod+uint32(len(request)), "A", response)}
		for i := range kinds {
			k := &kinds[i]
			packets[0][destination+1], packets[1][source+1] = k.port, k.port
			for n, prog := range k.program {
				_, took, err := prog.Benchmark(packets[n], 1, nil)
				if err != nil {
					b.Fatal(err)
				}
				k.took[n] = append(k.took[n], took)
			}
		}
		r.toPod += uint32(len(request))
		r.fromPod += uint32(len(response))
	}
	if got := r.counts(); got.Requests != uint64(b.N) || got.Responses[2] != uint64(b.N) {
		b.Fatalf("%d requests and %d responses of %d were followed", got.Requests, got.Responses[2], b.N)
	}
	for i := range kinds {
		for n, what := range []string{"request", "response"} {
			slices.Sort(kinds[i].took[n])
			b.ReportMetric(float64(kinds[i].took[n][len(kinds[i].took[n])/2].Nanoseconds()), kinds[i].name+"-ns/"+what)
		}
	}
}

// emptyProgram leaves every packet to what is behind it.
func emptyProgram(b *testing.B) *ebpf.Program {
	b.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.Close() })
	return p
}

// TestForgetOfPod: all connections of a pod that has left go, others stay.
func TestForgetOfPod(t *testing.T) {
	for pod, want := range map[uint32]uint32{0: 0, 1: 1} {
		r := newRig(t, false)
		r.open()
		r.asks(get)
		args, out := ObserveObserveSweep{IdleNs: 1 << 60, GoneNs: 1 << 60, Pod: pod}, ObserveObserveSweep{}
		if _, err := r.objs.ObserveForget.Run(&ebpf.RunOptions{Context: &args, ContextOut: &out}); err != nil {
			t.Fatal(err)
		}
		if out.Kept != want || r.inFlight() != want {
			t.Errorf("pod %d: %+v, %d in flight", pod, out, r.inFlight())
		}
	}
}

// TestInFlightWraps: the integral is right when what the word knows of it has wrapped, and never shrinks.
func TestInFlightWraps(t *testing.T) {
	began := uint64(1)<<IntegralBits - 1<<20
	f := ObserveObserveFlight{All: 1 - began>>unitBits<<nowBits}
	f.All += 1 - (began+1<<19)>>unitBits<<nowBits
	a, b := f.At(began+1<<20).All, f.At(began+1<<22).All
	if a.Now != 2 || b.Now != 2 || Since(a.Integral, b.Integral) != 2*(1<<22-1<<20) || Since(0, a.Integral) != 1<<20+1<<19 {
		t.Errorf("%+v, then %+v", a, b)
	}
	if n := Since(b.Integral, a.Integral); n != 0 {
		t.Errorf("shrunk by %d", n)
	}
	marked := ObserveObserveFlight{Marked: [2]uint64{f.At(0).All.Integral, ^uint64(0)}} // -1: over before it had its mark
	if n := marked.At(0).Marked[1].Now; n != -1 {
		t.Errorf("%d in flight, want -1", n)
	}
}
