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
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"eproxy/internal/cgroup"
	"eproxy/internal/config"
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

// until waits for something that is not told of.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("no " + what)
		}
	}
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

// TestInstances: functions in several languages run as pods, log by the loader, and
// leave nothing.
func TestInstances(t *testing.T) {
	uplink(t)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "function"), self, 0o755); err != nil { //nolint:gosec // another user runs it
		t.Fatal(err)
	}
	for d := dir; d != "/tmp"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // as above
			t.Fatal(err)
		}
	}
	w := newWorld(t)
	node := "require('http').createServer((q, s) => s.end(String(process.pid))).listen(process.env.PORT)"
	two := says("os.getpid()")
	two.Min, two.Max, two.CPU = 2, 2, 0.5
	stops := []func(){w.run("go", command(filepath.Join(dir, "function"), asFunction)), w.run("node", command("node", "-e", "console.log('begins');"+node)), w.run("python", two)}
	w.found("go", 1)
	if got := get(t, w.found("node", 1)[0]); got != "1" {
		t.Errorf("process %s, want the first of its namespace", got)
	}
	until(t, "line of the function's in the log", func() bool {
		return strings.Contains(w.log.String(), `msg="function says" function=node instance=`) && strings.Contains(w.log.String(), "line=begins")
	})
	for _, pod := range w.found("python", 2) {
		if got := get(t, pod); got != "1" {
			t.Errorf("%s says %s", pod, got)
		}
	}
	all := w.r.Instances()
	if len(all) != 4 {
		t.Errorf("instances %+v", all)
	}
	for _, i := range all {
		if i.State != Ready || i.PID == 0 || i.Used == 0 || i.Starts != 1 {
			t.Errorf("%+v", i)
		}
	}
	for _, stop := range stops {
		stop()
	}
	for _, i := range all {
		if err := syscall.Kill(i.PID, 0); err == nil {
			t.Errorf("process %d lives", i.PID)
		}
	}
	w.close()
}

// TestRestart: an instance that dies is no pod, and is started again.
func TestRestart(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	stop := w.run("f", says("os.getppid()"))
	pod := w.found("f", 1)[0]
	pid := w.r.Instances()[0].PID
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.found("f", 0)
	if again := w.found("f", 1)[0]; again != pod {
		t.Errorf("it comes back at %s, was at %s", again, pod)
	}
	if i := w.r.Instances()[0]; i.Starts != 2 || i.PID == pid {
		t.Errorf("%+v", i)
	}
	if !strings.Contains(w.log.String(), `reason="killed by signal SIGKILL"`) {
		t.Error("the log does not say why")
	}
	stop()
	w.close()
}

// TestBadFunctions: whatever is wrong with a function is one state and one line.
func TestBadFunctions(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	short := func(r *config.Run) *config.Run { r.Start = time.Second; return r }
	with := func(r *config.Run, change func(*config.Run)) *config.Run { change(r); return r }
	listen := func(address, port string) string {
		return "import os, socket, time\ns = socket.create_server((" + address + ", " + port + "))\ntime.sleep(1000)"
	}
	cases := map[string]struct {
		run  *config.Run
		want string
	}{
		"missing":      {command("/no/such/program"), `command "/no/such/program": no such file or directory`},
		"not in PATH":  {command("no-such-program"), `command "no-such-program": executable file not found in $PATH`},
		"no program":   {command("/etc/passwd"), `command "/etc/passwd": permission denied`},
		"user":         {with(says("1"), func(r *config.Run) { r.User = "no-such-user" }), `user "no-such-user" is not known on this machine`},
		"root":         {with(says("1"), func(r *config.Run) { r.User = "00" }), `user "00" is root: instances never run as root`},
		"dir":          {with(says("1"), func(r *config.Run) { r.Dir = "/root/x" }), `dir "/root/x": permission denied`},
		"exits":        {python("import sys; sys.exit(3)"), "it ended with status 3"},
		"forks away":   {python("import os, time\nif os.fork() == 0: time.sleep(1000)"), "it ended by itself with status 0: if it goes to the background, have it stay in the foreground"},
		"never":        {short(python("import time; time.sleep(1000)")), "after 1s it does not listen on port 8080 (PORT in its environment)"},
		"wrong port":   {python(listen("''", "3000")), "it listens on port 3000, not on 8080 (PORT in its environment)"},
		"loopback":     {python(listen("'127.0.0.1'", "8080")), "it listens on 127.0.0.1:8080, which only itself can reach: it must on 0.0.0.0:8080"},
		"memory":       {python("x = []\nwhile True: x.append(bytearray(1 << 20))"), "killed: it needs more than its memory limit of 64 MiB"},
		"child memory": {python("import os, subprocess, sys\nsys.exit(subprocess.run([sys.executable, '-c', 'x = []\\nwhile True: x.append(bytearray(1 << 20))']).returncode != 0)"), "killed: it needs more than its memory limit of 64 MiB"},
	}
	var stops []func()
	for _, c := range cases {
		if strings.HasPrefix(c.want, "it listens") {
			c.run.Start = time.Minute
		}
	}
	for name, c := range cases {
		stops = append(stops, w.run(name, c.run))
	}
	for name, c := range cases {
		seen := ""
		until(t, "failure of "+name, func() bool {
			for _, i := range w.r.Instances() {
				if i.Function == name && (i.State == Failed || i.Reason == c.want) { // a port is said while it still may listen on another
					seen = i.Reason
					return true
				}
			}
			return false
		})
		if seen != c.want {
			t.Errorf("%s: %q, want %q", name, seen, c.want)
		}
	}
	for _, stop := range stops {
		stop()
	}
	w.close()
}

// TestConfinement: what an instance may not do.
func TestConfinement(t *testing.T) {
	outside := uplink(t)
	w := newWorld(t)
	listener := serveHere(t)
	leak, err := syscall.Open("/etc/hostname", syscall.O_RDONLY, 0) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	stopNeighbour := w.run("neighbour", says("1"))
	there := w.found("neighbour", 1)[0]
	connect := func(a netip.AddrPort) string {
		return fmt.Sprintf("socket.create_connection(('%s', %d), 1)", a.Addr(), a.Port())
	}
	status := func(key string) string {
		return "[l.split()[1] for l in open('/proc/self/status') if l.startswith('" + key + ":')][0]"
	}
	for name, c := range map[string]struct{ expression, want string }{
		"user":          {"(os.getuid(), os.geteuid(), os.getgid(), os.getgroups())", "(65534, 65534, 65534, [65534])"},
		"capabilities":  {status("CapEff") + "+" + status("CapBnd") + "+" + status("CapPrm"), strings.Repeat("0", 48)},
		"no new":        {status("NoNewPrivs"), "1"},
		"set-user-ID":   {"subprocess.run(['su', '-c', 'id'], capture_output=True, stdin=subprocess.DEVNULL).returncode != 0", "True"},
		"processes":     {"[p for p in os.listdir('/proc') if p.isdigit()]", "['1']"},
		"environment":   {"sorted(set(os.environ) - {'LC_CTYPE'})", "['HOME', 'PATH', 'PORT']"},
		"files":         {"sorted(os.listdir('/proc/self/fd'))", "['0', '1', '2', '3', '4', '5']"},
		"write":         {"open('/etc/x', 'w')", "PermissionError(13, 'Permission denied')"},
		"other":         {connect(there), "TimeoutError('timed out')"},
		"this machine":  {connect(listener), "TimeoutError('timed out')"},
		"elsewhere":     {"urllib.request.urlopen('http://" + outside.String() + "').read().decode().split(':')[0]", "192.0.2.1"},
		"raw packets":   {"socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "PermissionError(1, 'Operation not permitted')"},
		"own interface": {"subprocess.run(['ip', 'link', 'set', 'eth0', 'down'], capture_output=True).returncode != 0", "True"},
	} {
		run := says(c.expression)
		run.Outgoing = true
		stop := w.run(name, run)
		if got := get(t, w.found(name, 1)[0]); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		stop()
	}
	alone := says(connect(outside))
	stop := w.run("alone", alone)
	if got := get(t, w.found("alone", 1)[0]); !strings.Contains(got, "unreachable") {
		t.Errorf("without a network: %s", got)
	}
	stop()
	file := fmt.Sprintf("/tmp/%s", w.id)
	ro := says("(open('" + file + "', 'w').write('x'), open('/dev/shm/x', 'w').write('x'), os.path.exists('/var/tmp/x'), os.statvfs('/').f_flag & os.ST_RDONLY)")
	ro.ReadOnly = true
	stop = w.run("read-only", ro)
	if got := get(t, w.found("read-only", 1)[0]); got != "(1, 1, False, 1)" {
		t.Errorf("read-only: %s", got)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("its /tmp is this machine's")
	}
	stop()
	stopNeighbour()
	w.close()
}

// TestOnlyThisMachineConnects: nobody else opens a connection to an instance.
func TestOnlyThisMachineConnects(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	run := says("1")
	run.Outgoing = true
	stop := w.run("f", run)
	pod := w.found("f", 1)[0]
	if got := get(t, pod); got != "1" {
		t.Errorf("this machine gets %q", got)
	}
	enter := exec.Command("nsenter", "--net=/proc/self/fd/3", "bash", "-c",
		fmt.Sprintf("ip route add %s via 192.0.2.1 && ! timeout 1 bash -c 'exec 4<>/dev/tcp/%s/%d'", testAddresses, pod.Addr(), pod.Port()))
	enter.ExtraFiles = []*os.File{os.NewFile(uintptr(dup(t, int(elsewhere))), "namespace")}
	if out, err := enter.CombinedOutput(); err != nil {
		t.Errorf("it was reached: %v %s", err, out)
	}
	stop()
	w.close()
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

// TestConnectionsEnd: an instance that nobody wants any more is stopped when the
// requests that it has have their answers, and by SIGTERM if it has a handler for that.
func TestConnectionsEnd(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	slow := python(`
import http.server, os, signal, sys, time
def end(*_):
    print('ends', flush=True); os._exit(0)
signal.signal(signal.SIGTERM, end)
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print('asked', flush=True); time.sleep(0.5)
        self.send_response(200); self.send_header('Content-Length', '2'); self.end_headers(); self.wfile.write(b'ok')
http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()`)
	stop := w.run("slow", slow)
	pod := w.found("slow", 1)[0]
	answer := make(chan string)
	go func() { answer <- get(t, pod) }()
	until(t, "request", func() bool { return strings.Contains(w.log.String(), "line=asked") })
	stop()
	if got := <-answer; got != "ok" {
		t.Errorf("answer %q", got)
	}
	if !strings.Contains(w.log.String(), "line=ends") {
		t.Error("it was not asked to end")
	}
	w.close()
}

// TestStubborn: an instance that does not end when it is asked to is killed.
func TestStubborn(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	run := python("import signal, socket, time\ns = socket.create_server(('', 8080))\nsignal.signal(signal.SIGTERM, lambda *_: None)\nwhile True: time.sleep(1000)")
	run.Stop = 50 * time.Millisecond
	stop := w.run("f", run)
	w.found("f", 1)
	stop()
	if !strings.Contains(w.log.String(), `msg="instance is killed" function=f instance=1 reason="it has not ended 50ms after SIGTERM"`) {
		t.Error("the log does not say so")
	}
	w.close()
}

// asleep waits until a function's only instance is frozen, as the kernel has it, too.
func (w *world) asleep(name string) Status {
	w.t.Helper()
	var s Status
	until(w.t, "frozen instance", func() bool {
		for _, s = range w.r.Instances() {
			if s.Function == name && s.State == Frozen {
				return true
			}
		}
		return false
	})
	if !w.frozen(s) {
		w.t.Error("the kernel does not have it frozen")
	}
	return s
}

func (w *world) frozen(s Status) bool {
	groups, err := cgroup.Find()
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(groups.Unified(), top, w.id, fmt.Sprintf("%d-%s", s.Instance, s.Function), "cgroup.events"))
	return err == nil && strings.Contains(string(b), "frozen 1")
}

// TestSleep: an instance without requests is frozen and no pod; a message, or a
// connection, has it go on as the same process; it can be stopped, killed and cleared away
// while it is frozen.
func TestSleep(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	run := says("os.getpid()")
	run.Idle = time.Second
	stop := w.run("f", run)
	w.found("f", 1)
	w.r.Touch("f")
	before := w.asleep("f")
	w.found("f", 0)
	if !w.r.Wake("f") {
		t.Error("none is said to be asleep")
	}
	pod := w.found("f", 1)[0]
	if w.r.Wake("f") {
		t.Error("one is said to be asleep")
	}
	if got := get(t, pod); got != "1" {
		t.Errorf("it says %q", got)
	}
	w.r.Touch("f")
	if again := w.asleep("f"); again.PID != before.PID || again.Starts != 1 {
		t.Errorf("%+v, was %+v", again, before)
	}
	if got := get(t, pod); got != "1" { // of somebody who does not know
		t.Errorf("it says %q", got)
	}
	w.found("f", 1)
	w.r.Touch("f")
	if err := syscall.Kill(w.asleep("f").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "another process", func() bool { s := w.r.Instances()[0]; return s.State == Ready && s.Starts == 2 })
	w.r.Touch("f")
	w.asleep("f")
	stop()
	w.close()
}

// TestKeptAwake: an instance with a request under way, or with requests from time to time,
// is not frozen.
func TestKeptAwake(t *testing.T) {
	start := time.Now()
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	c := clock{idle: 2 * time.Second}
	c.woken(start, 10)
	for _, x := range []struct {
		at       float64
		requests uint64
		want     bool
	}{
		{1, 10, false}, {29, 10, false}, {30, 10, true}, // never used
		{31, 11, false}, {32.5, 11, false}, {33, 11, true},
		{34, 12, false}, {35, 13, false}, {36.9, 13, false},
		{37, 0, false}, {38.9, 0, false}, {39, 0, true}, // its counters are gone
	} {
		if got := c.due(at(x.at), x.requests); got != x.want {
			t.Errorf("at %v, %d requests: due %v", x.at, x.requests, got)
		}
	}
	c.woken(at(50), 0)
	if c.due(at(53), 0) {
		t.Error("frozen before the message that woke it was sent")
	}
	c.owed = true // nobody wakes it again for the message that waits
	if c.due(at(5000), 0) {
		t.Error("frozen while the message that woke it waits for it to be a pod")
	}
	if c.due(at(5001), 1) || !c.due(at(5004), 1) {
		t.Error("not frozen after the message that woke it")
	}
}

// beLoader runs a function until it is killed.
func beLoader(id string, argv []string) {
	r := newRuntime(id, os.TempDir(), io.Discard)
	run := command(argv[1:]...)
	if argv[0] == string(Frozen) {
		run.Idle = time.Second
	}
	go func() {
		for {
			time.Sleep(5 * time.Millisecond)
			if all := r.Instances(); len(all) == 1 && all[0].State == Ready {
				r.Touch("f")
				break
			}
		}
		for ; ; time.Sleep(10 * time.Millisecond) {
			if all := r.Instances(); string(all[0].State) == argv[0] {
				fmt.Println(all[0].PID)
				return
			}
		}
	}()
	r.Follow(context.Background(), "f", run.Key(), func([]netip.AddrPort) {}, func(err error) { fmt.Println(err) })
}

// TestLoaderKilled: when the loader is killed no process of an instance lives on, also
// none that it has started, nor one that has left its session; the next run
// removes what is left.
func TestLoaderKilled(t *testing.T) {
	uplink(t)
	for _, state := range []State{Ready, Frozen} {
		t.Run(string(state), func(t *testing.T) { loaderKilled(t, state) })
	}
}

// loaderKilled kills a loader whose instance is in a state.
func loaderKilled(t *testing.T, state State) {
	id := fmt.Sprintf("test-%d-killed", os.Getpid())
	fork := `
import os, socket, time
s = socket.create_server(('', 8080))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(1000)
time.sleep(1000)`
	cmd := exec.Command("/proc/self/exe", asLoader, id, string(state), "/usr/bin/python3", "-c", fork)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	groups, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	procs := filepath.Join(groups.Unified(), top, id, "1-f", "cgroup.procs")
	until(t, "three processes", func() bool { b, _ := os.ReadFile(procs); return bytes.Count(b, []byte("\n")) == 3 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	until(t, "end of all processes", func() bool { b, err := os.ReadFile(procs); return err == nil && len(b) == 0 })
	until(t, "end of the namespace", func() bool {
		out, _ := exec.Command("ip", "-br", "link").Output()
		return !strings.Contains(string(out), linkPrefix)
	})
	if err := Unload(id, os.TempDir()); err != nil {
		t.Error(err)
	}
	left(t, id)
}

// TestLookup: whom instances run as, and never as root.
func TestLookup(t *testing.T) {
	if a, err := lookup("12345"); err != nil || a.uid != 12345 || a.gid != 12345 {
		t.Errorf("a number: %+v, %v", a, err)
	}
	for _, name := range []string{"root", "0", "00", "-1", "nobody:0", "99999999999"} {
		if a, err := lookup(name); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if a, err := lookup("nobody"); err != nil || slices.Contains(a.groups, 0) {
		t.Errorf("nobody: %+v, %v", a, err)
	}
}
