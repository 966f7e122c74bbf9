package netns

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const failureConfig = `functions:
  - name: temp
    url: http://temp.local/ingest
    pods: ["%s", "%s"]
    timeout: 1s
    retry: {attempts: 4, backoff: 10ms, max_backoff: 50ms}
    DEAD
routes:
  - topic: sensors/+/temp
    function: temp
`

// TestTakeover: whatever a pod does to the request of a message that the kernel
// took, the message is tried again with the same bytes, and acknowledged only
// when it was answered.
func TestTakeover(t *testing.T) {
	hijack := func(w http.ResponseWriter, write string) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = io.WriteString(c, write)
			_ = c.Close()
		}
	}
	raw := func(w http.ResponseWriter, f func(c *net.TCPConn)) {
		if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
			f(c.(*net.TCPConn))
			_ = c.Close()
		}
	}
	kinds := map[string]behaviour{
		"reset": func(_ int64, w http.ResponseWriter, _ *http.Request) {
			raw(w, func(c *net.TCPConn) { _ = c.SetLinger(0) })
		},
		"reset in the response": func(_ int64, w http.ResponseWriter, _ *http.Request) {
			raw(w, func(c *net.TCPConn) {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
				_ = c.SetLinger(0)
			})
		},
		"500 in single bytes": func(_ int64, w http.ResponseWriter, _ *http.Request) {
			raw(w, func(c *net.TCPConn) {
				for _, b := range []byte("HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nnope") {
					_, _ = c.Write([]byte{b})
				}
			})
		},
		"500":       func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"503 empty": func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"close":     func(_ int64, w http.ResponseWriter, _ *http.Request) { hijack(w, "") },
		"half head": func(_ int64, w http.ResponseWriter, _ *http.Request) { hijack(w, "HTTP/1.1 200 OK\r\nContent-Le") },
		"half body": func(_ int64, w http.ResponseWriter, _ *http.Request) {
			hijack(w, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		},
		"not HTTP":    func(_ int64, w http.ResponseWriter, _ *http.Request) { hijack(w, "SSH-2.0-OpenSSH\r\n") },
		"no response": func(_ int64, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"too early":   func(_ int64, w http.ResponseWriter, _ *http.Request) { hijack(w, "HTTP/1.1 102 Processing\r\n\r\n") },
		"HTTP/1.0":    func(_ int64, w http.ResponseWriter, _ *http.Request) { hijack(w, "HTTP/1.0 500 No\r\n\r\n") },
		"two at once": func(_ int64, w http.ResponseWriter, _ *http.Request) {
			hijack(w, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		},
	}
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		for name, bad := range kinds {
			t.Run(mode+"/"+name, func(t *testing.T) {
				l := newLab(t)
				r := newRecorder()
				// every other request fails, so that a retry on the other pod may, too
				r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
					if n%3 != 0 {
						bad(n, w, q)
						return
					}
					ok(n, w, q)
				}, nil)
				s := start(t, l, mode, strings.Replace(podConfig(failureConfig, false), "DEAD", "", 1))
				c := rawConnect(t, l, "dev")
				for i := range 4 {
					c.publish("sensors/dev/temp", uint16(i+1), fmt.Sprintf("message %d", i))
				}
				seen := map[string]map[string]bool{} // payload -> ce-ids
				got, _ := r.all()
				for _, q := range got {
					if seen[q.body] == nil {
						seen[q.body] = map[string]bool{}
					}
					seen[q.body][q.headers["ce-id"]] = true
				}
				for i := range 4 {
					if n := len(seen[fmt.Sprintf("message %d", i)]); n != 1 {
						t.Errorf("message %d was sent under %d ids", i, n)
					}
				}
				if mode != "fallback" && s.counts()["control/taken_over"] == 0 {
					t.Errorf("nothing was taken over: %v", s.counts())
				}
			})
		}
	}
}

// TestAtMostOnce: a QoS 0 message that a function may have read is not sent
// again, however its connection ended.
func TestAtMostOnce(t *testing.T) {
	raw := func(end func(c *net.TCPConn)) behaviour {
		return func(_ int64, w http.ResponseWriter, _ *http.Request) {
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				end(c.(*net.TCPConn))
				_ = c.Close()
			}
		}
	}
	kinds := map[string]behaviour{
		"reset": raw(func(c *net.TCPConn) { _ = c.SetLinger(0) }),
		"close": raw(func(*net.TCPConn) {}),
		"half":  raw(func(c *net.TCPConn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le") }),
		"500":   func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
	}
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		for name, bad := range kinds {
			t.Run(mode+"/"+name, func(t *testing.T) {
				l := newLab(t)
				r := newRecorder()
				r.serveGo(t, l, false, bad, nil)
				start(t, l, mode, strings.Replace(podConfig(failureConfig, false), "DEAD", "", 1)+metricsConfig)
				c := rawConnect(t, l, "dev")
				outcome := "lost" // the function may have done its work
				if name == "500" {
					outcome = "failed"
				}
				const n = 5
				for i := range n {
					c.write(publishPacket("sensors/dev/temp", 0, 0, fmt.Sprint(i)))
					waitSeries(t, l, func(s series) bool { return s.sum("eproxy_messages_total", `outcome="`+outcome+`"`) == i+1 })
				}
				if got, _ := r.all(); len(got) != n {
					t.Errorf("%d messages were delivered %d times", n, len(got))
				}
			})
		}
	}
}

// TestDeadLetter: when the attempts are spent, the message is on disk before it
// is acknowledged; without a dead letter file an MQTT 3.1.1 client is
// disconnected.
func TestDeadLetter(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			var healthy atomic.Bool
			r.serveGo(t, l, false, func(_ int64, w http.ResponseWriter, _ *http.Request) {
				if !healthy.Load() {
					w.WriteHeader(500)
				}
			}, nil)
			file := filepath.Join(t.TempDir(), "dead", "temp.jsonl")
			t.Run("file", func(t *testing.T) {
				s := start(t, l, mode, strings.Replace(podConfig(failureConfig, false), "DEAD", "dead_letter: {file: "+file+"}", 1))
				c := rawConnect(t, l, "dev")
				c.publish("sensors/dev/temp", 1, "lost")
				checkDeadLetter(t, file, "lost")
				if got, _ := r.all(); len(got) != 4 {
					t.Errorf("%d attempts, want 4", len(got))
				}
				if mode != "fallback" { // which has no control socket
					defer healthy.Store(false)
					replayed(t, s, r, func() { healthy.Store(true) })
				}
			})
			t.Run("none", func(t *testing.T) {
				start(t, l, mode, strings.Replace(podConfig(failureConfig, false), "DEAD", "", 1))
				c := rawConnect(t, l, "dev")
				c.write(publishPacket("sensors/dev/temp", 1, 1, "refused"))
				c.closed()
			})
		})
	}
}

// replayed has mapsctl show, deliver and remove dead letters, of which there is one of the payload "lost"; heal makes the function well.
func replayed(t *testing.T, s *system, r *recorder, heal func()) {
	t.Helper()
	if rows := s.rows("deadletters", "list", "temp"); len(rows) != 1 || rows[0]["topic"] != "sensors/dev/temp" || rows[0]["status"] != 500.0 {
		t.Errorf("mapsctl shows %v", rows)
	}
	if out := s.letters("replay", "temp"); !strings.Contains(out, "0 delivered, 1 failed again, 0 not tried") {
		t.Errorf("replay to a function that fails: %s", out)
	}
	heal()
	before, _ := r.all()
	if out := s.letters("replay", "temp"); !strings.Contains(out, "1 delivered, 0 failed again, 0 not tried") {
		t.Errorf("replay: %s", out)
	}
	after, _ := r.all()
	if len(after) != len(before)+1 || after[len(after)-1].body != "lost" || after[len(after)-1].headers["x-mqtt-client-id"] != "dev" && after[len(after)-1].headers["ce-source"] != "eproxy/dev" {
		t.Errorf("the function got %+v", after[len(before):])
	}
	if rows := s.rows("deadletters", "list", "temp"); len(rows) != 0 {
		t.Errorf("what was delivered is still there: %v", rows)
	}
	if out := s.letters("purge", "temp"); !strings.Contains(out, "0 removed") {
		t.Errorf("purge: %s", out)
	}
	if out := s.letters("list", "none"); !strings.Contains(out, "function none is not in the configuration") {
		t.Errorf("of no function: %s", out)
	}
}

// letters runs a verb of mapsctl's for dead letters, and returns all that it says.
func (s *system) letters(verb, function string) string {
	s.t.Helper()
	out, err := exec.Command(filepath.Join(bin, "mapsctl"), "deadletters", verb, "--bpffs", s.lab.BPFFS(), function).CombinedOutput()
	if err != nil && len(out) == 0 {
		s.t.Fatal(err)
	}
	return string(out)
}

func checkDeadLetter(t *testing.T, file, payload string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		var d struct {
			Topic, Client string
			Payload       []byte
			Attempts      int
			Status        int
			Time          time.Time
		}
		if err := json.Unmarshal(sc.Bytes(), &d); err != nil {
			t.Fatal(err)
		}
		if string(d.Payload) == payload && d.Topic == "sensors/dev/temp" && d.Client == "dev" && d.Attempts == 4 && d.Status == 500 {
			return
		}
		t.Errorf("dead letter %+v", d)
	}
	t.Error("no dead letter for the message")
}

// TestDeadLetterNamesRedirection: the dead letter of a message whose function redirects says
// where to, also where the kernel path made the only attempt.
func TestDeadLetterNamesRedirection(t *testing.T) {
	const to = "https://temp.local/ingest"
	for _, mode := range []string{"tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			newRecorder().serveGo(t, l, false, func(_ int64, w http.ResponseWriter, q *http.Request) { http.Redirect(w, q, to, 308) }, nil)
			file := filepath.Join(t.TempDir(), "dead.jsonl")
			config := strings.Replace(podConfig(failureConfig, false), "DEAD", "dead_letter: {file: "+file+"}", 1)
			start(t, l, mode, strings.Replace(config, "attempts: 4", "attempts: 1", 1))
			rawConnect(t, l, "dev").publish("sensors/dev/temp", 1, "lost")
			b, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(b), "308, Location: "+to) {
				t.Errorf("dead letter %q, %v", b, err)
			}
		})
	}
}

// TestShutdownLeavesMessages: what a function has not answered when drain_timeout is
// over is neither acknowledged nor a dead letter: nothing is wrong with it, and its
// client has it. What it answers in that time is acknowledged, also by another attempt.
func TestShutdownLeavesMessages(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
				body, _ := r.body(n)
				switch {
				case body == "again":
					w.WriteHeader(503)
				case body == "hang":
					<-q.Context().Done()
				}
			}, nil)
			file := filepath.Join(t.TempDir(), "dead.jsonl")
			config := strings.NewReplacer("DEAD", "dead_letter: {file: "+file+"}", "timeout: 1s", "timeout: 60s",
				"backoff: 10ms, max_backoff: 50ms", "backoff: 1h, max_backoff: 1h").Replace(podConfig(failureConfig, false))
			s := start(t, l, mode, config+"drain_timeout: 200ms\n")
			hang, again := rawConnect(t, l, "hang"), rawConnect(t, l, "again")
			hang.write(publishPacket("sensors/hang/temp", 1, 1, "hang"))
			again.write(publishPacket("sensors/again/temp", 1, 1, "again"))
			r.wait(t, 2)
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			hang.closed()
			again.closed()
			if b, err := os.ReadFile(file); !os.IsNotExist(err) {
				t.Errorf("dead letters (%v): %s", err, b)
			}
		})
	}
}

// TestShutdownFinishes: a message that is tried again when SIGTERM comes is finished.
func TestShutdownFinishes(t *testing.T) {
	for _, mode := range []string{"xdp", "tc", "fallback"} {
		t.Run(mode, func(t *testing.T) {
			l := newLab(t)
			r := newRecorder()
			stopping := make(chan struct{})
			r.serveGo(t, l, false, func(n int64, w http.ResponseWriter, q *http.Request) {
				if n == 1 {
					w.WriteHeader(503)
					return
				}
				<-stopping
			}, nil)
			s := start(t, l, mode, strings.NewReplacer("DEAD", "", "timeout: 1s", "timeout: 60s").Replace(podConfig(failureConfig, false)))
			c := rawConnect(t, l, "dev")
			c.write(publishPacket("sensors/dev/temp", 1, 1, "x"))
			r.wait(t, 2)
			draining := s.Expect("draining")
			if err := s.Signal(unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if mode != "fallback" { // which does not say so
				if err := draining(); err != nil {
					t.Fatal(err)
				}
			}
			close(stopping)
			c.read([]byte{0x40, 2, 0, 1})
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
