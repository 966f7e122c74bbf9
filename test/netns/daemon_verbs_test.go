package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eproxy/test/lib/lab"
)

// verb runs one of mapsctl's verbs and returns what it says, without its name; empty: it was done.
func (s *system) verb(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "mapsctl"), slices.Insert(args, 2, "--bpffs", s.lab.BPFFS())...)
	out, err := cmd.CombinedOutput()
	text := strings.TrimSuffix(string(out), "\n")
	if (err == nil) != (text == "") || strings.Contains(text, "\n") {
		s.t.Fatalf("mapsctl %v: %v: %q", args, err, text)
	}
	return text
}

// TestVerbs: pods, routes and functions change by mapsctl's verbs while messages are on
// their way; what was saved is there after a restart, with the comments of the file, and what was
// not is gone. What cannot be done is said in a line, and changes nothing.
func TestVerbs(t *testing.T) {
	l := newLab(t)
	r, other := newRecorder(), newRecorder()
	addr := func(pod lab.Role) string { return lab.PodAddr(pod, false).String() + ":8080" }
	serveOn(t, l, lab.Pod0, addr(lab.Pod0), r.handler(ok), nil)
	serveOn(t, l, lab.Pod1, addr(lab.Pod1), other.handler(ok), nil)
	s := start(t, l, "tc", fmt.Sprintf(strings.Replace(onePodConfig, "    pods:", "    # where it runs\n    pods:", 1), addr(lab.Pod0)))
	do := func(args ...string) {
		t.Helper()
		if got := s.verb(args...); got != "" {
			t.Fatalf("%v: %s", args, got)
		}
	}
	file := func() string {
		t.Helper()
		text, err := os.ReadFile(s.file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	original, epoch := file(), s.epoch()
	deliverSome(t, l, r, 10)
	do("pods", "add", "temp", addr(lab.Pod1))
	until(t, "the pod that was added to be in service", func() bool { row := s.podRow(lab.Pod1); return row != nil && row["idle"].(float64) > 0 })
	do("pods", "drain", "temp", addr(lab.Pod0))
	s.waitState(lab.Pod0, "drained")
	deliverSome(t, l, other, 10)
	do("pods", "add", "temp", addr(lab.Pod0))
	s.waitState(lab.Pod0, "ready")
	do("pods", "del", "temp", addr(lab.Pod0))
	until(t, "the pod to be gone", func() bool { return s.podRow(lab.Pod0) == nil })
	deliverSome(t, l, other, 10)

	c := rawConnect(t, l, "early")
	n := len(other.wait(t, 20))
	do("functions", "pause", "temp")
	c.write(publishPacket("sensors/early/temp", 1, 1, "waits"))
	c.ping()
	if got, _ := other.all(); len(got) != n {
		t.Error("a paused function got a message")
	}
	do("functions", "resume", "temp")
	c.acknowledged(1)
	if s.epoch() != epoch {
		t.Error("connections have forgotten their topics because of pods")
	}
	if file() != original {
		t.Error("the file was changed without --save")
	}

	for want, args := range map[string][]string{
		"function no is not in the configuration": {"pods", "add", "no", addr(lab.Pod0)},
		"must be address:port":                    {"pods", "add", "temp", "10.0.0.300:80"},
		"is in the configuration already":         {"pods", "add", "temp", addr(lab.Pod1)},
		"has no pod 10.9.9.9:80":                  {"pods", "drain", "temp", "10.9.9.9:80"},
		"has no pods":                             {"pods", "del", "temp", addr(lab.Pod1)},
		`unknown function "no"`:                   {"routes", "add", "x/#", "no"},
		"sensors/+/temp to function temp is in the configuration already": {"routes", "add", "sensors/+/temp", "temp"},
		"route y is not in the configuration":                             {"routes", "del", "y"},
		"function temp is resumed already":                                {"functions", "resume", "temp", "--save"},
	} {
		if i := slices.Index(args, "--save"); i >= 0 {
			args = slices.Insert(slices.Delete(args, i, i+1), 2, "--save")
		}
		if got := s.verb(args...); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", args, got, want)
		}
	}
	if file() != original {
		t.Error("the file was changed by what was refused")
	}

	do("routes", "add", "--save", "more/#", "temp")
	c.write(publishPacket("more/x", 1, 2, "routed"))
	c.acknowledged(2)
	other.wait(t, n+2)
	if text := file(); !strings.Contains(text, "more/#") || !strings.Contains(text, "# where it runs") || strings.Contains(text, addr(lab.Pod1)) {
		t.Errorf("saved is\n%s", text)
	}
	do("functions", "pause", "temp")
	do("functions", "pause", "--save", "temp") // what was tried is saved
	if text := file(); !strings.Contains(text, "paused: true") {
		t.Errorf("what is in force already is not saved:\n%s", text)
	}
	if got := s.mapsctl("functions")[0]["state"]; got != "paused" {
		t.Errorf("the state of a paused function is %q", got)
	}
	until(t, "the pod to be paused", func() bool { r := s.podRow(lab.Pod1); return r["state"] == "paused" && r["reached_by"] == nil })
	if _, out := loader(t, l, "status", "--bpffs", l.BPFFS()); !hasLine(out, "pod", addr(lab.Pod1)+" of temp", "paused", "gets no new messages: its function is paused") {
		t.Errorf("status of a paused pod:\n%s", out)
	}
	if got, want := s.verb("functions", "pause", "--save", "temp"), "function temp is paused already"; !strings.Contains(got, want) {
		t.Errorf("what the file says, too: %q, want %q", got, want)
	}
	do("functions", "resume", "--save", "temp")
	do("routes", "del", "more/#")
	if got := s.mapsctl("routes"); len(got) != 1 {
		t.Errorf("routes %v", got)
	}
	s.reload("retry:", "retry:", "reloaded")
	if got := s.mapsctl("routes"); len(got) != 2 {
		t.Errorf("after a reload routes are %v", got)
	}
	s.waitState(lab.Pod0, "ready")
}
