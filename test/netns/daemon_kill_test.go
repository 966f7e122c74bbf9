package netns

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// TestKillUnderLoad: kill -9 at random moments under load. Every connection ends for the
// device, nothing acknowledged is missing at the functions, and a new run
// starts clean over what is left.
func TestKillUnderLoad(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			seed := seedOf(t)
			rng := rand.New(rand.NewPCG(seed, 9))
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			abs, err := filepath.Abs(bin)
			if err != nil {
				t.Fatal(err)
			}
			run := func() *lab.Process {
				p, err := l.StartEproxy(context.Background(), t.TempDir(), lab.Eproxy{Bin: abs, Mode: mode, Config: podConfig(faultsConfig, false)})
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			p := run()
			devices := newFleet(l, seed, 5, 1500)
			done := make(chan struct{})
			go func() {
				defer close(done)
				fleet(t, devices, 4*time.Minute)
			}()
			for range 4 {
				have, _ := r.all()
				r.wait(t, len(have)+100+rng.IntN(300))
				p.Kill()
				p = run()
			}
			<-done
			s := &system{Process: p, t: t, lab: l, mode: mode}
			s.slotsReturn(t)
			got, _ := r.all()
			duplicates, err := check(got, devices)
			if err != nil {
				t.Error(err)
			}
			redials := 0
			for _, d := range devices {
				redials += d.redials
			}
			t.Logf("%d reconnects, %d duplicates", redials, duplicates)
			if redials < len(devices) {
				t.Error("no connection broke: the test tests nothing")
			}
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
