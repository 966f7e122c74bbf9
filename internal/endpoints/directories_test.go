package endpoints

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"eproxy/internal/config"
	"eproxy/test/lib/await"
)

// TestOtherFiles: what happens to other files of a directory, of which there may be many, is no reason to
// read one; what happens to one that is a link is, whatever its name.
func TestOtherFiles(t *testing.T) {
	dir := t.TempDir()
	var d directories
	l, err := d.enter(dir + "//pods")
	if err != nil {
		t.Fatal(err)
	}
	defer d.leave(l)
	for _, c := range []struct {
		name   string
		linked bool
		told   bool
	}{{"other", false, false}, {"pods.next", false, false}, {"pods", false, true}, {"..data", true, true}} {
		l.linked.Store(c.linked)
		d.tell(fsnotify.Event{Name: filepath.Join(dir, c.name), Op: fsnotify.Create})
		if told := len(l.news) > 0; told != c.told {
			t.Errorf("%s, linked %v: told %v", c.name, c.linked, told)
		}
		for len(l.news) > 0 {
			<-l.news
		}
	}
}

// TestManyFiles: more functions than a user may have instances of inotify have a file each, in directories of
// their own, and in one under two names.
func TestManyFiles(t *testing.T) {
	root := t.TempDir()
	many := 1000
	cfg := &config.Config{}
	path := func(i int) string { return filepath.Join(root, fmt.Sprint(i), "pods") }
	for i := range many {
		if err := os.Mkdir(filepath.Dir(path(i)), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path(i), fmt.Sprintf("[10.0.0.1:%d]", i+1))
		cfg.Functions = append(cfg.Functions, &config.Function{Name: fmt.Sprint("f", i), Discover: config.Discover{File: path(i)}})
	}
	other := filepath.Join(root, "other")
	if err := os.Symlink(filepath.Dir(path(0)), other); err != nil {
		t.Fatal(err)
	}
	cfg.Functions = append(cfg.Functions, &config.Function{Name: "again", Discover: config.Discover{File: filepath.Join(other, "pods")}})
	w := Watch(cfg, Sources{}, slog.New(slog.DiscardHandler))
	t.Cleanup(w.Close)
	of := func(i int) *config.Config { return &config.Config{Functions: cfg.Functions[i : i+1]} }
	for i := range many {
		awaitPods(t, w, of(i), fmt.Sprintf("[10.0.0.1:%d]", i+1))
	}
	for _, i := range []int{0, many - 1} {
		write(t, path(i)+".next", "[10.0.0.2:1]")
		if err := os.Rename(path(i)+".next", path(i)); err != nil {
			t.Fatal(err)
		}
		awaitPods(t, w, of(i), "[10.0.0.2:1]")
	}
	awaitPods(t, w, of(many), "[10.0.0.2:1]")
	none := &config.Config{}
	w.Follow(none)
	w.Keep(none)
	w.wg.Wait()
	if w.dirs.inotify != nil || len(w.dirs.at) > 0 {
		t.Errorf("%d directories are watched for nobody", len(w.dirs.at))
	}
}

// TestNoInotify: where no instance of inotify can be had, a file fails with what is short, and is tried again.
func TestNoInotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pods")
	write(t, path, "[10.0.0.1:1]")
	tries := 0
	d := directories{instance: func() (*fsnotify.Watcher, error) {
		if tries++; tries == 1 {
			return nil, unix.EMFILE
		}
		return fsnotify.NewWatcher()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	var said []error
	file{path, &d}.follow(ctx, func([]Pod) { cancel() }, func(err error) { said = append(said, err) })
	if len(said) != 1 || !strings.Contains(said[0].Error(), "fs.inotify.max_user_instances") || strings.Contains(said[0].Error(), "\n") {
		t.Errorf("said %v", said)
	}
	if d.inotify != nil || len(d.at) > 0 {
		t.Errorf("%d directories are watched for nobody", len(d.at))
	}
}

// TestDirectoryComesAgain: a directory that is removed, or renamed, and made again is watched again.
func TestDirectoryComesAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	path := filepath.Join(dir, "pods")
	cfg := function(config.Function{Discover: config.Discover{File: path}})
	w, _ := start(t, cfg)
	for i, leave := range []func() error{func() error { return os.RemoveAll(dir) }, func() error { return os.Rename(dir, dir+".old") }, nil} {
		awaitBroken(t, w)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, fmt.Sprintf("[10.0.0.%d:1]", i+1))
		awaitPods(t, w, cfg, fmt.Sprintf("[10.0.0.%d:1]", i+1))
		if leave == nil {
			break
		}
		if err := leave(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLinkToAnotherDirectory: a link on the way to two files leads to another directory; who looks at one of them anew has both
// read there.
func TestLinkToAnotherDirectory(t *testing.T) {
	root := t.TempDir()
	link := filepath.Join(root, "link")
	first := function(config.Function{Discover: config.Discover{File: filepath.Join(link, "x")}})
	second := function(config.Function{Discover: config.Discover{File: filepath.Join(link, "y")}})
	for i, name := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o700); err != nil {
			t.Fatal(err)
		}
		for j, file := range []string{"x", "y"} {
			write(t, filepath.Join(root, name, file), fmt.Sprintf("[10.0.%d.%d:1]", i, j))
		}
	}
	if err := os.Symlink("a", link); err != nil {
		t.Fatal(err)
	}
	w, _ := start(t, first)
	awaitPods(t, w, first, "[10.0.0.0:1]")
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("b", link); err != nil {
		t.Fatal(err)
	}
	w.Follow(second)
	awaitPods(t, w, second, "[10.0.1.1:1]")
	awaitPods(t, w, first, "[10.0.1.0:1]")
	write(t, filepath.Join(root, "b", "x"), "[10.0.2.0:1]")
	awaitPods(t, w, first, "[10.0.2.0:1]")
	w.dirs.mu.Lock()
	defer w.dirs.mu.Unlock()
	if x := w.dirs.at[link]; len(w.dirs.at) != 1 || len(x.looks) != 2 {
		t.Errorf("%d looks at %d directories, want 2 at one", len(x.looks), len(w.dirs.at))
	}
}

// awaitBroken waits until the only source has failed.
func awaitBroken(t *testing.T, w *Watcher) {
	t.Helper()
	await.True(t, time.Minute, "the source to fail", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, f := range w.sources {
			if f.err != nil {
				return true
			}
		}
		return false
	})
}
