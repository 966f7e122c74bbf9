package endpoints

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// directories says what happens to files, by one instance of inotify for all of them: a user may have few of these
// (fs.inotify.max_user_instances, often 128), and many functions a file each. The zero value is ready.
type directories struct {
	entering sync.Mutex        // held while a look begins or ends; before mu
	inotify  *fsnotify.Watcher // nil: nobody looks, or none can be had. Guarded by entering
	reading  sync.WaitGroup    // for its events

	instance func() (*fsnotify.Watcher, error) // makes one; nil: fsnotify.NewWatcher

	mu sync.Mutex            // held for moments: who reads the events waits for it, and inotify for who reads
	at map[string]*directory // that are watched, by name
}

// directory is one that is watched, under one name or several: the kernel tells of it once.
type directory struct {
	info  os.FileInfo
	looks map[*look]bool
}

// look is somebody's interest in a file.
type look struct {
	name   string        // of the file in its directory
	linked atomic.Bool   // it is a symbolic link, as in a volume of Kubernetes: what it leads to may change without it
	news   chan struct{} // is sent to when the file may have changed
	gone   chan error    // is sent to when its directory is watched no more
}

// enter begins a look at a file, whose directory must be there. It ends with leave.
func (d *directories) enter(path string) (*look, error) {
	dir := filepath.Dir(path)
	d.entering.Lock()
	defer d.entering.Unlock()
	l, before, err := d.list(path, dir)
	d.unwatch(before)
	if err == nil {
		err = d.add(dir)
	}
	if err != nil {
		d.drop(l)
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	return l, nil
}

// list notes a look at a file of a directory, and ends those at another directory of that name. It returns this one's names. entering is held.
func (d *directories) list(path, dir string) (l *look, before []string, err error) {
	l = &look{name: filepath.Base(path), news: make(chan struct{}, 1), gone: make(chan error, 1)}
	info, err := os.Stat(dir)
	if err != nil {
		return l, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.same(info)
	if x == nil {
		x = &directory{info, make(map[*look]bool)}
	}
	if old := d.at[dir]; old != nil && old != x {
		before = d.end(old, fmt.Errorf("%s is another directory", dir))
	}
	if d.at == nil {
		d.at = make(map[string]*directory)
	}
	d.at[dir], x.looks[l] = x, true
	return l, before, nil
}

// same is the directory that is watched already, under any name; nil: it is not. mu is held.
func (d *directories) same(info os.FileInfo) *directory {
	for _, x := range d.at {
		if os.SameFile(x.info, info) {
			return x
		}
	}
	return nil
}

// add has inotify watch a directory; entering is held.
func (d *directories) add(dir string) (err error) {
	if d.inotify == nil {
		if d.inotify, err = d.newInstance(); err != nil {
			return err
		}
		from := d.inotify
		d.reading.Go(func() { d.read(from) })
	}
	return d.inotify.Add(dir)
}

// newInstance makes an instance of inotify. The error EMFILE of inotify_init(2) says nothing of what is short.
func (d *directories) newInstance() (*fsnotify.Watcher, error) {
	instance := d.instance
	if instance == nil {
		instance = fsnotify.NewWatcher
	}
	w, err := instance()
	switch {
	case errors.Is(err, unix.EMFILE):
		return nil, fmt.Errorf("no instance of inotify is left for this user (sysctl fs.inotify.max_user_instances), or no file for this process: %w", err)
	case err != nil:
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return w, nil
}

// leave ends a look.
func (d *directories) leave(l *look) {
	d.entering.Lock()
	defer d.entering.Unlock()
	d.drop(l)
}

// drop forgets a look, and a directory that was its alone; entering is held.
func (d *directories) drop(l *look) {
	names, left := d.forget(l)
	d.unwatch(names)
	if left == 0 && d.inotify != nil {
		_ = d.inotify.Close()
		d.reading.Wait()
		d.inotify = nil
	}
}

// unwatch has inotify watch directories of these names no more; entering is held.
func (d *directories) unwatch(names []string) {
	if d.inotify == nil { // it could not be had
		return
	}
	for _, name := range names {
		_ = d.inotify.Remove(name) // it may be gone, or was told under another of its names
	}
}

// forget forgets a look. It returns the names of directories that nobody looks at any more, and how many are left.
func (d *directories) forget(l *look) (names []string, left int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, x := range d.at {
		if delete(x.looks, l); len(x.looks) == 0 {
			names = append(names, name)
			delete(d.at, name)
		}
	}
	return names, len(d.at)
}

// read reads events until inotify is closed.
func (d *directories) read(from *fsnotify.Watcher) {
	for {
		select {
		case e, open := <-from.Events:
			if !open {
				return
			}
			d.tell(e)
		case err, open := <-from.Errors:
			if !open {
				return
			}
			d.failed(err)
		}
	}
}

// tell tells those whom an event concerns. What happens to other files of a directory is no reason to read one:
// many lists may be in one.
func (d *directories) tell(e fsnotify.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if x := d.at[e.Name]; x != nil {
		if e.Has(fsnotify.Remove | fsnotify.Rename) {
			d.end(x, fmt.Errorf("%s is gone", e.Name))
			return
		}
		x.say(func(*look) bool { return true })
	}
	if x := d.at[filepath.Dir(e.Name)]; x != nil {
		name := filepath.Base(e.Name)
		x.say(func(l *look) bool { return l.name == name || l.linked.Load() })
	}
}

// failed has all files looked at: the kernel had more to say than fits, or can say nothing more.
func (d *directories) failed(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, x := range d.at {
		if errors.Is(err, fsnotify.ErrEventOverflow) {
			x.say(func(*look) bool { return true })
		} else {
			d.end(x, fmt.Errorf("watch %s: %w", name, err))
		}
	}
}

// say tells some looks that their files may have changed; mu is held.
func (x *directory) say(concerns func(*look) bool) {
	for l := range x.looks {
		if !concerns(l) {
			continue
		}
		select {
		case l.news <- struct{}{}:
		default: // it will look
		}
	}
}

// end ends all looks at a directory, and returns its names; mu is held.
func (d *directories) end(x *directory, why error) (names []string) {
	for l := range x.looks {
		l.gone <- why // has room: a look ends once
		delete(x.looks, l)
	}
	for name, y := range d.at {
		if y == x {
			names = append(names, name)
			delete(d.at, name)
		}
	}
	return names
}
