package netns

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"eproxy/test/lab"
)

// bin is where make build puts the binaries.
const bin = "../../bin"

func TestMain(m *testing.M) {
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
	for _, p := range []string{"mosquitto_pub", "node", "npm", "python3", "tshark", "tcpdump"} {
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
}

// start runs eproxy until the test ends.
func start(t *testing.T, l *lab.Lab, mode, config string) *system {
	t.Helper()
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.StartEproxy(context.Background(), t.TempDir(), lab.Eproxy{Bin: abs, Mode: mode, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	s := &system{Process: p, t: t, lab: l, mode: mode}
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

// mapsctl runs bin/mapsctl and decodes its JSON rows.
func (s *system) mapsctl(noun ...string) []map[string]any {
	s.t.Helper()
	args := append(noun, "-o", "json", "--bpffs", s.lab.BPFFS())
	out, err := exec.Command(filepath.Join(bin, "mapsctl"), args...).Output()
	if err != nil {
		s.t.Fatalf("mapsctl %v: %v", noun, err)
	}
	var rows []map[string]any
	if err := json.Unmarshal(out, &rows); err != nil {
		s.t.Fatalf("mapsctl %v: %v: %s", noun, err, out)
	}
	return rows
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
var missed = []string{"not_open", "not_next", "lost_track", "no_slot", "dead_socket", "ring_full",
	"pod_window", "race", "slot_write", "not_granted", "family", "redirect_error", "bad_checksum"}

// share is the part of the eligible messages that the kernel took since before.
func share(before, after map[string]int) (taken, eligible int) {
	diff := func(k string) int { return after[k] - before[k] }
	taken = diff("xdp_device/taken") + diff("tc_device_in/taken")
	eligible = taken
	for _, r := range missed {
		eligible += diff("tc_device_in/" + r)
	}
	return taken, eligible
}
