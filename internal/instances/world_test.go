package instances

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"eproxy/internal/cgroup"
	"eproxy/internal/config"
	"eproxy/test/lib/await"
)

var testAddresses = netip.MustParsePrefix("10.99.0.0/24")

// world is a runtime in a test.
type world struct {
	t   *testing.T
	id  string
	r   *Runtime
	log *logged

	mu   sync.Mutex
	pods map[string][]netip.AddrPort
	news chan struct{}
}

type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var worlds int

func newWorld(t *testing.T) *world {
	t.Helper()
	worlds++
	w := &world{t: t, id: fmt.Sprintf("test-%d-%d", os.Getpid(), worlds), log: &logged{}, pods: make(map[string][]netip.AddrPort), news: make(chan struct{}, 1)}
	w.r = newRuntime(w.id, t.TempDir(), w.log)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.log)
		}
		if groups, err := cgroup.Find(); err == nil { // behind what stops its functions; not all tests close it
			removeEmpty(groups, w.id)
		}
	})
	return w
}

func newRuntime(id, dir string, log io.Writer) *Runtime {
	return New(Options{ID: id, Dir: dir, Addresses: testAddresses, Logger: slog.New(slog.NewTextHandler(log, nil))})
}

// run runs a function until stop is called.
func (w *world) run(name string, run *config.Run) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.r.Follow(ctx, name, run.Key(), func(pods []netip.AddrPort) {
			w.mu.Lock()
			w.pods[name] = pods
			w.mu.Unlock()
			select {
			case w.news <- struct{}{}:
			default:
			}
		}, func(err error) { w.t.Error(err) })
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(stop)
	return stop
}

// found waits until a function has so many pods.
func (w *world) found(name string, n int) []netip.AddrPort {
	w.t.Helper()
	limit := time.After(time.Minute)
	for {
		w.mu.Lock()
		pods := w.pods[name]
		w.mu.Unlock()
		if len(pods) == n {
			return pods
		}
		select {
		case <-w.news:
		case <-limit:
			w.t.Fatalf("pods %v, want %d: %+v", pods, n, w.r.Instances())
		}
	}
}

// patience is how long a test waits for something before it says that it does not come.
const patience = time.Minute

// until waits for something that is not told of.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	await.True(t, patience, what, ok)
}

// close ends the runtime, and looks for what it has left.
func (w *world) close() {
	w.t.Helper()
	w.r.Hurry()
	if err := w.r.Close(); err != nil {
		w.t.Error(err)
	}
	left(w.t, w.id)
}

// left are errors that name what a runtime of an ID has left.
func left(t *testing.T, id string) {
	t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/*/eproxy/" + id, "/sys/fs/cgroup/eproxy/" + id, "/sys/class/net/" + linkPrefix + "*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 && !strings.Contains(pattern, "class") {
			t.Errorf("left: %v", found)
		}
	}
	out, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if err != nil || strings.Contains(string(out), table(id)) {
		t.Errorf("left: %s (%v)", out, err)
	}
	if out, _ := exec.Command("ip", "-br", "link").Output(); strings.Contains(string(out), linkPrefix) {
		t.Errorf("left: %s", out)
	}
}

// python is a function: it runs a script.
func python(script string) *config.Run { return command("/usr/bin/python3", "-c", script) }

func command(argv ...string) *config.Run {
	return &config.Run{Command: argv, Dir: "/", User: "nobody", Memory: 64 << 20, Min: 1, Max: 1, Port: 8080, Start: 10 * time.Second, Stop: 10 * time.Second}
}

// says is a function that answers with the result of an expression.
func says(expression string) *config.Run {
	return python(`
import http.server, os, signal, socket, subprocess, sys, urllib.request
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try: b = str(` + expression + `).encode()
        except Exception as e: b = repr(e).encode()
        self.send_response(200); self.send_header('Content-Length', str(len(b))); self.end_headers(); self.wfile.write(b)
http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()`)
}

var client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}

func get(t *testing.T, pod netip.AddrPort) string {
	t.Helper()
	res, err := client.Get("http://" + pod.String())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// serveHere is something that listens on this machine, and is told of no connection.
func serveHere(t *testing.T) netip.AddrPort {
	t.Helper()
	l := listenHere(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return netip.AddrPortFrom((&network{addresses: testAddresses}).gateway(), netip.MustParseAddrPort(l.Addr().String()).Port())
}
