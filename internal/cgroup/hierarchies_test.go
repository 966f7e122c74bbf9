package cgroup

import (
	"errors"
	"strings"
	"testing"
)

// TestFind: which hierarchy has a controller, on machines of either version and of both.
func TestFind(t *testing.T) {
	const (
		v2     = "30 23 0:26 / %s rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
		memory = "31 23 0:27 / /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory\n"
		both   = "32 23 0:28 / /sys/fs/cgroup/cpu,cpu\\040acct rw - cgroup cgroup rw,cpu,cpuacct\n"
		pids   = "33 23 0:29 / /sys/fs/cgroup/pids rw shared:7 master:1 - cgroup cgroup rw,pids\n"
	)
	at := func(dir string) string { return strings.Replace(v2, "%s", dir, 1) }
	for name, c := range map[string]struct {
		mounts, controllers string
		want                [4]string // memory, cpu, pids, cgroup v2
	}{
		"v2":      {at("/sys/fs/cgroup"), "cpuset cpu io memory pids\n", [4]string{"cgroup v2 at /sys/fs/cgroup", "cgroup v2 at /sys/fs/cgroup", "cgroup v2 at /sys/fs/cgroup", "/sys/fs/cgroup"}},
		"hybrid":  {memory + both + at("/sys/fs/cgroup/unified") + pids, "\n", [4]string{"cgroup v1 at /sys/fs/cgroup/memory", "cgroup v1 at /sys/fs/cgroup/cpu,cpu acct", "cgroup v1 at /sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"}},
		"some":    {memory + at("/sys/fs/cgroup/unified"), "cpu pids\n", [4]string{"cgroup v1 at /sys/fs/cgroup/memory", "cgroup v2 at /sys/fs/cgroup/unified", "cgroup v2 at /sys/fs/cgroup/unified", "/sys/fs/cgroup/unified"}},
		"v1":      {memory + pids, "", [4]string{"cgroup v1 at /sys/fs/cgroup/memory", "", "cgroup v1 at /sys/fs/cgroup/pids", ""}},
		"nothing": {"1 0 8:1 / / rw - ext4 /dev/root rw\nshort\n", "", [4]string{}},
	} {
		h, err := find(strings.NewReader(c.mounts), func(string) ([]byte, error) { return []byte(c.controllers), nil })
		if err != nil {
			t.Fatal(err)
		}
		if got := [4]string{h.Where(Memory), h.Where(CPU), h.Where(PIDs), h.Unified()}; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if _, err := find(strings.NewReader(at("/x")), func(string) ([]byte, error) { return nil, errors.New("no") }); err == nil {
		t.Error("controllers that cannot be read are none")
	}
}

// TestMakeNeedsControllers: limits that nothing enforces are refused.
func TestMakeNeedsControllers(t *testing.T) {
	h := &Hierarchies{controllers: map[string]hierarchy{Memory: {root: "/none"}, PIDs: {root: "/none"}}}
	if err := h.At("x").Make(Limits{Memory: 1 << 20, PIDs: 1, CPU: 1}); err == nil || !strings.Contains(err.Error(), `has the controller "cpu"`) {
		t.Errorf("without cpu: %v", err)
	}
	delete(h.controllers, PIDs)
	if err := h.At("x").Make(Limits{Memory: 1 << 20, PIDs: 1}); err == nil || !strings.Contains(err.Error(), `has the controller "pids"`) {
		t.Errorf("without pids: %v", err)
	}
}
