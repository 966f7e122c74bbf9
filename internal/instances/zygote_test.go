package instances

import (
	"encoding/json"
	"fmt"
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

// hoarding is a module that sees to it that its keeper does not hear of the ends of instances: they are the zygote's children.
const hoarding = `import ctypes, os
if os.getpid() != 1:
    os.register_at_fork(before=lambda: ctypes.CDLL(None).prctl(36, 1, 0, 0, 0))`

// TestForkedUnheard: the end of an instance is noticed, and the instance is ended, where code of the function sees to it that its keeper
// does not hear of it.
func TestForkedUnheard(t *testing.T) {
	uplink(t)
	for name, module := range map[string]string{
		"subreaper": "import ctypes\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n",
		"hoarder":   hoarding,
		"parent": // the one between the zygote and the instance stays
		"import os\nend = os._exit\nos._exit = lambda status: end(status) if os.getpid() == 1 or status else __import__('signal').pause()\n" +
			"wait = os.waitpid\nos.waitpid = lambda pid, options: wait(pid, options) if options else (pid, 0)\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			dir := program(t, map[string]string{"odd.py": module})
			stop := w.run("f", forked(in(dir, python(answers("import odd", "os.getpid()")))))
			w.found("f", 1)
			if got := w.exchange("f"); got != "1" {
				t.Errorf("the next instance answers %s", got)
			}
			if want := `msg="instance has failed, it is started again" function=f instance=1 reason="killed by signal SIGKILL"`; !strings.Contains(w.log.String(), want) {
				t.Errorf("the log does not say %s", want)
			}
			if x := w.zygoteOf("f"); x.Forks != 2 {
				t.Errorf("%+v, want two forks", x)
			}
			stop()
			w.close()
		})
	}
}
