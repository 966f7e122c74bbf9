package netns

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eproxy/test/lib/lab"
)

// spoolConfig has functions with spools, in a directory, and little room in memory.
const spoolConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%[1]s", "%[2]s"]
    timeout: 1s
    deadline: 2s
    retry: {attempts: 2, backoff: 20ms, max_backoff: 50ms}
    queue: {messages: 16, spool: {dir: DIR/spool, bytes: 16Mi}}
    dead_letter: {file: DIR/dead}
  - name: hum
    url: http://hum.local/ingest
    pods: ["%[1]s", "%[2]s"]
    timeout: 1s
    deadline: 2s
    retry: {attempts: 2, backoff: 20ms, max_backoff: 50ms}
    queue: {messages: 16, spool: {dir: DIR/spool, bytes: 16Mi}}
    dead_letter: {file: DIR/dead}
routes:
  - topic: sensors/+/temp
    function: temp
  - topic: sensors/+/hum
    function: hum
`

// acknowledged is how many messages of devices are.
func acknowledged(devices []*device) (n int) {
	for _, d := range devices {
		d.mu.Lock()
		for _, a := range d.acked {
			if a {
				n++
			}
		}
		d.mu.Unlock()
	}
	return n
}

// TestOutageIsSpooled: while no function listens, devices have all their messages of QoS 1 acknowledged, though the program gets kill -9 in between. When the
// functions are there everything that was acknowledged arrives; nothing becomes a dead letter, nothing stays.
func TestOutageIsSpooled(t *testing.T) {
	for _, mode := range []string{"tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l, r, dir := newLab(t), newRecorder(), t.TempDir()
			abs, err := filepath.Abs(bin)
			if err != nil {
				t.Fatal(err)
			}
			config := strings.ReplaceAll(podConfig(spoolConfig, false), "DIR", dir)
			run := func() *system {
				p, err := l.StartEproxy(context.Background(), t.TempDir(), lab.Eproxy{Bin: abs, Mode: mode, Config: config})
				if err != nil {
					t.Fatal(err)
				}
				return &system{Process: p, t: t, lab: l, mode: mode}
			}
			s := run()
			devices := newFleet(l, seedOf(t), 5, 300)
			done := make(chan struct{})
			go func() {
				defer close(done)
				fleet(t, devices, 4*time.Minute)
			}()
			for _, n := range []int{150, 400, 700} {
				until(t, fmt.Sprintf("%d messages are acknowledged", n), func() bool { return acknowledged(devices) >= n })
				s.Kill()
				s = run()
			}
			<-done
			s.Kill()
			s = run()
			if mode != "fallback" {
				if n := spooledRows(s); n < 500 {
					t.Errorf("mapsctl functions: %d messages are spooled", n)
				}
			}
			r.serveGo(t, l, false, ok, nil)
			want := 0
			for _, d := range devices {
				for n, p := range d.packets {
					if p.qos == 1 && d.acked[n] {
						want++
					}
				}
			}
			until(t, "all that was acknowledged arrives", func() bool {
				got, _ := r.all()
				bodies := make(map[string]bool)
				for _, q := range got {
					if q.headers["x-mqtt-qos"] == "1" {
						bodies[q.body] = true
					}
				}
				return len(bodies) >= want
			})
			if mode != "fallback" {
				until(t, "the spools are empty", func() bool { return spooledRows(s) == 0 })
			}
			got, _ := r.all()
			duplicates, err := check(got, devices)
			if err != nil {
				t.Error(err)
			}
			checkIDs(t, got, devices)
			t.Logf("%d messages, %d duplicates", len(got), duplicates)
			if letters, _ := filepath.Glob(filepath.Join(dir, "dead*")); len(letters) > 0 {
				t.Errorf("there are dead letters: %v", letters)
			}
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// spooledRows is how many messages mapsctl says are spooled.
func spooledRows(s *system) (n int) {
	for _, f := range s.mapsctl("functions") {
		if x, ok := f["spooled"].(float64); ok {
			n += int(x)
		}
	}
	return n
}

// checkIDs checks that a message has no more ce-ids than times that its device has sent it.
func checkIDs(t *testing.T, got []request, devices []*device) {
	t.Helper()
	ids, sent := make(map[string]map[string]bool), make(map[string]int)
	for _, d := range devices {
		for n, p := range d.packets {
			sent[p.payload] = d.sent[n]
		}
	}
	for _, q := range got {
		if ids[q.body] == nil {
			ids[q.body] = make(map[string]bool)
		}
		ids[q.body][q.headers["ce-id"]] = true
	}
	for body, n := range ids {
		if len(n) > sent[body] {
			t.Errorf("a message that was sent %d times has the ce-ids %v", sent[body], n)
		}
	}
}
