package netns

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// hung is how long no message waits in a system that works, however slow the machine: below the 30 s
// of gunicorn's watchdog.
const hung = 20 * time.Second

// TestShippedServers: servers with their own defaults, one pod each, and eproxy with its own (but for retries that
// outlast a restart). The first message after silence, many at once, and a server that is killed and comes
// back: each message is acknowledged, is in the server's log, once where nothing failed, and no worker is lost to its watchdog.
func TestShippedServers(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel() // most of the time nothing happens, on purpose
			l := newLab(t)
			servers := startShipped(t, l)
			clock := newQuiet(t, l)
			start(t, l, mode, shippedConfig(servers))
			each := func(name string, f func(t *testing.T, s *serving, name string)) {
				t.Run(name, func(t *testing.T) {
					for _, s := range servers {
						t.Run(s.name, func(t *testing.T) {
							t.Parallel()
							f(t, s, name)
							s.checkWatchdog(t)
						})
					}
				})
			}
			clock.wait(t)
			each("idle", oneAfterSilence)
			each("burst", burstOf60)
			clock.wait(t)
			each("idle again", oneAfterSilence)
			each("restart", restartUnderLoad)
		})
	}
}

// startShipped starts all of them at once.
func startShipped(t *testing.T, l *lab.Lab) []*serving {
	t.Helper()
	var servers []*serving
	for i, k := range allShipped() {
		servers = append(servers, serveShipped(t, l, k, 8500+i))
	}
	return servers
}

func shippedConfig(servers []*serving) string {
	var fns, routes strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&fns, "  - {name: %s, url: \"http://%s.local/ingest\", pods: [%q], retry: {attempts: 40, backoff: 20ms, max_backoff: 500ms}}\n", s.name, s.name, s.address())
		fmt.Fprintf(&routes, "  - {topic: sensors/+/%s, function: %s}\n", s.name, s.name)
	}
	return "functions:\n" + fns.String() + "routes:\n" + routes.String()
}

// quiet is a server with a keep-alive of 5 s, the longest of those that end within the patience of a test.
type quiet struct {
	lab     *lab.Lab
	address string
}

func newQuiet(t *testing.T, l *lab.Lab) *quiet {
	t.Helper()
	for _, k := range allShipped() {
		if k.name == "node" {
			return &quiet{l, serveShipped(t, l, k, 8499).address()}
		}
	}
	t.Fatal("no server to wait for")
	return nil
}

// wait waits until the server has closed a connection that was used once: whatever else was used before
// has been silent for as long, and servers with the same keep-alive or a shorter one have closed it.
func (q *quiet) wait(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hung)
	defer cancel()
	c, err := q.lab.Dial(ctx, lab.Node, q.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(hung))
	if _, err := io.WriteString(c, "POST /ingest HTTP/1.1\r\nHost: quiet\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Fatalf("the server does not close: %v", err)
	}
}

// shippedMessages are QoS 1 messages with a topic each, by which they are found in a server's log.
func shippedMessages(s *serving, prefix string, n int) iter.Seq[message] {
	return func(yield func(message) bool) {
		for i := range n {
			if !yield(message{topic: fmt.Sprintf("sensors/%s-%d/%s", prefix, i, s.name), payload: fmt.Sprint(i), qos: 1}) {
				return
			}
		}
	}
}

// oneAfterSilence: nobody has to wait because nothing happened for a while, neither a message nor
// anybody else who asks the server.
func oneAfterSilence(t *testing.T, s *serving, name string) {
	ms := slices.Collect(shippedMessages(s, strings.ReplaceAll(name, " ", "-"), 1))
	if !s.held {
		s.answers(t)
	}
	if err := rawConnect(t, s.lab, "one-"+s.name).tryPublishAll(slices.Values(ms), 1, hung); err != nil {
		t.Error(err)
		return
	}
	if n := s.wait(t, ms)[ms[0].topic]; n > 1 {
		t.Errorf("the message came %d times", n)
	}
}

// burstOf60: 60 messages at once from three clients, each exactly once, but for one: `pipeline: auto` tries a pair, and
// a server that forgets the second request until its connection ends (gunicorn's threads do) serves it then, too.
func burstOf60(t *testing.T, s *serving, _ string) {
	var all []message
	var wg sync.WaitGroup
	for i := range 3 {
		ms := slices.Collect(shippedMessages(s, fmt.Sprintf("burst%d", i), 20))
		all = append(all, ms...)
		c := rawConnect(t, s.lab, fmt.Sprintf("burst%d-%s", i, s.name))
		wg.Go(func() {
			if err := c.tryPublishAll(slices.Values(ms), len(ms), hung); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	n, again := s.wait(t, all), 0
	for _, m := range all {
		again += n[m.topic] - 1
	}
	if again > 1 {
		t.Errorf("%d of them came again: %v", again, n)
	}
}

// restartUnderLoad: the server is killed with all its processes under light load, and started again.
func restartUnderLoad(t *testing.T, s *serving, _ string) {
	const some = 20
	var sent []message // until the load has ended
	enough := make(chan struct{})
	load := func(yield func(message) bool) {
		for m := range shippedMessages(s, "restart", math.MaxUint16) {
			select {
			case <-enough:
				return
			default:
			}
			sent = append(sent, m)
			if !yield(m) {
				return
			}
		}
	}
	c := rawConnect(t, s.lab, "restart-"+s.name)
	ended := make(chan error, 1)
	go func() { ended <- c.tryPublishAll(load, 2, hung) }()
	before := s.more(t, 0, some, ended)
	s.stop()
	s.start(t)
	s.more(t, before, some, ended)
	close(enough)
	if err := <-ended; err != nil {
		t.Error(err)
		return
	}
	s.wait(t, sent)
}

// checkWatchdog fails if the server's watchdog has killed a worker since it was last asked.
func (s *serving) checkWatchdog(t *testing.T) {
	t.Helper()
	if s.watchdog == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := strings.Count(s.log(), s.watchdog)
	if n > s.barked {
		t.Errorf("the watchdog has killed a worker:\n%s", s.log())
	}
	s.barked = n
}
