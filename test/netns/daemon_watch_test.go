package netns

import (
	"bufio"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMetricsWatch: the changes that it prints add up to what was sent, and an interrupt ends it as one that was asked
// for.
func TestMetricsWatch(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "tc", accountConfig(t))
	cmd := exec.Command(filepath.Join(bin, "mapsctl"), "metrics", "--watch", "--interval", "100ms", "-o", "json", "--bpffs", s.lab.BPFFS())
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	late := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	if first, err := bufio.NewReader(said).ReadString('\n'); !strings.Contains(first, "looking") {
		t.Fatalf("%q, %v", first, err)
	}
	c := mustLogIn(t, l, account{version: 4, id: "c", user: "dev"})
	const n = 25
	for id := uint16(1); id <= n; id++ {
		if _, end := c.answer("sensors/c/temp", id, "x"); end {
			t.Fatal("a message is not acknowledged")
		}
	}
	sum, lines := 0.0, json.NewDecoder(out)
	for sum < n {
		var x struct {
			Name          string
			Labels        map[string]string
			Value, Change float64
			PerSecond     float64 `json:"per_second"`
		}
		if err := lines.Decode(&x); err != nil {
			t.Fatalf("after %v of %d messages: %v", sum, n, err)
		}
		if x.Name == "eproxy_messages_total" && x.Labels["route"] == "sensors/+/temp" {
			sum += x.Change
			if x.Value != sum || x.PerSecond <= 0 {
				t.Errorf("%v after changes of %v: %+v", x.Value, sum, x)
			}
		}
	}
	if sum != n {
		t.Errorf("changes add up to %v, not %d", sum, n)
	}
	if err := cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("an interrupt ends it with %v", err)
	}
}
