package bpf

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
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
			stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
			if err != nil {
				b.Fatal(err)
			}
			defer stats.Close()
			payload := fmt.Sprintf("%064d", 1)
			answer := []byte("HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\nContent-Length: 3\r\nContent-Type: text/plain\r\n\r\nok\n")
			wire, wack, pwire, pack := uint32(devISS), uint32(nodISS), uint32(podISS), uint32(sltISS)
			requestLen := uint32(len(wantRequest(1, 1, payload)))
			for i := range b.N {
				pub := publish("sensors/a/temp", 1, uint16(i%60000+1), payload)
				s := r.fromDevice(wire, "PA", pub)
				s.ack = wack
				r.run(prog, s)
				wire += uint32(len(pub))
				pack += requestLen
				r.run(r.objs.TcPodIn, r.fromPod(pwire, pack, "PA", answer))
				pwire += uint32(len(answer))
				wack += 4
			}
			if n := r.reason(EproxyHookHOOK_TC_POD_IN, EproxyReasonREASON_ANSWERED); n != uint64(b.N) {
				b.Fatalf("%d of %d answered", n, b.N)
			}
			b.ReportMetric(perRun(b, prog), "ns/publish")
			b.ReportMetric(perRun(b, r.objs.TcPodIn), "ns/answer")
		})
	}
}

func perRun(b *testing.B, p *ebpf.Program) float64 {
	st, err := p.Stats()
	if err != nil {
		b.Fatal(err)
	}
	return float64(st.Runtime.Nanoseconds()) / float64(st.RunCount)
}
