package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"eproxy/internal/control"
	"eproxy/test/lib/lab"
)

// loader runs bin/loader on the node and returns its exit code and output.
func loader(t *testing.T, l *lab.Lab, args ...string) (int, string) {
	t.Helper()
	out, err := l.Run(context.Background(), lab.Node, filepath.Join(bin, "loader"), args...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return exit.ExitCode(), string(out)
	}
	return 0, string(out)
}

// configFile writes a configuration for the loader on the node.
func configFile(t *testing.T, l *lab.Lab, text string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "eproxy.yaml")
	if err := os.WriteFile(f, []byte(text+"bpffs: "+l.BPFFS()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestStartErrors: what cannot work is refused in one line that says what and where,
// and leaves nothing behind.
func TestStartErrors(t *testing.T) {
	l := newLab(t)
	good := podConfig(routeConfig, false)
	busy, err := l.Listen(lab.Node, ":1884")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, c := range []struct{ name, config, want string }{
		{"unknown key", "interfaces: [eth0]\nspeed: fast\n" + good, `:2: speed: unknown key`},
		{"bad filter", "interfaces: [eth0]\n" + strings.Replace(good, "sensors/+/temp", "sensors/#/temp", 1), `route "sensors/#/temp"`},
		{"unknown function", "interfaces: [eth0]\n" + strings.Replace(good, "function: temp", "function: tmp", 1), `unknown function "tmp"`},
		{"missing interface", "interfaces: [eth9]\n" + good, `:1: interface "eth9" does not exist on this machine`},
		{"port in use", "interfaces: [eth0]\nlisteners: [{address: \":1884\"}]\n" + good, "address already in use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out := loader(t, l, "run", "--log-level", "error", "--config", configFile(t, l, c.config))
			if code != 1 || !strings.Contains(out, c.want) || strings.Count(out, "\n") != 1 {
				t.Errorf("exit %d: %q, want 1 and one line with %q", code, out, c.want)
			}
			if _, err := os.Stat(l.BPFFS()); err == nil {
				t.Error("pins are left")
			}
		})
	}
	t.Run("no bpffs", func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "eproxy.yaml")
		if err := os.WriteFile(file, []byte("interfaces: [eth0]\n"+good+"bpffs: "+filepath.Join(dir, "pins")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out := loader(t, l, "run", "--config", file)
		if want := dir + " is not a bpf file system: mount one with 'mount -t bpf bpf " + dir + "'"; code != 1 || !strings.Contains(out, want) || strings.Count(out, "\n") != 1 {
			t.Errorf("exit %d: %q, want 1 and one line with %q", code, out, want)
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("left in %s: %v", dir, left)
		}
	})
	t.Run("no root", func(t *testing.T) {
		cmd := exec.Command(filepath.Join(bin, "loader"), "run", "--config", configFile(t, l, "interfaces: [eth0]\n"+good))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v: %q", err, out)
		}
	})
}

// TestForeignPins: run and unload refuse a directory that is not eproxy's, in one
// line that says what it is, and mapsctl and status do not read it. (The first
// version removed an ordinary directory with all that was in it, and said that
// nothing was attached.)
func TestForeignPins(t *testing.T) {
	l := newLab(t)
	dir := t.TempDir()
	precious := filepath.Join(dir, "links", "precious")
	if err := os.Mkdir(filepath.Dir(precious), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := l.BPFFS()
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(link)
	config := configFile(t, l, "interfaces: [eth0]\n"+podConfig(routeConfig, false))
	refusal := func(command, what string) {
		t.Helper()
		words := append(strings.Fields(command), "--bpffs", what)
		if strings.HasPrefix(command, "loader run") {
			words = strings.Fields(command)
		}
		out, err := l.Run(context.Background(), lab.Node, filepath.Join(bin, words[0]), words[1:]...)
		if err == nil || !strings.Contains(string(out), what+": not eproxy's pins, left untouched: ") || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s: %v: %q", command, err, out)
		}
		if b, err := os.ReadFile(precious); err != nil || string(b) != "precious" {
			t.Fatalf("%s destroyed what was there: %v", command, err)
		}
	}
	for _, what := range []string{dir, link} {
		refusal("loader unload", what)
		refusal("loader status", what)
		refusal("mapsctl pods", what)
	}
	refusal("loader run --config "+config, link)
}

// TestSecondLoader: a second loader is refused and does no harm.
func TestSecondLoader(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "xdp", podConfig(routeConfig, false))
	code, out := loader(t, l, "run", "--config", configFile(t, l, "interfaces: [eth0]\n"+podConfig(routeConfig, false)))
	if code != 1 || !strings.Contains(out, "another loader is running") {
		t.Errorf("second loader: exit %d: %q", code, out)
	}
	if code, out := loader(t, l, "unload", "--bpffs", l.BPFFS()); code != 1 || !strings.Contains(out, "another loader is running") {
		t.Errorf("unload beside a running loader: exit %d: %q", code, out)
	}
	deliverSome(t, l, r, 5)
	if taken, _ := share(nil, s.counts()); taken < 5 {
		t.Errorf("the kernel took %d messages after the second loader", taken)
	}
}

// deliverSome publishes n QoS 1 messages and waits until they have arrived.
func deliverSome(t *testing.T, l *lab.Lab, r *recorder, n int) {
	t.Helper()
	already := len(first(r.all()))
	id := fmt.Sprintf("c%d", serial.Add(1))
	var ms []message
	for i := range n {
		ms = append(ms, message{topic: "sensors/" + id + "/temp", payload: fmt.Sprintf("%s %d", id, i), qos: 1})
	}
	if err := pahoV3(4)(t, l, lab.NodeV4.String(), id, ms); err != nil {
		t.Fatal(err)
	}
	if got := len(r.wait(t, already+n)); got != already+n {
		t.Errorf("%d messages arrived, want %d", got-already, n)
	}
}

// TestRestartAfterKill: after kill -9 the maps can be read, a new loader starts clean, and
// unload removes everything, also a link that cannot be read.
func TestRestartAfterKill(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		p, err := l.StartEproxy(context.Background(), t.TempDir(), lab.Eproxy{Bin: abs, Mode: "xdp", Config: podConfig(routeConfig, false)})
		if err != nil {
			t.Fatal(err)
		}
		deliverSome(t, l, r, 5)
		p.Kill()
		if _, out := loader(t, l, "status", "--bpffs", l.BPFFS()); !strings.Contains(out, "not running") || !strings.Contains(out, "xdp_device-eth0") {
			t.Errorf("round %d: status %q", i, out)
		}
		s := &system{Process: p, t: t, lab: l, mode: "xdp"}
		if rows := s.mapsctl("routes"); len(rows) != 1 || rows[0]["taken"].(float64) < 5 {
			t.Errorf("round %d: routes with the loader dead: %v", i, rows)
		}
	}
	unreadable, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer unreadable.Close()
	if err := unreadable.Pin(filepath.Join(l.BPFFS(), "links", "broken")); err != nil {
		t.Fatal(err)
	}
	code, out := loader(t, l, "unload", "--bpffs", l.BPFFS())
	for _, want := range []string{"removed all the same: ask for link broken: ", "detached: xdp_device", " from eth0 (xdp native)\n", "detached: tc_pod_in", " from pod1 (tcx ingress)\n", "nothing of eproxy is attached or pinned under " + l.BPFFS() + "\n"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("unload: exit %d: %q, want %q", code, out, want)
		}
	}
	if _, out := loader(t, l, "status", "--bpffs", l.BPFFS()); strings.Contains(out, "attached") {
		t.Errorf("after unload: %q", out)
	}
	if _, err := os.Stat(control.Path(l.BPFFS())); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the control socket of a killed loader after unload: %v", err)
	}
}

// TestReload: SIGHUP takes over new routes without dropping a connection; a bad
// file changes nothing.
func TestReload(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "tc", podConfig(routeConfig, false))
	conn := rawConnect(t, l, "reload")
	conn.publish("sensors/a/temp", 1, "before")
	s.reload("sensors/+/temp", "sensors/#", "msg=reloaded")
	conn.publish("sensors/a/b/c", 2, "after")
	s.reload("interfaces: [eth0]", "interfaces: [eth0]\nnonsense: 1", "reload refused")
	conn.publish("sensors/x", 3, "still")
	if got := r.wait(t, 3); len(got) != 3 {
		t.Errorf("%d messages", len(got))
	}
	if rows := s.mapsctl("routes"); len(rows) != 1 || rows[0]["topic"] != "sensors/#" || rows[0]["taken"].(float64) != 2 {
		t.Errorf("routes after reload: %v", rows)
	}
}

// TestReloadTwice: reloads in quick succession; what the first one replaced is
// removed without harm to what the last one installed.
func TestReloadTwice(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	s := start(t, l, "xdp", podConfig(routeConfig, false))
	conn := rawConnect(t, l, "twice")
	for range 3 {
		s.reload("sensors/+/temp", "sensors/#", "msg=reloaded")
		s.reload("sensors/#", "sensors/+/temp", "msg=reloaded")
	}
	n := 0
	for began := time.Now(); time.Since(began) < 300*time.Millisecond; { // while old tables are removed
		n++
		conn.publish("sensors/a/temp", uint16(n), "still here")
	}
	rows := s.mapsctl("routes")
	if len(rows) != 1 || int(rows[0]["taken"].(float64)) != n {
		t.Errorf("of %d messages after the reloads the kernel took %v", n, rows)
	}
}
