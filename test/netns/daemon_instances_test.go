package netns

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
)

// instancesConfig runs a function of its own in each language.
const instancesConfig = `
listeners: [{address: ":1883"}]
functions:
  - {name: node, url: "http://node.local/", concurrency: 2, run: {command: [node, -e, "require('http').createServer((q, s) => q.resume().on('end', () => s.end('ok'))).listen(process.env.PORT)"], instances: 2}}
  - {name: python, url: "http://python.local/", concurrency: 2, run: {command: [/usr/bin/python3, -c, %q], memory: 64Mi}}
  - {name: broken, url: "http://broken.local/", run: {command: [/no/such/program]}}
routes:
  - {topic: "sensors/+/node", function: node}
  - {topic: "sensors/+/python", function: python}
  - {topic: "sensors/+/broken", function: broken}
`

// TestInstancesOfFunctions: functions that the loader runs get messages in the kernel
// path, what is wrong with one is shown, a reload exchanges them, and nothing is left of
// them at the end, however that comes.
func TestInstancesOfFunctions(t *testing.T) {
	l := newLab(t)
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := l.StartEproxy(context.Background(), dir, lab.Eproxy{Bin: abs, Mode: "tc", Config: fmt.Sprintf(instancesConfig, lab.PythonFunction)})
	if err != nil {
		t.Fatal(err)
	}
	s := &system{Process: p, t: t, lab: l, mode: "tc", file: filepath.Join(dir, "eproxy.yaml")}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Log(s.Log())
		}
	})
	pids := func(want int) (out []int) {
		t.Helper()
		until(t, "instances to be ready", func() bool {
			out = nil
			for _, row := range s.mapsctl("instances") {
				if row["state"] == "ready" {
					out = append(out, int(row["pid"].(float64)))
				}
			}
			return len(out) == want
		})
		return out
	}
	before := pids(3)
	c := rawConnect(t, l, "d")
	id := uint16(0)
	deliver := func(function string) {
		t.Helper()
		for range 20 {
			id++
			c.publish("sensors/d/"+function, id, "x")
		}
	}
	counts := s.counts()
	deliver("node")
	deliver("python")
	if taken, _ := share(counts, s.counts()); taken < 30 {
		t.Errorf("%d of 40 messages were taken in the kernel", taken)
	}
	until(t, "the broken one to be shown", func() bool {
		for _, row := range s.mapsctl("pods") {
			if row["function"] == "broken" && row["state"] == "discovered" && strings.Contains(fmt.Sprint(row["reason"]), `failed: command "/no/such/program": no such file`) {
				return true
			}
		}
		return false
	})
	s.reload("memory: 64Mi", "memory: 65Mi", "msg=reloaded")
	deliver("python")
	deliver("node")
	after := pids(3)
	same := 0
	for _, pid := range after {
		for _, old := range before {
			if pid == old {
				same++
			}
		}
	}
	if same != 2 {
		t.Errorf("processes %v became %v: want those of node to stay, and that of python to be another", before, after)
	}
	gone := func(how string, pids []int) {
		t.Helper()
		until(t, "processes to end by "+how, func() bool {
			for _, pid := range pids {
				if unix.Kill(pid, 0) == nil {
					return false
				}
			}
			return true
		})
		until(t, "veth pairs to go by "+how, func() bool {
			out, err := l.Run(t.Context(), lab.Node, "ip", "-br", "link")
			return err == nil && !strings.Contains(string(out), "epfn")
		})
	}
	s.Kill()
	gone("SIGKILL", after)
	again, err := l.StartServing(lab.Node, exec.Command(filepath.Join(abs, "loader"), "run", "--config", s.file))
	if err != nil {
		t.Fatal(err)
	}
	s.Process = again
	after = pids(3)
	began := time.Now()
	if err := again.Stop(); err != nil {
		t.Error(err)
	}
	t.Logf("SIGTERM took %s", time.Since(began))
	gone("SIGTERM", after)
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/eproxy/" + filepath.Base(l.BPFFS()) + "-*"); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
	if out, err := l.Run(t.Context(), lab.Node, "nft", "list", "tables"); err != nil || strings.Contains(string(out), "eproxy") {
		t.Errorf("tables of nftables are left: %s (%v)", out, err)
	}
	if err := os.Chmod(s.file, 0o622); err != nil {
		t.Fatal(err)
	}
	if code, out := loader(t, l, "run", "--config", s.file); code != 1 || !strings.Contains(out, "must belong to root and be writable by nobody else") {
		t.Errorf("a file that others can write: exit %d, %s", code, out)
	}
}
