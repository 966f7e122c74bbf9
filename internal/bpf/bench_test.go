package bpf

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// BenchmarkMessage takes and answers one QoS 1 message with a payload of 64
// bytes per iteration; ns per packet are the kernel's own figures.
func BenchmarkMessage(b *testing.B) {
	for _, hook := range []string{"xdp", "tc"} {
		b.Run(hook, func(b *testing.B) {
			r := newRig(b, false)
			prog := r.objs.XdpDevice
			if hook == "tc" {
				prog = r.objs.TcDeviceIn
			}
			benchmark(b, r, prog, func(int) string { return "sensors/a/temp" })
		})
	}
}

// BenchmarkCopied is the same on an also_broker route: each message is copied for subscribers, and the copy read.
func BenchmarkCopied(b *testing.B) {
	for _, hook := range []string{"xdp", "tc"} {
		b.Run(hook, func(b *testing.B) {
			r := newRig(b, false)
			r.copying()
			prog := r.objs.XdpDevice
			if hook == "tc" {
				prog = r.objs.TcDeviceIn
			}
			copies := r.copies()
			go func() {
				for rec := (ringbuf.Record{}); copies.ReadInto(&rec) == nil; {
				}
			}()
			benchmark(b, r, prog, func(int) string { return "sensors/a/temp" })
		})
	}
}

// benchmark runs the conversation of b.N messages, and checks that the kernel path took all.
func benchmark(b *testing.B, r *rig, prog *ebpf.Program, topic func(i int) string) {
	payload := fmt.Sprintf("%064d", 1)
	requestLen := len(wantRequest(1, 1, payload)) - len("sensors/a/temp")
	pubs, responses := conversation(r, b.N, func(i int) ([]byte, int) {
		return publish(topic(i), 1, uint16(i%60000+1), payload), requestLen + len(topic(i))
	})
	converse(b, r, prog, pubs, responses)
}

// converse runs a conversation, and checks that the kernel path took all of it.
func converse(b *testing.B, r *rig, prog *ebpf.Program, pubs, responses [][]byte) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Fatal(err)
	}
	defer stats.Close()
	out := make([]byte, 4096)
	runOnce := func(p *ebpf.Program, frame []byte) {
		if _, err := p.Run(&ebpf.RunOptions{Data: frame, DataOut: out}); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	before, responsesBefore := statsOf(b, prog), statsOf(b, r.objs.TcPodIn)
	for i := range pubs {
		runOnce(prog, pubs[i])
		runOnce(r.objs.TcPodIn, responses[i])
	}
	if n := r.reason(EproxyHookHOOK_TC_POD_IN, EproxyReasonREASON_RESPONSE); n != uint64(len(pubs)) {
		b.Fatalf("%d of %d answered: %v", n, len(pubs), r.allReasons())
	}
	b.ReportMetric(perRun(before, statsOf(b, prog)), "ns/publish")
	b.ReportMetric(perRun(responsesBefore, statsOf(b, r.objs.TcPodIn)), "ns/response")
}

// conversation is what n messages of one device and their responses look like on
// the wire; every position follows from the one before. message is the i-th PUBLISH, and the length of its request.
func conversation(r *rig, n int, message func(i int) (pub []byte, requestLen int)) (pubs, responses [][]byte) {
	response := []byte("HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\nContent-Length: 3\r\nContent-Type: text/plain\r\n\r\nok\n")
	wire, wack, pwire, pack := uint32(devISS), uint32(nodISS), uint32(podISS), uint32(sltISS)
	for i := range n {
		pub, requestLen := message(i)
		s := r.fromDevice(wire, "PA", pub)
		s.ack = wack
		pubs = append(pubs, s.frame(r.t))
		wire += uint32(len(pub))
		pack += uint32(requestLen)
		responses = append(responses, r.fromPod(pwire, pack, "PA", response).frame(r.t))
		pwire += uint32(len(response))
		wack += 4
	}
	return pubs, responses
}

func statsOf(b *testing.B, p *ebpf.Program) *ebpf.ProgramStats {
	st, err := p.Stats()
	if err != nil {
		b.Fatal(err)
	}
	return st
}

// perRun is the time of one run between two readings, nanoseconds.
func perRun(before, after *ebpf.ProgramStats) float64 {
	return float64((after.Runtime - before.Runtime).Nanoseconds()) / float64(after.RunCount-before.RunCount)
}
