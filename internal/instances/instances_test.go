package instances

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"eproxy/internal/config"
)

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
