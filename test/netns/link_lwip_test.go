package netns

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/link"
)

// TestLwIPDevices: devices with lwIP's TCP, which has neither SACK nor timestamps and cuts
// and repeats otherwise than Linux, over links that lose and reorder. Everything
// arrives and is acknowledged, no connection breaks, and some of it the programs take.
func TestLwIPDevices(t *testing.T) {
	seed := seedOf(t)
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l, k := newLinked(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(faultsConfig, false))
			startLwIP(t, l)
			for _, c := range []struct {
				name   string
				params link.Params
			}{
				{"good link", link.Params{Delay: time.Millisecond}},
				{"loss", link.Params{Delay: time.Millisecond, Loss: 0.03}},
				{"reordering", link.Params{Delay: time.Millisecond, Jitter: 500 * time.Microsecond, Reorder: 0.1, Hold: 2 * time.Millisecond}},
			} {
				t.Run(c.name, func(t *testing.T) {
					k.Begin(seed, both(c.params))
					before := s.counts()
					devices := newFleet(l, seed, 5, 60)
					for _, d := range devices {
						d.dial = func(ctx context.Context) (net.Conn, error) { return l.DialLwIP(ctx) }
					}
					fleet(t, devices, 4*time.Minute)
					s.checkFleet(t, r, devices, before, true)
					if taken, _ := share(before, s.counts()); taken == 0 {
						t.Error("the programs took nothing")
					}
					if n := k.Counts(uplink).Lost + k.Counts(downlink).Lost; (n > 0) != (c.params.Loss > 0) {
						t.Errorf("the link lost %d packets", n)
					}
				})
			}
		})
	}
}

// startLwIP runs lwIP beside the kernel's TCP on the devices' host until the test ends.
func startLwIP(t *testing.T, l *lab.Lab) {
	t.Helper()
	relay, err := filepath.Abs(filepath.Join(bin, "lwip-relay"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.StartLwIP(context.Background(), relay)
	if err != nil {
		t.Fatalf("%v (make bin/lwip-relay builds it)", err)
	}
	t.Cleanup(p.Kill)
}
