package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Freezer stops and continues a group's processes by its open files, so that nothing has
// to be looked up when they are to continue. It is not safe for concurrent use, but for
// Thaw beside anything.
type Freezer struct {
	freeze, events *os.File
}

// ErrNoFreezer means that this machine has no cgroup v2, whose freezer alone can be used.
var ErrNoFreezer = errors.New("cgroup v2 is not mounted: nothing can be frozen")

// Freezer opens the group's freezer.
func (g *Group) Freezer() (*Freezer, error) {
	if g.h.unified == "" {
		return nil, ErrNoFreezer
	}
	dir := filepath.Join(g.h.unified, g.path)
	freeze, err := os.OpenFile(filepath.Join(dir, "cgroup.freeze"), os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	events, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		freeze.Close()
		return nil, err
	}
	return &Freezer{freeze, events}, nil
}

// Freeze has the processes stop; Frozen says when they have.
func (f *Freezer) Freeze() error { return f.set("1") }

// Thaw has them go on.
func (f *Freezer) Thaw() error { return f.set("0") }

func (f *Freezer) set(value string) error {
	if _, err := f.freeze.WriteAt([]byte(value), 0); err != nil {
		return fmt.Errorf("cgroup.freeze: %w", err)
	}
	return nil
}

// Frozen says whether every process of the group is stopped (frozen 1 in cgroup.events).
func (f *Freezer) Frozen() (bool, error) {
	b := make([]byte, 256)
	n, err := f.events.ReadAt(b, 0) // by this file, so that Wait waits for what comes after
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return bytes.Contains(b[:n], []byte("frozen 1\n")), nil
}

// Wait waits until the state that Frozen says may have changed, or for a number of
// milliseconds.
func (f *Freezer) Wait(milliseconds int) {
	fds := []unix.PollFd{{Fd: int32(f.events.Fd()), Events: unix.POLLPRI}}
	_, _ = unix.Poll(fds, milliseconds)
}

// Close closes the files. What is frozen stays frozen.
func (f *Freezer) Close() {
	f.freeze.Close()
	f.events.Close()
}
