package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/lab"
)

// zygoteConfig has a function in Python whose instances are forked, and whose modules cannot all be imported where it is called bad.
const zygoteConfig = `
listeners: [{address: ":1883"}]
functions:
  - {name: forked, url: "http://forked.local/", run: {command: [/usr/bin/python3, -c, %[1]q], zygote: python, instances: {max: 1}, lambda: 2s}}
  - {name: bad, url: "http://bad.local/", run: {command: [/usr/bin/python3, -c, %[1]q], zygote: python, imports: [http.server, no_such], instances: {max: 1}}}
routes:
  - {topic: "z/+/forked", function: forked}
  - {topic: "z/+/bad", function: bad}
`

// zygoteFunction says what it gets.
var zygoteFunction = strings.Replace(lab.PythonFunction, "self.rfile.read", "print(self.headers['ce-subject'], flush=True); self.rfile.read", 1)

// TestZygoteWithMessages: a message for a function without instances has one forked for it, each time; one that comes while the
// zygote is killed is delivered, too; a function whose zygote cannot be made is served without; the end leaves nothing.
func TestZygoteWithMessages(t *testing.T) {
	const rounds = 4
	l := newLab(t)
	s := start(t, l, "tc", fmt.Sprintf(zygoteConfig, zygoteFunction))
	row := func(function string) map[string]any {
		for _, row := range s.mapsctl("functions") {
			if row["name"] == function {
				return row
			}
		}
		return nil
	}
	c := rawConnect(t, l, "d")
	var sent []string
	send := func(function string) {
		sent = append(sent, fmt.Sprintf("z/%d/%s", len(sent), function))
		c.publish(sent[len(sent)-1], uint16(len(sent)), "x")
	}
	send("bad")
	if why := fmt.Sprint(row("bad")["reason"]); row("bad")["zygote"] != "failed" || !strings.Contains(why, "no zygote: import of no_such: ModuleNotFoundError") {
		t.Errorf("the one that has no zygote: %v", row("bad"))
	}
	for n := range rounds {
		until(t, "function without an instance", func() bool { return row("forked")["state"] == "stopped" })
		if n == rounds/2 { // whether it is there still or not
			for _, pid := range zygotes(t) {
				if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
					t.Fatal(err)
				}
			}
		}
		send("forked")
		if state := row("forked")["zygote"]; n != rounds/2 && state != "ready" && state != "frozen" {
			t.Errorf("round %d: its zygote is %v", n, state)
		}
	}
	for _, topic := range sent {
		if n := strings.Count(s.Log()+"\n", "line="+topic+"\n"); n != 1 {
			t.Errorf("the message to %s was delivered %d times", topic, n)
		}
	}
	if n := strings.Count(s.Log(), "msg=\"zygote cannot be begun"); n != 1 {
		t.Errorf("it is said %d times that the other one has no zygote", n)
	}
	all := zygotes(t)
	if len(all) == 0 {
		t.Error("no zygote is found")
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	for _, pid := range all {
		if unix.Kill(pid, 0) == nil {
			t.Errorf("process %d of a zygote lives", pid)
		}
	}
	if left := zygotes(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// zygotes are the processes of all loaders' zygotes of this function, and not those of who keeps them.
func zygotes(t *testing.T) (pids []int) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		b, _ := os.ReadFile(file) // of one that has ended: nothing
		args := strings.Split(string(b), "\x00")
		if slices.Contains(args, zygoteFunction) && slices.Contains(args, "-c") && strings.Contains(string(b), "os.read(3, ") && inner(filepath.Dir(file)) != "1" {
			var pid int
			if _, err := fmt.Sscanf(file, "/proc/%d/", &pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// inner is the process ID in the innermost PID namespace, of a directory of /proc.
func inner(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "status"))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			all := strings.Fields(rest)
			return all[len(all)-1]
		}
	}
	return ""
}
