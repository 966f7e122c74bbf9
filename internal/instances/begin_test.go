package instances

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"eproxy/internal/cgroup"
)

// hang has every process that comes into the groups of a world stop there, before it has become its command.
func (w *world) hang() {
	w.t.Helper()
	groups, err := cgroup.Find()
	if err != nil {
		w.t.Fatal(err)
	}
	g := groups.At(top, w.id)
	if err := g.Make(cgroup.Limits{Memory: 1 << 30, PIDs: 100}); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(groups.Unified(), top, w.id, "cgroup.freeze"), []byte("1"), 0); err != nil {
		w.t.Fatal(err)
	}
}

// TestHangsBeforeItBegins: what does not come to the point where its command is started is given up when its time is over, and
// when nobody wants it any more.
func TestHangsBeforeItBegins(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	w.hang()
	short := says("1")
	short.Start = 100 * time.Millisecond
	stopShort := w.run("short", short)
	long := says("1")
	long.Start = time.Hour
	stopLong := w.run("long", long)
	until(t, "failure", func() bool {
		for _, s := range w.r.Instances() {
			if s.Function == "short" && s.State == Failed && s.Reason == "after 100ms its namespaces and files are not ready for it" {
				return true
			}
		}
		return false
	})
	stopShort()
	stopLong() // waits until it has ended
	w.close()
}

// TestNameServersFollow: instances know the name servers of now, those that run and those that start.
func TestNameServersFollow(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const before, after = "nameserver 192.0.2.53\noptions edns0", "nameserver 192.0.2.54"
	write(before + "\n")
	w.r.resolvers = []string{file}
	run := says("open('/etc/resolv.conf').read()")
	run.Outgoing = true
	stop := w.run("f", run)
	pod := w.found("f", 1)[0]
	if got := get(t, pod); got != before {
		t.Errorf("at first %q", got)
	}
	write(after + "\n")
	until(t, "other name servers", func() bool { return get(t, pod) == after })
	write("nameserver 127.0.0.1\n") // which it does not reach
	again := w.run("g", run)
	if got := get(t, w.found("g", 1)[0]); got != after {
		t.Errorf("then %q", got)
	}
	stop()
	again()
	w.close()
}

// TestDroppedForwards: a firewall that lets nobody's packets pass is named, whoever made it.
func TestDroppedForwards(t *testing.T) {
	uplink(t)
	if why := unforwarded(); why != "" {
		t.Errorf("without a firewall: %s", why)
	}
	nft := func(script string) {
		t.Helper()
		if out, err := exec.Command("nft", script).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	nft("table ip filter { chain FORWARD { type filter hook forward priority 0; policy accept; }; }")
	defer nft("delete table ip filter")
	if why := unforwarded(); why != "" {
		t.Errorf("with one that lets all pass: %s", why)
	}
	nft("add chain ip filter FORWARD { policy drop; }")
	if why := unforwarded(); !strings.Contains(why, "the chain FORWARD of the table filter") {
		t.Errorf("with one that does not: %q", why)
	}
}

// TestKilledBefore: what the memory limit has cost before does not explain another end.
func TestKilledBefore(t *testing.T) {
	groups, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	g := groups.At(top, "test-killed-before")
	if err := g.Make(cgroup.Limits{Memory: 16 << 20, PIDs: 100}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Remove() }()
	run := func(script string) *process {
		p, cmd := &process{group: g, killed: g.OOMKills()}, exec.Command("sh", "-c", "read x; "+script)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := g.Add(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		}
		in.Close()
		_ = cmd.Wait()
		p.status = cmd.ProcessState.Sys().(syscall.WaitStatus)
		return p
	}
	if why := run(`exec python3 -c "x = b'x' * (64 << 20)"`).ended(16 << 20); !strings.Contains(why, "memory limit") {
		t.Errorf("killed for its memory: %s", why)
	}
	if why := run("exit 3").ended(16 << 20); why != "it ended with status 3" {
		t.Errorf("ended after that: %s", why)
	}
}
