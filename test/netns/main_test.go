package netns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"eproxy/test/lib/lab"
)

// bin is where make build puts the binaries.
const bin = "../../bin"

func TestMain(m *testing.M) {
	if os.Getenv(asFunction) != "" {
		serveFunction()
		return
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "test/netns:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// prepare makes sure that everything the suite needs is there: a missing
// program is a failure, never a skip.
func prepare() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root: run make test as root")
	}
	for _, b := range []string{"loader", "mapsctl", "userspace-fallback"} {
		if _, err := os.Stat(filepath.Join(bin, b)); err != nil {
			return fmt.Errorf("%w: run make build first", err)
		}
	}
	for _, p := range []string{"mosquitto", "mosquitto_pub", "node", "npm", "python3", "gunicorn", "uvicorn", "php", "tshark", "tcpdump"} {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("%s is missing: make test installs it: %w", p, err)
		}
	}
	if _, err := os.Stat("node/node_modules/mqtt"); err != nil {
		if out, err := exec.Command("npm", "--prefix", "node", "ci", "--no-audit", "--no-fund").CombinedOutput(); err != nil {
			return fmt.Errorf("npm ci: %w: %s", err, out)
		}
	}
	return nil
}

// newLab is a lab that goes with the test.
func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// system is eproxy running on the node.
type system struct {
	*lab.Process
	t    *testing.T
	lab  *lab.Lab
	mode string
	file string // configuration
}

// start runs eproxy until the test ends.
func start(t *testing.T, l *lab.Lab, mode, config string) *system {
	t.Helper()
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := l.StartEproxy(context.Background(), dir, lab.Eproxy{Bin: abs, Mode: mode, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	s := &system{Process: p, t: t, lab: l, mode: mode, file: filepath.Join(dir, "eproxy.yaml")}
	t.Cleanup(func() {
		var last map[string]int
		if t.Failed() {
			last = s.counts()
		}
		if err := p.Stop(); err != nil {
			t.Errorf("eproxy ended with %v", err)
		}
		if t.Failed() {
			t.Logf("eproxy's log:\n%s", p.Log())
			t.Logf("counters at the end: %v", last)
		}
		if _, err := os.Stat(l.BPFFS()); err == nil {
			t.Error("pins are left after a clean stop")
		}
	})
	return s
}

// mapsctl runs bin/mapsctl for a noun and decodes its JSON rows.
func (s *system) mapsctl(noun string) []map[string]any {
	s.t.Helper()
	return s.rows(noun)
}

// routesTest is what mapsctl says about a topic.
func (s *system) routesTest(topic string) []map[string]any {
	s.t.Helper()
	return s.rows("routes", "test", topic)
}

// rows runs bin/mapsctl for a noun, a sub-command and its argument.
func (s *system) rows(noun string, sub ...string) []map[string]any {
	s.t.Helper()
	flags := []string{"-o", "json", "--bpffs", s.lab.BPFFS()}
	args := slices.Concat([]string{noun}, sub, flags)
	var said bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, "mapsctl"), args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("mapsctl %v: %v: %s", args, err, &said)
	}
	var rows []map[string]any
	if err := json.Unmarshal(out, &rows); err != nil {
		s.t.Fatalf("mapsctl %v: %v: %s", args, err, out)
	}
	return rows
}

// reload replaces a part of the configuration file, sends SIGHUP and waits for
// what the log is to say.
func (s *system) reload(old, fresh, want string) {
	s.t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		s.t.Fatalf("%q is not in the configuration", old)
	}
	if err := os.WriteFile(s.file, []byte(strings.Replace(string(text), old, fresh, 1)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	line := s.Expect(want)
	if err := s.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	if err := line(); err != nil {
		s.t.Fatal(err)
	}
}

// counts are the counters by hook and reason.
func (s *system) counts() map[string]int {
	s.t.Helper()
	m := make(map[string]int)
	if s.mode == "fallback" {
		return m
	}
	for _, r := range s.mapsctl("reasons") {
		m[r["hook"].(string)+"/"+r["reason"].(string)] = int(r["count"].(float64))
	}
	return m
}

// missed are the reasons for which the programs leave a message to the fallback
// although nothing in the message itself demands it.
var missed = []string{"not_open", "not_next", "lost_track", "no_slot", "park_full", "dead_socket", "ring_full",
	"pod_window", "race", "slot_write", "load_error", "not_granted", "family", "redirect_error", "bad_checksum"}

// share is the part of the eligible messages that the kernel took since before.
func share(before, after map[string]int) (taken, eligible int) {
	diff := func(k string) int { return after[k] - before[k] }
	taken = diff("xdp_device/taken") + diff("tc_device_in/taken") + diff("tc_device_in/parked")
	eligible = taken
	for _, r := range missed {
		eligible += diff("tc_device_in/" + r)
	}
	return taken, eligible
}
