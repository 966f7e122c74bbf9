package endpoints

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"eproxy/internal/config"
	"eproxy/test/lib/await"
)

// logged collects what is logged.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func function(fn config.Function) *config.Config {
	fn.Name = "f"
	return &config.Config{Functions: []*config.Function{&fn}}
}

// start watches a configuration of one function.
func start(t *testing.T, cfg *config.Config) (*Watcher, *logged) {
	t.Helper()
	log := &logged{}
	w := Watch(cfg, Sources{}, slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(w.Close)
	w.Settle(t.Context())
	return w, log
}

// pods are the function's, as text.
func pods(w *Watcher, cfg *config.Config) string { return fmt.Sprint(w.Apply(cfg).Functions[0].Pods) }

// awaitPods waits until the function has these pods.
func awaitPods(t *testing.T, w *Watcher, cfg *config.Config, want string) {
	t.Helper()
	limit := time.After(time.Minute)
	for pods(w, cfg) != want {
		select {
		case <-w.Changed():
		case <-limit:
			t.Fatalf("pods %s, want %s", pods(w, cfg), want)
		}
	}
}

// awaitLog waits until something was logged.
func awaitLog(t *testing.T, log *logged, want string) {
	t.Helper()
	await.None(t, time.Minute, func() string {
		if text := log.String(); !strings.Contains(text, want) {
			return fmt.Sprintf("no %q in %s", want, text)
		}
		return ""
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFile: a file's pods follow it, whether it is written, renamed into place,
// reached by a link that changes, or comes late; half a file changes nothing.
func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "late")
	path := dir + "//pods.json"
	cfg := function(config.Function{Pods: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.9:80")}, Discover: config.Discover{File: path}})
	w, log := start(t, cfg)
	if got := pods(w, cfg); got != "[10.0.0.9:80]" {
		t.Errorf("before there is a file: %s", got)
	}
	awaitLog(t, log, "no such file or directory")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, path, `["10.0.0.2:80", "[fd00::2]:8080", "10.0.0.2:80"]`)
	awaitPods(t, w, cfg, "[10.0.0.2:80 10.0.0.9:80 [fd00::2]:8080]")
	awaitLog(t, log, "source of pods is back")

	write(t, path, `["10.0.0.3:80", "10.0.`)
	awaitLog(t, log, `what it said last stays" source="file `+path+`" pods=2 error="`+path+`: must be a list of pods`)
	if got := pods(w, cfg); got != "[10.0.0.2:80 10.0.0.9:80 [fd00::2]:8080]" {
		t.Errorf("half a file: %s", got)
	}
	next := filepath.Join(dir, "next")
	write(t, next, "pods:\n- 10.0.0.4:80\n")
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	awaitPods(t, w, cfg, "[10.0.0.4:80 10.0.0.9:80]")

	// as the kubelet updates a ConfigMap
	for i, text := range []string{"[10.0.0.5:80]", "[]"} {
		version := filepath.Join(dir, fmt.Sprint("version", i))
		if err := os.Mkdir(version, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(version, "pods"), text)
		link := filepath.Join(dir, "link")
		if err := os.Symlink(version, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "data")); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := os.Symlink("data/pods", link); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(link, path); err != nil {
				t.Fatal(err)
			}
			awaitPods(t, w, cfg, "[10.0.0.5:80 10.0.0.9:80]")
		}
	}
	awaitPods(t, w, cfg, "[10.0.0.9:80]")
}

// TestFileThatIsWritten: half a list in YAML's block form can be read, and a cut port is another port: it does not count
// while somebody goes on writing, however long that takes.
func TestFileThatIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pods.yaml")
	const text = "- 10.0.0.2:8080\n- 10.0.0.3:8080\n"
	write(t, path, text[:20])
	rest := text[20:]
	b, err := (file{path: path}).whole(func() bool {
		n := min(4, len(rest))
		write(t, path, strings.TrimSuffix(text, rest[n:]))
		rest = rest[n:]
		return true
	})
	if string(b) != text || err != nil {
		t.Errorf("%q, %v; want %q", b, err, text)
	}
	n := 0
	_, err = (file{path: path}).whole(func() bool { n++; write(t, path, text+strings.Repeat("#", n)); return true })
	if err == nil || err.Error() != path+": is written all the time" {
		t.Errorf("%v", err)
	}
}

// TestFileErrors: what is wrong with a file is one line that says where.
func TestFileErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "must be a list",
		"a: b":                  "must be a list",
		"pods: {a: b}":          "must be a list",
		`["10.0.0.2"]`:          `line 1: pod "10.0.0.2": must be address:port`,
		"- 10.0.0.2:80\n- x:80": `line 2: pod "x:80": must be address:port`,
		`["0.0.0.0:80"]`:        "must be address:port",
		`["10.0.0.2:0"]`:        "must be address:port",
		`["[fe80::1%eth0]:1"]`:  "must be address:port",
		"[[a]]":                 "must be a list",
		"[\"10.0.0.2:80\",\n":   `as ["10.2.0.2:8080"], or {"pods": [...]}: line 2: `,
		"- 10.0.0.2:80\n- '10.": "line 2: found unexpected end of stream",
		"[" + strings.Repeat("10.0.0.2:80,", maxPods+1) + "]": "more than 4096 pods",
	} {
		got, err := parsePods([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.30q: %v, %v; want one line with %q", text, got, err, want)
		}
	}
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, strings.Repeat(" ", maxFile+1))
	if _, err := (file{path: path}).read(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a long file: %v", err)
	}
}

// server is a DNS server whose answers can be changed.
type server struct {
	mu      sync.Mutex
	records map[string][]dnsmessage.ResourceBody // by name and type
	code    dnsmessage.RCode
	silent  bool // no query is answered
	asked   int
}

func (s *server) set(code dnsmessage.RCode, records map[string][]dnsmessage.ResourceBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.records = code, records
}

func (s *server) answer(query []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	var m dnsmessage.Message
	if s.silent || m.Unpack(query) != nil {
		return nil
	}
	q := m.Questions[0]
	m.Header.Response, m.Header.RecursionAvailable, m.Header.RCode, m.Additionals = true, true, s.code, nil
	for _, body := range s.records[q.Name.String()+q.Type.String()] {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: body})
	}
	out, _ := m.Pack()
	return out
}

// serveDNS has the resolver ask a server of the test's own.
func serveDNS(t *testing.T) *server {
	t.Helper()
	s := &server{}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			if answer := s.answer(b[:n]); answer != nil {
				_, _ = pc.WriteTo(answer, from)
			}
		}
	}()
	old := dialServer
	dialServer = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}
	t.Cleanup(func() { dialServer = old; pc.Close() })
	return s
}

func a(b ...byte) dnsmessage.ResourceBody { return &dnsmessage.AResource{A: [4]byte(b)} }

// TestDNS: names are resolved again when their time to live is over, of both
// families, as hosts or as SRV records. A name that does not exist has no pods; a
// server that fails changes nothing.
func TestDNS(t *testing.T) {
	s := serveDNS(t)
	v6 := &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("fd00::7").As16()}
	first := map[string][]dnsmessage.ResourceBody{"pods.test.TypeA": {a(10, 0, 0, 2), a(10, 0, 0, 1)}, "pods.test.TypeAAAA": {v6}}
	s.set(dnsmessage.RCodeSuccess, first)
	cfg := function(config.Function{Hosts: []config.HostPort{{Host: "pods.test.", Port: 80}}})
	w, log := start(t, cfg)
	if got := pods(w, cfg); got != "[10.0.0.1:80 10.0.0.2:80 [fd00::7]:80]" {
		t.Errorf("at first: %s", got)
	}
	s.set(dnsmessage.RCodeServerFailure, nil)
	awaitLog(t, log, `what it said last stays" source="dns pods.test.:80" pods=3 error="resolve pods.test.: `)
	if got := pods(w, cfg); got != "[10.0.0.1:80 10.0.0.2:80 [fd00::7]:80]" {
		t.Errorf("while the server fails: %s", got)
	}
	s.set(dnsmessage.RCodeSuccess, map[string][]dnsmessage.ResourceBody{"pods.test.TypeA": {a(10, 0, 0, 3)}})
	awaitPods(t, w, cfg, "[10.0.0.3:80]")
	awaitLog(t, log, "source of pods is back")
	s.set(dnsmessage.RCodeNameError, nil)
	awaitPods(t, w, cfg, "[]")
	awaitLog(t, log, `msg="source of pods names none" source="dns pods.test.:80" pods=0 error="resolve pods.test.: no pods: `)

	target := dnsmessage.MustNewName("pod-0.test.")
	gone, other := dnsmessage.MustNewName("pod-1.test."), dnsmessage.MustNewName("pod-2.test.")
	srv := map[string][]dnsmessage.ResourceBody{"_http._tcp.test.TypeSRV": {&dnsmessage.SRVResource{Port: 8081, Target: target},
		&dnsmessage.SRVResource{Priority: 1, Port: 8080, Target: gone}, &dnsmessage.SRVResource{Priority: 2, Port: 8082, Target: other}},
		"pod-0.test.TypeA": {a(10, 0, 0, 4)}, "pod-2.test.TypeA": {a(10, 0, 0, 5)}}
	s.set(dnsmessage.RCodeSuccess, srv)
	cfg = function(config.Function{Discover: config.Discover{DNS: config.HostPort{Host: "_http._tcp.test."}}})
	w.Follow(cfg)
	awaitPods(t, w, cfg, "[10.0.0.4:8081 10.0.0.5:8082]")
}

// TestDNSTimeout: a server that does not answer is a source that fails, in one line, and its pods stay; a name
// that does not exist is one line, too, however often it is asked for.
func TestDNSTimeout(t *testing.T) {
	old := resolveTime
	resolveTime = time.Second
	s := serveDNS(t)
	s.set(dnsmessage.RCodeSuccess, map[string][]dnsmessage.ResourceBody{"pods.test.TypeA": {a(10, 0, 0, 1)}})
	cfg := function(config.Function{Discover: config.Discover{DNS: config.HostPort{Host: "pods.test.", Port: 80}}})
	w, log := start(t, cfg)
	t.Cleanup(func() { w.Close(); resolveTime = old })
	s.mu.Lock()
	s.silent = true
	s.mu.Unlock()
	awaitLog(t, log, "timeout")
	awaitLog(t, log, `what it said last stays" source="dns pods.test.:80" pods=1 error="resolve pods.test.: `)
	if got := pods(w, cfg); got != "[10.0.0.1:80]" {
		t.Errorf("while the server is silent: %s", got)
	}
	s.mu.Lock()
	s.silent = false
	s.mu.Unlock()
	awaitLog(t, log, "source of pods is back")
	s.set(dnsmessage.RCodeNameError, nil)
	awaitPods(t, w, cfg, "[]")
	awaitLog(t, log, "source of pods names none")
	w.mu.Lock()
	name := dns{cfg.Functions[0].Discover.DNS}
	f := w.sources[name]
	w.mu.Unlock()
	for range 3 { // as it is asked for again
		w.failed(name, f, fmt.Errorf("again: %w", errNone))
	}
	w.Close() // logs what was counted
	if n := strings.Count(log.String(), "source of pods names none"); n != 1 {
		t.Errorf("%d lines about a name that does not exist:\n%s", n, log)
	}
}

// TestReloadKeepsSources: a source that a reload keeps is not asked again, and what
// it said stays; one that it drops is followed no more.
func TestReloadKeepsSources(t *testing.T) {
	dir := t.TempDir()
	x, y := filepath.Join(dir, "x"), filepath.Join(dir, "y")
	write(t, x, "[10.0.0.1:80]")
	write(t, y, "[10.0.0.2:80]")
	both := &config.Config{Functions: []*config.Function{{Name: "f", Discover: config.Discover{File: x}}, {Name: "g", Discover: config.Discover{File: y}}}}
	w, _ := start(t, both)
	before, again := w.Apply(both), w.Apply(both)
	for i := range before.Functions {
		if len(before.Functions[i].Pods) != 1 || before.Functions[i] != again.Functions[i] {
			t.Errorf("%s with the same pods is another function", before.Functions[i].Name)
		}
	}
	w.mu.Lock()
	kept := w.sources[file{x, &w.dirs}]
	w.mu.Unlock()
	one := function(config.Function{Discover: config.Discover{File: x}})
	w.Follow(one)
	w.mu.Lock()
	if len(w.sources) != 2 {
		t.Errorf("%d sources before the reload is sure", len(w.sources))
	}
	w.mu.Unlock()
	w.Keep(one)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sources[file{x, &w.dirs}] != kept || len(w.sources) != 1 {
		t.Errorf("%d sources, the one that stays was replaced: %v", len(w.sources), w.sources[file{x, &w.dirs}] != kept)
	}
}

// cluster is pods of a Service as the test says.
type cluster chan []Pod

func (c cluster) Follow(ctx context.Context, _ config.Service, found func([]Pod), _ func(error)) {
	for {
		select {
		case pods := <-c:
			found(pods)
		case <-ctx.Done():
			return
		}
	}
}

// TestIdentities: another pod at the same address is a change, and its identity is told with
// it; a result that was handed out does not change afterwards.
func TestIdentities(t *testing.T) {
	c := make(cluster)
	cfg := function(config.Function{Discover: config.Discover{Service: config.Service{Name: "s"}}})
	w := Watch(cfg, Sources{Cluster: c}, slog.New(slog.DiscardHandler))
	t.Cleanup(w.Close)
	at := netip.MustParseAddrPort("10.0.0.1:80")
	var before *config.Config
	for _, identity := range []string{"one", "two", ""} {
		c <- []Pod{{Address: at, Identity: identity}, {Address: netip.MustParseAddrPort("[::ffff:10.0.0.2]:80"), Identity: "other"}}
		<-w.Changed()
		now := w.Apply(cfg)
		ids := now.Functions[0].Identities
		if ids[at] != identity || ids[netip.MustParseAddrPort("10.0.0.2:80")] != "other" {
			t.Errorf("identities %v, want %q", ids, identity)
		}
		if identity == "two" && before.Functions[0].Identities[at] != "one" {
			t.Error("an earlier result has changed")
		}
		before = now
	}
}

// TestPlaces: a pod of which its source says that it is elsewhere than it was is a change.
func TestPlaces(t *testing.T) {
	c := make(cluster)
	cfg := function(config.Function{Discover: config.Discover{Service: config.Service{Name: "s"}}})
	w := Watch(cfg, Sources{Cluster: c}, slog.New(slog.DiscardHandler))
	t.Cleanup(w.Close)
	at := netip.MustParseAddrPort("10.0.0.1:80")
	for _, place := range []config.Place{config.OtherNode, config.ThisNode, config.Nowhere} {
		c <- []Pod{{Address: at, Place: place}}
		<-w.Changed()
		if got := w.Apply(cfg).Functions[0].Places[at]; got != place {
			t.Errorf("the pod is at place %d, want %d", got, place)
		}
	}
}
