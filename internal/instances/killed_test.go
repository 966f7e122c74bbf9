package instances

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"eproxy/internal/cgroup"
	"eproxy/test/lib/await"
)

// forkedReady is the state of an instance that was forked and is Ready.
const forkedReady = "forked"

// beLoader runs a function until it is killed.
func beLoader(id string, argv []string) {
	r := newRuntime(id, os.TempDir(), io.Discard)
	run := command(argv[1:]...)
	if argv[0] == forkedReady {
		run, argv[0] = forked(run), string(Ready)
	}
	if argv[0] == string(Frozen) {
		run.Idle = time.Second
	}
	go func() {
		is := func(state string) func() bool {
			return func() bool { all := r.Instances(); return len(all) == 1 && string(all[0].State) == state }
		}
		if await.Within(patience, is(string(Ready))) {
			r.Touch("f")
			if await.Within(patience, is(argv[0])) {
				fmt.Println(r.Instances()[0].PID)
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
	for _, state := range []string{string(Ready), string(Frozen), forkedReady} {
		t.Run(state, func(t *testing.T) { loaderKilled(t, state) })
	}
}

// loaderKilled kills a loader whose instance is in a state.
func loaderKilled(t *testing.T, state string) {
	id := fmt.Sprintf("test-%d-killed", os.Getpid())
	fork := `
import os, socket, time
s = socket.create_server(('', 8080))
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(1000)
time.sleep(1000)`
	cmd := exec.Command("/proc/self/exe", asLoader, id, state, "/usr/bin/python3", "-c", fork)
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
	procs := func(of string) (n int) { // processes of groups
		t.Helper()
		found, err := filepath.Glob(filepath.Join(groups.Unified(), top, id, of, "cgroup.procs"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no groups %s: %v", of, err)
		}
		for _, file := range found {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			n += bytes.Count(b, []byte("\n"))
		}
		return n
	}
	until(t, "three processes", func() bool { return procs("1-f") == 3 })
	if state == forkedReady && procs("[kz]*") != 2 {
		t.Errorf("%d processes are the zygote's, want it and its keeper", procs("[kz]*"))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	until(t, "end of all processes", func() bool { return procs("*") == 0 })
	until(t, "end of the namespace", func() bool {
		out, _ := exec.Command("ip", "-br", "link").Output()
		return !strings.Contains(string(out), linkPrefix)
	})
	if err := Unload(id, os.TempDir()); err != nil {
		t.Error(err)
	}
	left(t, id)
}

// removeOfKilled removes the empty groups of tests that were killed, and could not.
func removeOfKilled() {
	groups, err := cgroup.Find()
	if err != nil {
		return // tests that need one say so
	}
	found, _ := filepath.Glob(filepath.Join(groups.Unified(), top, "test-*"))
	for _, dir := range found {
		id := filepath.Base(dir)
		var pid int
		if n, _ := fmt.Sscanf(id, "test-%d-", &pid); n == 0 || syscall.Kill(pid, 0) != syscall.ESRCH {
			continue
		}
		removeEmpty(groups, id)
	}
}

// removeEmpty removes the groups of a runtime that has ended, if they are empty.
func removeEmpty(groups *cgroup.Hierarchies, id string) {
	of, _ := os.ReadDir(filepath.Join(groups.Unified(), top, id))
	for _, e := range of {
		if e.IsDir() {
			groups.At(top, id, e.Name()).RemoveIfEmpty()
		}
	}
	groups.At(top, id).RemoveIfEmpty()
}

// TestRemoveOfKilled: the empty groups of a test that has ended are removed, and no others.
func TestRemoveOfKilled(t *testing.T) {
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	groups, err := cgroup.Find()
	if err != nil {
		t.Fatal(err)
	}
	for pid, stays := range map[int]bool{ended.Process.Pid: false, os.Getpid(): true} {
		id := fmt.Sprintf("test-%d-removed", pid)
		g := groups.At(top, id)
		if err := groups.At(top, id, "1-f").Make(cgroup.Limits{Memory: 1 << 20, PIDs: 1}); err != nil {
			t.Fatal(err)
		}
		removeOfKilled()
		if g.Exists() != stays {
			t.Errorf("groups of process %d: exist %v, want %v", pid, !stays, stays)
		}
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
	}
}
