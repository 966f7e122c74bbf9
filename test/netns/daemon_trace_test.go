package netns

import (
	"bufio"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eproxy/internal/trace"
)

// tracing runs mapsctl trace, which ends with the test or after as many lines as it was asked for, and waits until it looks.
func (s *system) tracing(flags ...string) *traceRun {
	s.t.Helper()
	ctx, stop := context.WithTimeout(s.t.Context(), time.Minute) // so that a message that is not shown is an error
	s.t.Cleanup(stop)
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "mapsctl"), append([]string{"trace", "-o", "json", "--bpffs", s.lab.BPFFS()}, flags...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, _ := bufio.NewReader(said).ReadString('\n'); line != "looking at messages\n" {
		s.t.Fatalf("mapsctl trace %v says %q", flags, line)
	}
	return &traceRun{s.t, cmd, json.NewDecoder(out)}
}

type traceRun struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *json.Decoder
}

// next is the next message that is shown.
func (r *traceRun) next() (e trace.Event) {
	r.t.Helper()
	if err := r.lines.Decode(&e); err != nil {
		r.t.Fatal(err)
	}
	return e
}

// ends waits until it has ended by itself, without another line.
func (r *traceRun) ends() {
	r.t.Helper()
	var e trace.Event
	if err := r.lines.Decode(&e); err == nil {
		r.t.Errorf("one more message is shown: %+v", e)
	}
	if err := r.cmd.Wait(); err != nil {
		r.t.Errorf("mapsctl trace: %v", err)
	}
}

// TestTrace: mapsctl trace shows each message once for each path that it came to, with what became of it; what is not asked for
// is not shown; and only one can look.
func TestTrace(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "tc", accountConfig(t))
	c := mustLogIn(t, l, account{version: 5, id: "c", user: "dev"})
	other := mustLogIn(t, l, account{version: 5, id: "cc", user: "dev"})
	eve := mustLogIn(t, l, account{version: 5, id: "e", user: "eve"})
	publish := func(c *accountConn, topic string, id uint16, want byte, properties ...string) {
		t.Helper()
		c.write(c.message(topic, id, "x", properties...))
		if p := c.packet(); p[0]&0xf0 != 0x40 || len(p) > 4 && p[4] != want || len(p) == 4 && want != 0 {
			t.Fatalf("%s: % x, want reason code %#x", topic, p, want)
		}
	}
	publish(c, "sensors/c/temp", 1, 0) // it is not shown: nobody looks

	run := s.tracing("--client", "c", "--count", "3")
	if out, err := exec.Command(filepath.Join(bin, "mapsctl"), "trace", "--bpffs", l.BPFFS()).CombinedOutput(); err == nil || !strings.Contains(string(out), "somebody else looks") || strings.Count(string(out), "\n") != 2 {
		t.Errorf("a second one may look: %v, %q", err, out)
	}
	publish(other, "sensors/cc/temp", 1, 0)
	publish(c, "sensors/c/temp", 2, 0)
	e := run.next()
	if e.Path != trace.Kernel || e.Hook != "tc_device_in" || e.Client != "c" || e.Topic != "sensors/c/temp" || e.Route != "sensors/+/temp" || e.Function != "temp" ||
		!strings.HasSuffix(e.Pod, ":8080") || e.Status != 200 || e.QoS != 1 || e.Outcome != "delivered" || e.Took <= 0 || e.Time.IsZero() {
		t.Errorf("in the kernel: %+v", e)
	}
	const correlation = "\x09\x00\x01t" // for the fallback
	publish(c, "sensors/c/temp", 3, 0, correlation)
	if e := run.next(); e.Path != trace.Left || e.Reason != "properties" || e.Topic != "sensors/c/temp" || e.Function != "temp" || e.Status != 0 {
		t.Errorf("left: %+v", e)
	}
	if e := run.next(); e.Path != trace.Fallback || e.Client != "c" || e.Topic != "sensors/c/temp" || e.Function != "temp" || e.Status != 200 || e.Outcome != "delivered" || e.Took <= 0 {
		t.Errorf("in the fallback: %+v", e)
	}
	run.ends()

	run = s.tracing("--reason", "not_authorized", "--count", "1")
	publish(eve, "sensors/other/temp", 1, 0x87)
	if e := run.next(); e.Path != trace.Refused || e.Client != "e" || e.Topic != "sensors/other/temp" {
		t.Errorf("refused: %+v", e)
	}
	run.ends()

	run = s.tracing("--function", "temp", "--topic", "sensors/+/temp", "--status", "200", "--count", "1")
	publish(c, "elsewhere", 4, 0)
	publish(c, "sensors/c/temp", 5, 0)
	if e := run.next(); e.Path != trace.Kernel || e.Topic != "sensors/c/temp" {
		t.Errorf("by its function: %+v", e)
	}
	run.ends()
	code, _, said := command(t, "mapsctl", "trace", "--function", "none", "--bpffs", l.BPFFS())
	if code != 1 || !strings.Contains(said, `function "none": no such function`) || strings.Count(said, "\n") != 1 {
		t.Errorf("a function that there is not: exit %d, %q", code, said)
	}
}
