package netns

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eproxy/test/lib/lab"
	devices "eproxy/test/lib/load"
)

// sharesConfig has the defaults of everything but what must be given, and concurrency where a test wants another.
const sharesConfig = `functions:
  - {name: temp, url: "http://temp.local/ingest", pods: ["%[1]s", "%[2]s"]CONCURRENCY}
routes:
  - {topic: sensors/+/temp, function: temp}
`

const (
	sharing  = 20 // clients with inFlight messages each
	inFlight = 50
	windows  = 4 // that are filled
)

// flooding is how many messages one more client has in flight, by where they wait. In the kernel a client can have 1,024
// of QoS 1, and what is beyond waits in userspace, at the same time. In userspace alone the others would have a third of
// an equal share if messages were served in the order in which they come.
var flooding = []struct {
	name, mode string
	inFlight   int
}{{"kernel", "tc", 10 * inFlight}, {"both", "tc", 40 * inFlight}, {"fallback", "fallback", 40 * inFlight}}

// shares counts what reaches a function, in the order in which it does, by client.
type shares struct {
	sent [sharing + 1]atomic.Int64

	mu      sync.Mutex
	arrived [sharing + 1]int
	seen    int           // in the window
	current window        // that is being filled
	equal   int           // messages of each client in a window, if all have as many
	closed  []window      // those that are full
	full    chan struct{} // closed when there are enough
}

// window is what arrived of so many messages that followed each other, by client.
type window struct {
	of      [sharing + 1]int
	waiting [sharing + 1]bool // it had messages that had not arrived, all the time
}

func newShares(equal int) *shares { return &shares{equal: equal, full: make(chan struct{})} }

// waits says whether a client has messages that have not arrived; s.mu is held.
func (s *shares) waits(client int) bool { return int(s.sent[client].Load()) > s.arrived[client] }

// arrive notes a message of a client.
func (s *shares) arrive(client int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == 0 {
		s.current = window{}
		for i := range s.current.waiting {
			s.current.waiting[i] = s.waits(i)
		}
	}
	s.arrived[client]++
	s.seen++
	s.current.of[client]++
	s.current.waiting[client] = s.current.waiting[client] && s.waits(client)
	if s.seen == s.equal*(sharing+1) {
		s.seen = 0
		if s.closed = append(s.closed, s.current); len(s.closed) == windows {
			close(s.full)
		}
	}
}

// counting counts what a client has sent.
type counting struct {
	devices.Conn
	sent *atomic.Int64
}

func (c counting) Send(n int) error {
	err := c.Conn.Send(n)
	c.sent.Add(1)
	return err
}

// TestEqualShares: while clients have messages waiting each gets at least half of an equal share of what the function
// serves, over any messages that it gets one after the other, though one client has at least ten times as many
// in flight; on either path, with default settings, and with pods that serve one request at a time.
func TestEqualShares(t *testing.T) {
	for _, flood := range flooding {
		for _, c := range []struct {
			name, concurrency string
			work              time.Duration // that a message is for the function
			equal             int           // messages of each client in a window: some tenths of a second
		}{{"default", "", 2 * time.Millisecond, 100}, {"one", ", concurrency: 1", 200 * time.Microsecond, 60}} {
			t.Run(flood.name+"/"+c.name, func(t *testing.T) {
				l := newLab(t)
				s := newShares(c.equal)
				h := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
					var client int
					if _, err := fmt.Sscanf(q.Header.Get("ce-subject"), "sensors/%d/temp", &client); err != nil {
						t.Errorf("ce-subject %q: %v", q.Header.Get("ce-subject"), err)
						return
					}
					s.arrive(client)
					time.Sleep(c.work)
					ok(0, w, q)
				})
				for _, pod := range []lab.Role{lab.Pod0, lab.Pod1} {
					serveOn(t, l, pod, net.JoinHostPort(lab.PodAddr(pod, false).String(), "8080"), h, nil)
				}
				y := start(t, l, flood.mode, podConfig(strings.Replace(sharesConfig, "CONCURRENCY", c.concurrency, 1), false))
				s.run(t, l, flood.inFlight)
				s.judge(t)
				if flood.mode != "fallback" {
					taken, eligible := share(nil, y.counts())
					t.Logf("the kernel took %d of %d messages", taken, eligible)
				}
			})
		}
	}
}

// run has the clients send until there are enough windows.
func (s *shares) run(t *testing.T, l *lab.Lab, flood int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*stallLimit)
	defer cancel()
	device := devices.MQTT{Topic: func(i int) string { return fmt.Sprintf("sensors/%d/temp", i) }, Payload: 20, Dial: func(ctx context.Context) (net.Conn, error) {
		return l.Dial(ctx, lab.Dev, net.JoinHostPort(lab.NodeV4.String(), "1883"))
	}}
	from := func(first int) devices.Dialer {
		return func(ctx context.Context, i int) (devices.Conn, error) {
			c, err := device.Open(ctx, first+i)
			if err != nil {
				return nil, err
			}
			return counting{c, &s.sent[first+i]}, nil
		}
	}
	var running sync.WaitGroup
	for _, p := range []struct{ first, clients, inFlight int }{{0, sharing, inFlight}, {sharing, 1, flood}} {
		running.Go(func() {
			if _, err := devices.Run(ctx, from(p.first), devices.Plan{Connections: p.clients, InFlight: p.inFlight, Duration: 2 * stallLimit}); ctx.Err() == nil {
				t.Errorf("%d clients: %v", p.clients, err)
			}
		})
	}
	select {
	case <-s.full:
	case <-ctx.Done():
		t.Errorf("%d of %d windows are full", len(s.closed), windows)
	}
	cancel()
	running.Wait()
}

// judge looks at all windows but the first, in which the clients began.
func (s *shares) judge(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	looked, least := 0, s.equal
	for i, w := range s.closed[min(1, len(s.closed)):] {
		for client, n := range w.of {
			if !w.waiting[client] {
				continue
			}
			looked++
			if least = min(least, n); n < s.equal/2 {
				t.Errorf("window %d: client %d got %d messages to the function, an equal share is %d: %v", i+1, client, n, s.equal, w.of)
			}
		}
	}
	t.Logf("least share %d of %d; %d clients' windows of %d with messages waiting all the time; the last: %v", least, s.equal, looked, (sharing+1)*(windows-1), s.closed[len(s.closed)-1].of)
	if most := (sharing + 1) * (windows - 1); looked < most/2 {
		t.Errorf("clients had messages waiting in %d of %d cases: nothing is shown", looked, most)
	}
}
