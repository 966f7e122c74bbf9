package netns

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestFloodingClient: one client floods a function that does not answer; it gets the
// messages in flight that it may have and no more, the rest waits in its own
// connection, and another client is served.
func TestFloodingClient(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			gate := make(chan struct{})
			open := sync.OnceFunc(func() { close(gate) })
			defer open()
			r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
				if strings.HasSuffix(q.Header.Get("ce-source"), "/flood") {
					select {
					case <-gate:
					case <-q.Context().Done():
					}
				}
				ok(n, w, q)
			}, nil)
			cfg := strings.Replace(podConfig(failureConfig, false), "DEAD", "concurrency: 8", 1)
			cfg = strings.Replace(cfg, "timeout: 1s", "timeout: 60s", 1) + "limits: {inflight_per_client: 3}\n"
			s := start(t, l, mode, cfg)
			flood := rawConnect(t, l, "flood")
			_ = flood.SetDeadline(time.Now().Add(2 * time.Minute))
			const n = 3000
			written := make(chan error, 1)
			go func() {
				for i := range n {
					if _, err := flood.Write(publishPacket("sensors/flood/temp", 1, uint16(i+1), fmt.Sprintf("flood %d %s", i, strings.Repeat("f", 1000)))); err != nil {
						written <- err
						return
					}
				}
				written <- nil
			}()
			r.wait(t, 3)
			other := rawConnect(t, l, "other")
			for i := range 200 {
				other.publish("sensors/other/temp", uint16(i+1), fmt.Sprintf("other %d", i))
			}
			got, _ := r.all()
			inFlight := 0
			for _, q := range got {
				if strings.HasPrefix(q.body, "flood") {
					inFlight++
				}
			}
			// the kernel path and the fallback each hold to the limit
			if limit := 6; inFlight > limit {
				t.Errorf("%d messages of the flooding client in flight, at most %d", inFlight, limit)
			}
			t.Logf("%d messages of the flooding client were in flight", inFlight)
			if mode != "fallback" {
				if taken, _ := share(nil, s.counts()); taken < 200 {
					t.Errorf("the kernel took %d messages, at least the other client's 200 expected", taken)
				}
			}
			open()
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			seen := map[int]bool{}
			buf := make([]byte, 4*n)
			for have := 0; have < len(buf); {
				k, err := flood.Read(buf[have:])
				if err != nil {
					t.Fatalf("after %d acknowledgements: %v", have/4, err)
				}
				have += k
			}
			for i := 0; i < len(buf); i += 4 {
				id := int(buf[i+2])<<8 | int(buf[i+3])
				if buf[i] != 0x40 || seen[id] {
					t.Fatalf("unexpected % x", buf[i:i+4])
				}
				seen[id] = true
			}
		})
	}
}
