package netns

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestBackOnKernelPath: after each excursion to the fallback, under load that never
// pauses, a connection is back on the kernel path within a few messages.
func TestBackOnKernelPath(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(faultsConfig, false))
			c := rawConnect(t, l, "back")
			_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
			const window, phase, phases = 8, 400, 6
			free := make(chan struct{}, 1<<16)
			for range window {
				free <- struct{}{}
			}
			failed := make(chan error, 1)
			go func() {
				var b [4]byte
				for {
					if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != 0x40 {
						failed <- fmt.Errorf("got % x: %w", b, err)
						return
					}
					free <- struct{}{}
				}
			}()
			id := 0
			publish := func(payload string) {
				select {
				case <-free:
				case err := <-failed:
					t.Fatal(err)
				}
				id++
				c.write(publishPacket("sensors/back/temp", 1, uint16(id), payload))
			}
			var table strings.Builder
			for p := range phases {
				before := s.counts()
				publish(strings.Repeat("L", 100<<10)) // an excursion: too long for the kernel path
				for i := range phase {
					publish(fmt.Sprint(p, " ", i))
				}
				after := s.counts()
				taken, _ := share(before, after)
				fmt.Fprintf(&table, " %d%%", taken*100/phase)
				if taken < phase*90/100 {
					t.Errorf("phase %d: the kernel took %d of %d messages after the excursion", p, taken, phase)
				}
			}
			t.Logf("share of the kernel path after each excursion:%s", table.String())
		})
	}
}

// TestPublishWhileReceiving: a client publishes and receives at full speed at the same time,
// pings, and runs QoS 1 and 2 handshakes as a subscriber: both directions are
// right.
func TestPublishWhileReceiving(t *testing.T) {
	for _, mode := range []string{"xdp", "tc"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, ok, nil)
			s := start(t, l, mode, podConfig(faultsConfig, false))
			before := s.counts()
			const n = 3000
			got := make(chan string, 4*n)
			sub := pahoSubscribe(t, l, "both", "news/#", func(payload string) { got <- payload })
			source := rawConnect(t, l, "source")
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			errs := make(chan error, 2)
			go func() { // what it receives
				for i := range n {
					if _, err := source.Write(publishPacket("news/x", 0, 0, fmt.Sprint(i))); err != nil {
						errs <- err
						return
					}
					if i%10 == 0 {
						if _, err := source.Write([]byte{packets.Pingreq << 4, 0}); err != nil {
							errs <- err
							return
						}
						var b [2]byte
						if _, err := io.ReadFull(source, b[:]); err != nil {
							errs <- err
							return
						}
					}
				}
				errs <- nil
			}()
			go func() { // what it publishes
				for i := range n {
					if token := sub.Publish("sensors/pub/temp", 1, false, sealed("pub", "temp", i, 20)); token.WaitTimeout(time.Minute) && token.Error() != nil {
						errs <- token.Error()
						return
					}
				}
				errs <- nil
			}()
			for range 2 {
				select {
				case err := <-errs:
					if err != nil {
						t.Fatal(err)
					}
				case <-ctx.Done():
					t.Fatal("stalled")
				}
			}
			for i := range n {
				select {
				case p := <-got:
					if p != fmt.Sprint(i) {
						t.Fatalf("received %q, want %d", p, i)
					}
				case <-ctx.Done():
					t.Fatalf("received %d of %d", i, n)
				}
			}
			reqs := r.wait(t, n)
			seen := make([]int, n)
			for _, q := range reqs {
				_, _, i, err := unseal(q.body)
				if err != nil {
					t.Fatal(err)
				}
				seen[i]++
			}
			for i, c := range seen {
				if c != 1 {
					t.Errorf("message %d delivered %d times", i, c)
				}
			}
			after := s.counts()
			taken, eligible := share(before, after)
			t.Logf("taken in the kernel: %d of %d eligible; PUBACKs by the socket: %d", taken, eligible, after["tc_pod_in/puback_handed"])
			if taken < n*95/100 {
				t.Errorf("the kernel took %d of %d messages", taken, n)
			}
		})
	}
}
