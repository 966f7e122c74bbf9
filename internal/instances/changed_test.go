package instances

import (
	"archive/zip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestZygoteChanged: what an instance runs is what the files hold, also when they have changed since the zygote read them.
func TestZygoteChanged(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	dir := program(t, map[string]string{"lib.py": "value = 1\n", "app.py": answers("import lib", "lib.value")})
	stop := w.run("f", forked(in(dir, command("/usr/bin/python3", "-B", "app.py"))))
	if got := get(t, w.found("f", 1)[0]); got != "1" {
		t.Errorf("first: %s", got)
	}
	w.deploys(filepath.Join(dir, "lib.py"), "value = 'two'\n", "two")
	if want := `msg="zygote is begun anew" function=f reason="` + dir + `/lib.py has changed"`; !strings.Contains(w.log.String(), want) {
		t.Errorf("the log does not say %s", want)
	}
	stop()
	w.close()
}

// deploys has a file of modules changed: the next instance is of another zygote, which has it, and says so.
func (w *world) deploys(file, content, want string) {
	w.t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o755); err != nil { //nolint:gosec // as it was
		w.t.Fatal(err)
	}
	if got := w.exchange("f"); got != want {
		w.t.Errorf("after a change: %s", got)
	}
	if x := w.zygoteOf("f"); x.Forks != 2 {
		w.t.Errorf("%+v, want two forks", x)
	}
}

// TestZygoteOfArchive: as TestZygoteChanged, where modules are in an archive.
func TestZygoteOfArchive(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	archive := func(value string) string {
		var b strings.Builder
		z := zip.NewWriter(&b)
		f, err := z.Create("lib.py")
		if err == nil {
			_, err = f.Write([]byte("value = '" + value + "'\n"))
		}
		if err = errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	dir := program(t, map[string]string{"lib.zip": archive("one")})
	run := forked(in(dir, python(answers("import lib", "lib.value"))))
	run.Env = map[string]string{"PYTHONPATH": dir + "/lib.zip"}
	stop := w.run("f", run)
	if got := get(t, w.found("f", 1)[0]); got != "one" {
		t.Errorf("first: %s", got)
	}
	w.deploys(filepath.Join(dir, "lib.zip"), archive("another"), "another")
	stop()
	w.close()
}

// TestChangedMeanwhile: a module that changes after it was read, and before all are, is that of no zygote.
func TestChangedMeanwhile(t *testing.T) {
	uplink(t)
	w := newWorld(t)
	dir := program(t, map[string]string{"lib.py": "value = 1\n"})
	deploys := "import lib\nif lib.value == 1: open('" + dir + "/lib.py', 'w').write('value = 2')\n"
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "deploys.py"), []byte(deploys), 0o755), //nolint:gosec // another user reads it
		os.Chmod(filepath.Join(dir, "lib.py"), 0o666)); err != nil { //nolint:gosec // and writes
		t.Fatal(err)
	}
	stop := w.run("f", forked(in(dir, python(answers("import lib, deploys", "lib.value")))))
	if got := get(t, w.found("f", 1)[0]); got != "2" {
		t.Errorf("it answers %s", got)
	}
	if want := dir + "/lib.py has changed while modules were imported"; !strings.Contains(w.log.String(), want) {
		t.Errorf("the log does not say %s", want)
	}
	stop()
	w.close()
}
