package netns

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"eproxy/internal/control"
	"eproxy/internal/privilege"
	"eproxy/test/lib/lab"
)

// confined is a command that runs another as root with these capabilities only.
func confined(capabilities []string) []string {
	set := "-all"
	for _, c := range capabilities {
		set += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	return []string{"setpriv", "--inh-caps=-all", "--bounding-set=" + set}
}

// nobody is a command that runs another as a user without any privilege.
var nobody = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"}

// TestCapabilities: with the capabilities that internal/privilege lists, and no
// other, the loader takes messages at XDP, and clears up what a loader that was
// killed has left. Without any one of them it names it and does nothing.
func TestCapabilities(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, ok, nil)
	abs, err := filepath.Abs(bin)
	if err != nil {
		t.Fatal(err)
	}
	e := lab.Eproxy{Bin: abs, Mode: "xdp", Config: podConfig(routeConfig, false)}
	for _, without := range privilege.Needed() {
		e.Under = confined(slices.DeleteFunc(privilege.Needed(), func(c string) bool { return c == without }))
		p, err := l.StartEproxy(context.Background(), t.TempDir(), e)
		if err == nil {
			t.Errorf("without %s: started", without)
			_ = p.Stop()
		} else if !strings.Contains(err.Error(), without+" missing") {
			t.Errorf("without %s: %v", without, err)
		}
	}
	if _, err := os.Stat(l.BPFFS()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a loader that could not start left pins (%v)", err)
	}

	e.Under = confined(privilege.Needed())
	dir := t.TempDir()
	p, err := l.StartEproxy(context.Background(), dir, e)
	if err != nil {
		t.Fatal(err)
	}
	s := &system{Process: p, t: t, lab: l, mode: "xdp", file: filepath.Join(dir, "eproxy.yaml")}
	c := rawDial(t, l)
	c.connect("few")
	for i := range 3 {
		c.publish("sensors/few/temp", uint16(i+1), "x")
	}
	r.wait(t, 3)
	if n := s.counts()["xdp_device/taken"]; n != 3 {
		t.Errorf("XDP took %d of 3 messages: %v", n, s.counts())
	}
	p.Kill()
	unload := append(e.Under, filepath.Join(abs, "loader"), "unload", "--bpffs", l.BPFFS())
	if out, err := l.Run(context.Background(), lab.Node, unload[0], unload[1:]...); err != nil {
		t.Errorf("unload: %v: %s", err, out)
	}
	if _, err := os.Stat(l.BPFFS()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("pins are left after unload (%v)", err)
	}
}

// TestOtherUsersSeeNothing: client ids, topics and payloads are in the maps and
// in dead letters, and what the maps say decides where messages go: no user but
// root reads or changes them.
func TestOtherUsersSeeNothing(t *testing.T) {
	l := newLab(t)
	r := newRecorder()
	r.serveGo(t, l, false, func(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, nil)
	dir := openDir(t)
	dead := filepath.Join(dir, "dead", "letters.jsonl")
	start(t, l, "tc", strings.Replace(podConfig(failureConfig, false), "DEAD", "dead_letter: {file: "+dead+"}", 1))
	c := rawDial(t, l)
	c.connect("secret")
	c.publish("sensors/secret/temp", 1, "x")

	socket := control.Path(l.BPFFS())
	secret := []string{l.BPFFS(), dead, socket, strings.TrimSuffix(socket, ".sock") + ".lock"}
	for _, name := range []string{"loader", "mapsctl"} {
		data, err := os.ReadFile(filepath.Join(bin, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	refusal := regexp.MustCompile(`(?i)permission denied|not permitted|only root`)
	for _, line := range []string{
		"ls " + l.BPFFS(), "cat " + dead, "touch " + dead,
		dir + "/mapsctl flows --bpffs " + l.BPFFS(),
		dir + "/mapsctl slots --bpffs " + l.BPFFS(),
		dir + "/mapsctl clients --bpffs " + l.BPFFS(),
		dir + "/loader unload --bpffs " + l.BPFFS(),
	} {
		argv := append(slices.Clone(nobody), strings.Fields(line)...)
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !refusal.Match(out) || strings.Count(string(out), "\n") != 1 {
			t.Errorf("as nobody, %s: %v: %s", line, err, out)
		}
	}
	for _, top := range secret {
		if err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			i, err := d.Info()
			if err == nil && i.Mode().Perm()&0o007 != 0 {
				t.Errorf("%s has mode %v", name, i.Mode())
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
}

// openDir is a directory that every user may enter, as those of t.TempDir are not.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "eproxy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
