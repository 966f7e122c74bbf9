package filewatch

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// followed follows a file until the test ends.
type followed struct {
	t    *testing.T
	path string
	mu   sync.Mutex
	seen string // what was in the file when changed was last called
	err  error  // that failed was last called with
	said chan struct{}
}

func watch(t *testing.T, path string) *followed {
	t.Helper()
	f := &followed{t: t, path: path, said: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	note := func(change func()) {
		f.mu.Lock()
		change()
		f.mu.Unlock()
		select {
		case f.said <- struct{}{}:
		default:
		}
	}
	wg.Go(func() {
		Follow(ctx, []string{path}, func() {
			b, _ := os.ReadFile(path)
			note(func() { f.seen = string(b) })
		}, func(err error) { note(func() { f.err = err }) })
	})
	return f
}

// until waits until something is true of what was seen.
func (f *followed) until(ok func(seen string, err error) bool, what string) {
	f.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		f.mu.Lock()
		good, seen, err := ok(f.seen, f.err), f.seen, f.err
		f.mu.Unlock()
		if good {
			return
		}
		select {
		case <-f.said:
		case <-deadline:
			f.t.Fatalf("%s: last seen %q, %v", what, seen, err)
		}
	}
}

func (f *followed) sees(text string) {
	f.t.Helper()
	f.until(func(seen string, err error) bool { return seen == text && err == nil }, "want "+text)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestChangesAreNoticed: however a file is changed.
func TestChangesAreNoticed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	f := watch(t, path)
	f.sees("")
	must(t, os.WriteFile(path, []byte("made"), 0o600))
	f.sees("made")
	must(t, os.WriteFile(path, []byte("written"), 0o600))
	f.sees("written")
	must(t, os.WriteFile(path+".new", []byte("renamed"), 0o600))
	must(t, os.Rename(path+".new", path))
	f.sees("renamed")
	must(t, os.Remove(path))
	f.sees("")
	// As Kubernetes mounts a ConfigMap: the file is a link through a link that is replaced.
	for _, name := range []string{"1", "2"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name, "file"), []byte("data "+name), 0o600))
	}
	must(t, os.Symlink("1", filepath.Join(dir, "..data")))
	must(t, os.Symlink("..data/file", path))
	f.sees("data 1")
	must(t, os.Symlink("2", filepath.Join(dir, "..tmp")))
	must(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	f.sees("data 2")
}

// TestDirectoryComesAndGoes: it need not be there yet, and may be made again.
func TestDirectoryComesAndGoes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	path := filepath.Join(dir, "file")
	f := watch(t, path)
	f.until(func(_ string, err error) bool { return err != nil }, "want an error of the directory that is missing")
	for _, text := range []string{"first", "second"} {
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.WriteFile(path, []byte(text), 0o600))
		f.sees(text)
		must(t, os.RemoveAll(dir))
		f.until(func(_ string, err error) bool { return err != nil }, "want an error of the directory that is gone")
	}
}

func TestStamps(t *testing.T) {
	dir := t.TempDir()
	names := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b"), ""}
	must(t, os.WriteFile(names[0], []byte("1"), 0o600))
	before := Look(names)
	if !before.Same(Look(names)) {
		t.Error("nothing has changed")
	}
	must(t, os.WriteFile(names[1], []byte("1"), 0o600))
	if before.Same(Look(names)) {
		t.Error("a file is new")
	}
	before = Look(names)
	must(t, os.WriteFile(names[0], []byte("12"), 0o600))
	if before.Same(Look(names)) {
		t.Error("a file is longer")
	}
	before = Look(names)
	must(t, os.WriteFile(names[0]+".new", []byte("12"), 0o600))
	must(t, os.Rename(names[0]+".new", names[0]))
	if before.Same(Look(names)) {
		t.Error("a file was replaced")
	}
}
