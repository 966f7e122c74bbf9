// Package filewatch says when files have changed: written, replaced by a rename, or
// by a symbolic link on the way to them.
package filewatch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Stamp is how some files were at a moment; nil stands for one that is not there.
type Stamp []os.FileInfo

// Look is the Stamp of files now; an empty name is a file that is never there.
func Look(names []string) Stamp {
	out := make(Stamp, len(names))
	for i, name := range names {
		if info, err := os.Stat(name); err == nil {
			out[i] = info
		}
	}
	return out
}

// Same says whether the files are those of another moment.
func (s Stamp) Same(other Stamp) bool {
	return slices.EqualFunc(s, other, func(a, b os.FileInfo) bool {
		if a == nil || b == nil {
			return a == b
		}
		return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
	})
}

const (
	// lookEvery is how often changed is called without a reason: a symbolic link on the way to a file may lead out of
	// the directory that is watched.
	lookEvery = 30 * time.Second
	// quiet is for how long nothing must have happened in the directories: a file that is written where it is, is empty
	// at first, then a part of what it will be.
	quiet = 50 * time.Millisecond
	// busy is how long changed waits at most in a directory where something happens all the time.
	busy = time.Second
	// retry is the pause after a directory could not be watched.
	retry = time.Second
)

// Follow calls changed whenever something may have changed about one of the files, which need not be there yet, until
// ctx ends; an empty name is none. failed hears of a directory that cannot be watched, and is called again with nil when it can.
func Follow(ctx context.Context, names []string, changed func(), failed func(error)) {
	for len(names) > 0 && ctx.Err() == nil {
		err := follow(ctx, directories(names), changed, failed)
		if ctx.Err() != nil {
			return
		}
		failed(err)
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
		changed()
	}
}

// directories are those of the files, each once.
func directories(names []string) []string {
	var out []string
	for _, name := range names {
		if name != "" {
			out = append(out, filepath.Dir(name))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// follow watches directories for as long as all of them are there.
func follow(ctx context.Context, dirs []string, changed func(), failed func(error)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w", err)
	}
	defer w.Close()
	for _, dir := range dirs {
		if err := w.Add(dir); err != nil {
			return fmt.Errorf("watch %s: %w", dir, err)
		}
	}
	failed(nil)
	changed() // what was changed before they were watched
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	var first time.Time // of the events that changed has not been called for; zero: there are none
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			changed()
			first = time.Time{}
			timer.Reset(lookEvery)
			continue
		case e := <-w.Events:
			if e.Has(fsnotify.Remove|fsnotify.Rename) && slices.Contains(dirs, e.Name) {
				return fmt.Errorf("watch %s: it is gone", e.Name)
			}
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) { // else something has changed
				return fmt.Errorf("watch files: %w", err)
			}
		}
		if first.IsZero() {
			first = time.Now()
		}
		timer.Reset(min(quiet, max(0, busy-time.Since(first))))
	}
}
