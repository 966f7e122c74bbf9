package instances

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"eproxy/internal/config"
)

// forked is a function in Python whose instances are forked.
func forked(run *config.Run) *config.Run {
	run.Zygote, run.Lambda = config.ZygotePython, time.Hour
	return run
}

// answers is a program in Python that answers with the result of an expression, behind what it does first.
func answers(first, expression string) string {
	return first + `
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        b = str(` + expression + `).encode()
        self.send_response(200); self.send_header('Content-Length', str(len(b))); self.end_headers(); self.wfile.write(b)
    def log_message(self, *_): pass
http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()`
}

// program is a directory of modules, by name, that everybody may read. It is not in /tmp, which a sandbox hides.
func program(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/srv", "eproxy-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // another user reads it
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // as above
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil { //nolint:gosec // and runs it
			t.Fatal(err)
		}
	}
	return dir
}

// in is a function that is started in a directory.
func in(dir string, run *config.Run) *config.Run {
	run.Dir = dir
	return run
}

// zygoteOf is the zygote of a function, as it is shown.
func (w *world) zygoteOf(name string) ZygoteStatus {
	for _, f := range w.r.Functions() {
		if f.Function == name {
			return f.Zygote
		}
	}
	return ZygoteStatus{}
}

// zygote waits until that of a function is as it should be.
func (w *world) zygote(name, what string, ok func(ZygoteStatus) bool) (x ZygoteStatus) {
	w.t.Helper()
	until(w.t, what, func() bool { x = w.zygoteOf(name); return ok(x) })
	return x
}

// is says whether a zygote is in a state.
func is(state State) func(ZygoteStatus) bool {
	return func(x ZygoteStatus) bool { return x.State == state }
}

// exchange kills the instance of a function that has one, and returns where the next one is.
func (w *world) exchange(name string) string {
	w.t.Helper()
	for _, i := range w.r.Instances() {
		if i.Function == name {
			if err := syscall.Kill(i.PID, syscall.SIGKILL); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.found(name, 0)
	return get(w.t, w.found(name, 1)[0])
}

// facts are what a process can find out about itself, that must not depend on how it was started.
const facts = `
import hashlib, json, os, resource, signal, socket, sys
def told():
    status = dict(l.split(':', 1) for l in open('/proc/self/status'))
    keys = 'Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp SigBlk SigIgn SigCgt Threads NSpid Umask'.split()
    f = {k: status[k].strip() for k in keys}
    f['fds'] = sorted(os.readlink('/proc/self/fd/' + n).split(':')[0] for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n))
    f['pids'] = [n for n in os.listdir('/proc') if n.isdigit()]
    f['ids'] = os.getpid(), os.getppid(), os.getsid(0), os.getpgid(0)
    f['env'], f['cwd'], f['argv'], f['path'] = dict(os.environ), os.getcwd(), sys.argv, sys.path
    f['executable'], f['orig_argv'], f['flags'] = sys.executable, sys.orig_argv, str(sys.flags)
    main = sys.modules['__main__']
    f['main'] = main is sys.modules[told.__module__], getattr(main, '__file__', None), main.__name__
    f['limits'] = [resource.getrlimit(n) for n in range(16)]
    f['interfaces'] = [n for _, n in socket.if_nameindex()]
    f['mounts'] = sorted(set(' '.join(l.split()[4:6]) for l in open('/proc/self/mountinfo') if l.split()[4] in ('/', '/proc', '/tmp', '/var/tmp', '/dev/shm', '/etc/resolv.conf')))
    f['tmp'] = sorted(os.listdir('/tmp')) if os.environ.get('OWN') else 0
    f['cgroup'] = sorted(set(l.strip().split('/')[-1].split('-')[1] for l in open('/proc/self/cgroup') if '/eproxy/' in l))
    return json.dumps(f)
`

// TestForkedAlike: an instance that was forked differs from one that was started in nothing that it can see, whatever kind
// of program it is, and with or without a sandbox: privileges, users, namespaces, files, limits, what the interpreter says of the program.
func TestForkedAlike(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	text := answers(facts, "told()")
	dir := program(t, map[string]string{"app.py": text, "pkg/__init__.py": "", "pkg/__main__.py": text, "script": "#!/usr/bin/python3 -u\n" + text, "one.py": text})
	for name, argv := range map[string][]string{
		"code":    {"/usr/bin/python3", "-B", "-c", text, "x"},
		"script":  {"/usr/bin/python3", "app.py", "-c", "x"},
		"package": {"/usr/bin/python3", "-m", "pkg", "x"},
		"module":  {"/usr/bin/python3", "-Bs", "-m", "one"},
		"shebang": {dir + "/script", "x y", ""},
	} {
		for _, sandbox := range []bool{false, true} {
			got := make(map[bool]map[string]json.RawMessage)
			for _, fork := range []bool{false, true} {
				run := in(dir, command(argv...))
				run.ReadOnly, run.Outgoing = sandbox, true
				if sandbox {
					run.Env = map[string]string{"OWN": "1"}
				}
				if fork {
					run = forked(run)
				}
				stop := w.run("f", run)
				answer := get(t, w.found("f", 1)[0])
				if fork != (w.zygoteOf("f").Forks == 1) {
					t.Errorf("%s: forked %v, want %v: %+v", name, !fork, fork, w.zygoteOf("f"))
				}
				stop()
				x := make(map[string]json.RawMessage)
				if err := json.Unmarshal([]byte(answer), &x); err != nil {
					t.Fatalf("%s: %s", name, answer)
				}
				got[fork] = x
			}
			for key, want := range got[false] {
				if string(got[true][key]) != string(want) {
					t.Errorf("%s, read-only %v: %s is\n%s where it was forked,\n%s where it was started", name, sandbox, key, got[true][key], want)
				}
			}
			if len(got[true]) < 20 {
				t.Errorf("%d facts only", len(got[true]))
			}
		}
	}
	w.close()
}

// TestForkedApart: instances share neither namespaces nor numbers nor places in files with each other or with the zygote, and log as themselves.
func TestForkedApart(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	dir := program(t, map[string]string{"shared.py": "import random\nfile = open('data')\nown = random.random()\n", "data": "abcdefgh"})
	run := forked(in(dir, python(answers("import random, shared\nprint('begins', flush=True)",
		"([os.readlink('/proc/self/ns/' + n) for n in ('pid', 'net', 'mnt', 'ipc', 'uts')], random.random(), os.pread(shared.file.fileno(), 2, 0) + os.read(shared.file.fileno(), 2), shared.own)"))))
	run.Min, run.Max = 2, 2
	stop := w.run("f", run)
	pods := w.found("f", 2)
	a, b := get(t, pods[0]), get(t, pods[1])
	words := func(s string) []string { return strings.Split(strings.Trim(s, "()"), ", ") }
	x, y := words(a), words(b)
	if len(x) != 8 || len(y) != 8 {
		t.Fatalf("%s and %s", a, b)
	}
	zygote := w.zygoteOf("f").PID
	for n, name := range []string{"pid", "net", "mnt", "ipc", "uts"} {
		of, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", zygote, name))
		if err != nil {
			t.Fatal(err)
		}
		if x[n] == y[n] || strings.Trim(x[n], "'[]") == of {
			t.Errorf("%s: %s, %s and %s", name, x[n], y[n], of)
		}
	}
	if x[5] == y[5] {
		t.Errorf("both draw %s", x[5])
	}
	if x[6] != y[6] {
		t.Errorf("they read %s and %s of the file that an import has opened", x[6], y[6])
	}
	if x[7] != y[7] {
		t.Errorf("the module was run twice: %s, %s", x[7], y[7])
	}
	for n := range 2 {
		want := fmt.Sprintf("function=f instance=%d stream=stdout line=begins", n+1)
		until(t, want, func() bool { return strings.Contains(w.log.String(), want) })
	}
	stop()
	w.close()
}

// TestZygoteKilled: instances outlive their zygote; the next one is forked of another.
func TestZygoteKilled(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	stop := w.run("f", forked(python(answers("", "os.getpid()"))))
	pod := w.found("f", 1)[0]
	first := w.zygoteOf("f")
	instance := w.r.Instances()[0].PID
	if err := syscall.Kill(first.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	second := w.zygote("f", "another zygote", func(x ZygoteStatus) bool { return x.PID != first.PID && x.State == Ready })
	if !strings.Contains(w.log.String(), `msg="zygote has ended, it is begun anew" function=f reason="killed by signal SIGKILL"`) {
		t.Error("the log does not say so")
	}
	if got := get(t, pod); got != "1" || w.r.Instances()[0].PID != instance {
		t.Errorf("the instance answers %s: %+v", got, w.r.Instances())
	}
	if got := w.exchange("f"); got != "1" {
		t.Errorf("the next instance answers %s", got)
	}
	if !strings.Contains(w.log.String(), `msg="instance has failed, it is started again" function=f instance=1 reason="killed by signal SIGKILL"`) {
		t.Error("the log does not say how the instance has ended, whose zygote had ended before")
	}
	if x := w.zygoteOf("f"); x.Forks != 2 || x.PID != second.PID {
		t.Errorf("%+v, want two forks, one of them of %d", x, second.PID)
	}
	stop()
	w.close()
}

// TestZygoteSleeps: a zygote that nobody needs is frozen, and forks when it is asked to.
func TestZygoteSleeps(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	stop := w.run("f", forked(python(answers("", "os.getpid()"))))
	w.found("f", 1)
	for range 2 {
		x := w.zygote("f", "frozen zygote", is(Frozen))
		if x.Used == 0 {
			t.Errorf("%+v", x)
		}
		w.exchange("f")
	}
	if x := w.zygoteOf("f"); x.Forks != 3 {
		t.Errorf("%+v, want three forks", x)
	}
	stop()
	w.close()
}

// TestBadZygotes: whatever hinders a zygote is one state and one line, and the function is served without it.
func TestBadZygotes(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	dir := program(t, map[string]string{
		"hangs.py":    "import time\nif __import__('os').getpid() != 1: time.sleep(1000)",
		"threads.py":  "import threading\nthreading.Thread(target=threading.Event().wait, name='w', daemon=True).start()",
		"connects.py": "import socket\ns = socket.socket()",
		"loops.py":    "import asyncio\nloop = asyncio.new_event_loop()",
		"spawns.py":   "import subprocess\np = subprocess.Popen(['sleep', '1000'])",
		"shares.py":   "import mmap\nm = mmap.mmap(-1, 4096)",
		"ends.py":     "import os, sys\nif os.getpid() != 1: sys.exit('no more')",
		"crashes.py":  "import os\nif os.getpid() != 1: os.kill(os.getpid(), 11)",
		"eats.py":     "import os\nx = []\nwhile os.getpid() != 1: x.append(bytearray(1 << 20))",
		"forks.py":    "import os\nos.register_at_fork(after_in_child=lambda: os.getpid() == 1 and os._exit(9))",
	})
	imports := func(name string) *config.Run {
		run := forked(in(dir, python(answers("import "+name, "os.getpid()"))))
		return run
	}
	named := func(run *config.Run, names ...string) *config.Run { run.Imports = names; return run }
	short := imports("hangs")
	short.Start = 3 * time.Second
	shell := forked(command("/bin/sh", "-c", "exec /usr/bin/python3 -c \"$0\"", answers("", "1")))
	option := forked(python(answers("", "1")))
	option.Command = append([]string{option.Command[0], "-i"}, option.Command[1:]...)
	cases := map[string]struct {
		run  *config.Run
		want string
	}{
		"missing":  {named(imports("json"), "json", "no_such"), "import of no_such: ModuleNotFoundError: No module named 'no_such'"},
		"hangs":    {short, "after 3s it still imports hangs"},
		"threads":  {imports("threads"), "an import has started a thread (w), which no fork has"},
		"connects": {imports("connects"), "an import has left socket:["},
		"loops":    {imports("loops"), "open, which instances would share"},
		"spawns":   {imports("spawns"), "an import has started a process"},
		"shares":   {imports("shares"), "an import has made memory that instances would share"},
		"ends":     {imports("ends"), "import of ends: SystemExit: no more"},
		"crashes":  {imports("crashes"), "killed by signal SIGSEGV"},
		"eats":     {imports("eats"), "killed: it needs more than its memory limit of 64 MiB"},
		"forks":    {imports("forks"), "its fork has ended before it was an instance"},
		"shell":    {shell, `command "/bin/sh" is no Python interpreter, and no script of one`},
		"option":   {option, `command "/usr/bin/python3": option "-i" of the interpreter: a zygote cannot have it`},
	}
	var stops []func()
	for name, c := range cases {
		stops = append(stops, w.run(name, c.run))
	}
	for name, c := range cases {
		if got := get(t, w.found(name, 1)[0]); got != "1" {
			t.Errorf("%s: it answers %s", name, got)
		}
		x := w.zygoteOf(name)
		if x.State == Failed && !strings.Contains(x.Reason, c.want) || x.Forks != 0 { // or it is tried again

			t.Errorf("%s: %+v, want %q", name, x, c.want)
		}
		if !strings.Contains(w.log.String(), " function="+name+" reason=") || !strings.Contains(strings.ReplaceAll(w.log.String(), `\"`, `"`), c.want) {
			t.Errorf("%s: the log does not say %q", name, c.want)
		}
	}
	for _, stop := range stops {
		stop()
	}
	w.close()
}

// TestZygoteChanged: what an instance runs is what the files hold, also when they have changed since the zygote read them.
func TestZygoteChanged(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	dir := program(t, map[string]string{"lib.py": "value = 1\n", "app.py": answers("import lib", "lib.value")})
	stop := w.run("f", forked(in(dir, command("/usr/bin/python3", "-B", "app.py"))))
	if got := get(t, w.found("f", 1)[0]); got != "1" {
		t.Errorf("first: %s", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "lib.py"), []byte("value = 'two'\n"), 0o755); err != nil { //nolint:gosec // as it was
		t.Fatal(err)
	}
	if got := w.exchange("f"); got != "two" {
		t.Errorf("after a change: %s", got)
	}
	if want := `msg="zygote is begun anew" function=f reason="` + dir + `/lib.py has changed"`; !strings.Contains(w.log.String(), want) {
		t.Errorf("the log does not say %s", want)
	}
	if x := w.zygoteOf("f"); x.Forks != 2 {
		t.Errorf("%+v, want two forks", x)
	}
	stop()
	w.close()
}

// TestForkedEnd: how a forked instance ends is said as of others, what it needs counts as its own, and the zygote goes on.
func TestForkedEnd(t *testing.T) {
	uplink(t)
	for name, c := range map[string]struct{ program, want string }{
		"status":    {"import sys, os\nsys.exit(3)", "it ended with status 3"},
		"exception": {"import os\nos.no_such", "it ended with status 1"},
		"signal":    {"import os\nos.abort()", "killed by signal SIGSEGV"}, // the first process of a namespace gets no SIGABRT
		"memory":    {"import os\nx = []\nwhile True: x.append(bytearray(1 << 20))", "killed: it needs more than its memory limit of 64 MiB"},
		"away":      {"import os, time\nif os.fork() == 0: time.sleep(1000)", "it ended by itself with status 0: if it goes to the background, have it stay in the foreground"},
		"never":     {"import time\ntime.sleep(1000)", "after 2s it does not listen on port 8080 (PORT in its environment)"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			run := forked(python(c.program))
			run.Start = 2 * time.Second
			stop := w.run("f", run)
			seen := ""
			until(t, "failure", func() bool {
				for _, i := range w.r.Instances() {
					if i.State == Failed {
						seen = i.Reason
					}
				}
				return seen != ""
			})
			if seen != c.want {
				t.Errorf("%q, want %q", seen, c.want)
			}
			if x := w.zygoteOf("f"); x.State != Ready && x.State != Frozen || x.Forks == 0 {
				t.Errorf("%+v", x)
			}
			if name == "exception" && !strings.Contains(w.log.String(), "AttributeError: module 'os' has no attribute 'no_such'") {
				t.Error("the log has no traceback")
			}
			stop()
			w.close()
		})
	}
}

// TestForkedMemory: what an instance writes counts as its own.
func TestForkedMemory(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	dir := program(t, map[string]string{"large.py": "held = bytearray(b'x' * (24 << 20))\n"})
	run := forked(in(dir, python(answers("import large\nown = b'y' * (16 << 20)", "os.getpid()"))))
	run.Command[1] = "-Bc"
	stop := w.run("f", run)
	w.found("f", 1)
	i, z := w.r.Instances()[0].Used>>20, w.zygoteOf("f").Used>>20
	if i < 16 || i > 24+15 || z < 24 {
		t.Errorf("the instance has %d MiB, want 16 and a little; the zygote %d, want 24 at least", i, z)
	}
	stop()
	w.close()
}

// TestZygoteUnused: it stays for lambda after the last instance, and then nothing of it is left.
func TestZygoteUnused(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	run := forked(python(answers("", "os.getpid()")))
	run.Min, run.Max, run.Lambda = 0, 1, 2*time.Second
	stop := w.run("f", run)
	until(t, "function that is followed", func() bool { return w.r.Wake("f") })
	w.found("f", 1)
	w.found("f", 0)
	if x := w.zygoteOf("f"); x.State != Ready && x.State != Frozen {
		t.Errorf("%+v", x)
	}
	x := w.zygote("f", "end of the zygote", is(Stopped))
	until(t, "nothing to be left of it", func() bool {
		found, _ := filepath.Glob("/sys/fs/cgroup/*/eproxy/" + w.id + "/[kz]*")
		return len(found) == 0
	})
	if x.Reason != "" || x.Forks != 1 {
		t.Errorf("%+v", x)
	}
	w.r.Wake("f")
	w.found("f", 1)
	if x := w.zygoteOf("f"); x.Forks != 2 {
		t.Errorf("%+v, want another one to have forked", x)
	}
	stop()
	w.close()
}

// TestZygoteBudget: a zygote counts in runtime.memory; it is not begun where there is no room for it, and goes with its function's
// instances when others need memory.
func TestZygoteBudget(t *testing.T) {
	n := newNode(t, 100)
	tight := forked(holds(1))
	stop := n.run("tight", tight)
	n.begins("tight") // with 64 MiB for each of the two, as nothing is known
	if x := n.zygoteOf("tight"); x.State != Failed || !strings.HasPrefix(x.Reason, "runtime.memory is spent: 128 of 100 MiB") {
		t.Errorf("%+v", x)
	}
	stop()
	n.close()

	n = &node{world: newWorld(t), busy: make(map[string]bool)}
	n.r.budget = newBudget(140 << 20)
	n.r.Measure(func(string) Load { return Load{PerInstance: 10} })
	stops := []func(){n.run("small", forked(holds(1)))}
	n.begins("small")
	if x := n.r.tenancy(); x.staying() < n.zygoteOf("small").Used || n.zygoteOf("small").Used == 0 {
		t.Errorf("%d bytes are taken, by the zygote %d", x.staying(), n.zygoteOf("small").Used)
	}
	n.work(false, "small")
	large := holds(1)
	large.Memory = 136 << 20
	stops = append(stops, n.run("large", large))
	n.begins("large")
	n.are(map[string]State{"small": Stopped, "large": Ready})
	n.zygote("small", "end of the zygote", is(Stopped))
	for _, stop := range stops {
		stop()
	}
	n.close()
}

// TestZygotesLeft: a reload takes the zygote of before along, and nothing is counted twice.
func TestZygotesLeft(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	stop := w.run("f", forked(python(answers("", "os.getpid()"))))
	w.found("f", 1)
	first := w.zygoteOf("f").PID
	stop()
	if err := syscall.Kill(first, 0); err == nil {
		t.Errorf("zygote %d lives", first)
	}
	found := make(map[string]int)
	w.r.EachZygote(func(function string, _ int64, forks int) { found[function] = forks })
	if !maps.Equal(found, map[string]int{}) {
		t.Errorf("left: %v", found)
	}
	w.close()
}
