package instances

import (
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

// TestZygoteSocketHeld: that a zygote has ended is known also where an instance holds its socket.
func TestZygoteSocketHeld(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	dir := program(t, map[string]string{"holds.py": "import os\nclose = os.close\nos.close = lambda fd: fd == 3 or close(fd)\n"})
	run := forked(in(dir, python(answers("import holds", "os.readlink('/proc/self/fd/3')[:6]"))))
	stop := w.run("f", run)
	if got := get(t, w.found("f", 1)[0]); got != "socket" {
		t.Fatalf("the instance has %s at 3", got)
	}
	first := w.zygoteOf("f").PID
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.zygote("f", "another zygote", func(x ZygoteStatus) bool { return x.PID != first && x.State == Ready })
	stop()
	w.close()
}

// TestZygoteTalks: a zygote that says more than it has to is ended.
func TestZygoteTalks(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	talks := "import os\nif os.getpid() != 1:\n    for n in range(%s): os.write(3, b'%s')\n"
	late := "import os\nos.register_at_fork(before=lambda: os.write(3, b'{\"importing\": \"x\"}'))\n"
	dir := program(t, map[string]string{"early.py": fmt.Sprintf(talks, "1 << 40", "{}"), "late.py": late})
	for _, name := range []string{"early", "late"} {
		stop := w.run(name, forked(in(dir, python(answers("import "+name, "os.getpid()")))))
		if got := get(t, w.found(name, 1)[0]); got != "1" {
			t.Errorf("%s: it answers %s", name, got)
		}
		want := "function=" + name + ` reason="it says more than a zygote has to say"`
		until(t, want, func() bool { return strings.Contains(w.log.String(), want) })
		stop()
	}
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

// outside is a module that has a process become the instance which it has forked before there was a group for it.
const outside = `import ctypes, os, socket
libc, fork, read_write = ctypes.CDLL(None), os.fork, []
def hop():
    found = []
    for n in range(4, 64):
        try: found.append(socket.socket(fileno=os.dup(n)))
        except OSError: pass
    return found[0]
def other():
    os.read(read_write[0], 1)
    libc.unshare(0x20000000)
    if fork() == 0:
        hop().send(b'{}')
        while True: __import__('signal').pause()
    os._exit(0)
def odd():
    if read_write:
        os.write(read_write[1], b'!')
        return 1
    read_write.extend(os.pipe())
    pid = fork()
    if pid == 0 and fork() == 0: other()
    return pid
if os.getpid() != 1: os.fork = odd`

// TestBadZygotes: whatever hinders a zygote is one state and one line, and the function is served without it.
func TestBadZygotes(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	dir := program(t, map[string]string{
		"hangs.py":     "import time\nif __import__('os').getpid() != 1: time.sleep(1000)",
		"threads.py":   "import threading\nthreading.Thread(target=threading.Event().wait, name='w', daemon=True).start()",
		"connects.py":  "import socket\ns = socket.socket()",
		"loops.py":     "import asyncio\nloop = asyncio.new_event_loop()",
		"spawns.py":    "import subprocess\np = subprocess.Popen(['sleep', '1000'])",
		"shares.py":    "import mmap\nm = mmap.mmap(-1, 4096)",
		"writes.py":    "import os\nif os.getpid() != 1: raise RuntimeError('a\\x1b[31mb\\nc')",
		"ends.py":      "import os, sys\nif os.getpid() != 1: sys.exit('no more')",
		"crashes.py":   "import os\nif os.getpid() != 1: os.kill(os.getpid(), 11)",
		"eats.py":      "import os\nx = []\nwhile os.getpid() != 1: x.append(bytearray(1 << 20))",
		"outside.py":   outside,
		"temporary.py": "import tempfile\nf = tempfile.TemporaryFile()",
		"memory.py":    "import os\nfd = os.memfd_create('x')",
		"admin.py":     "import ctypes, os\nos.register_at_fork(after_in_child=lambda: os.getpid() != 1 and ctypes.CDLL(None).unshare(0x10000000))",
		"forks.py":     "import os\nos.register_at_fork(after_in_child=lambda: os.getpid() == 1 and os._exit(9))",
	})
	imports := func(name string) *config.Run {
		run := forked(in(dir, python(answers("import "+name, "os.getpid()"))))
		return run
	}
	named := func(run *config.Run, names ...string) *config.Run { run.Imports = names; return run }
	short := imports("hangs")
	short.Start = 6 * time.Second
	shell := forked(command("/bin/sh", "-c", "exec /usr/bin/python3 -c \"$0\"", answers("", "1")))
	option := forked(python(answers("", "1")))
	option.Command = append([]string{option.Command[0], "-i"}, option.Command[1:]...)
	cases := map[string]struct {
		run  *config.Run
		want string
	}{
		"missing":   {named(imports("json"), "json", "no_such"), "import of no_such: ModuleNotFoundError: No module named 'no_such'"},
		"hangs":     {short, "after 6s it still imports hangs"},
		"threads":   {imports("threads"), "an import has started a thread (w), which no fork has"},
		"connects":  {imports("connects"), "an import has left socket:["},
		"loops":     {imports("loops"), "open, which instances would share"},
		"spawns":    {imports("spawns"), "an import has started a process"},
		"shares":    {imports("shares"), "an import has made memory that instances would share"},
		"writes":    {imports("writes"), "import of writes: RuntimeError: a?[31mb c"},
		"ends":      {imports("ends"), "import of ends: SystemExit: no more"},
		"crashes":   {imports("crashes"), "killed by signal SIGSEGV"},
		"eats":      {imports("eats"), "killed: it needs more than its memory limit of 64 MiB"},
		"forks":     {imports("forks"), "its fork has ended before it was an instance"},
		"outside":   {imports("outside"), "its fork is a process of another control group"},
		"admin":     {imports("admin"), "network namespace: its user namespace is one of user 65534"},
		"temporary": {imports("temporary"), "an import has left a file without a name open to write, which instances would share"},
		"memory":    {imports("memory"), "an import has left a file without a name open to write, which instances would share"},
		"shell":     {shell, `command "/bin/sh" is no Python interpreter, and no script of one`},
		"option":    {option, `command "/usr/bin/python3": option "-i" of the interpreter: a zygote cannot have it`},
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

// TestZygoteSignals: an import that sees to its children itself hinders nothing.
func TestZygoteSignals(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	stop := w.run("f", forked(in(program(t, map[string]string{"ignores.py": "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"}),
		python(answers("import ignores", "os.getpid()")))))
	w.found("f", 1)
	first := w.zygoteOf("f").PID
	w.exchange("f")
	if x := w.zygoteOf("f"); x.Forks != 2 || x.PID != first {
		t.Errorf("%+v, want two forks of %d", x, first)
	}
	stop()
	w.close()
}

// TestZygoteGiven: one that is begun when its memory is needed ends when it is ready.
func TestZygoteGiven(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	dir := program(t, map[string]string{"waits.py": "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n"})
	stop := w.run("f", forked(in(dir, python(answers("import waits", "os.getpid()")))))
	w.zygote("f", "zygote that is begun", is(Starting))
	w.r.mu.Lock()
	n := w.r.known["f"].sets[0].nursery
	w.r.mu.Unlock()
	n.give()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.found("f", 1)
	if x := w.zygoteOf("f"); x.State != Stopped || x.Forks != 0 {
		t.Errorf("%+v", x)
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
