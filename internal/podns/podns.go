// Package podns enters the network namespaces of pods. That needs CAP_SYS_ADMIN.
//
// A namespace is known by the veth pair that leads into it, never by its name or a
// process's number alone: both may be another's a moment later.
package podns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNotFound means that a pod's network namespace is not to be found.
var ErrNotFound = errors.New("its network namespace is not found: there is no name of it under /run/netns, and no process in it that can be looked at from here")

// Places are where network namespaces can be opened: by the names that CNI runtimes
// and ip-netns(8) give them, and by the processes that are in them. The latter needs
// CAP_SYS_PTRACE where they are other users'.
var Places = []string{"/run/netns/*", "/run/docker/netns/*", "/proc/[0-9]*/ns/net"}

// Open opens the network namespace that has an id in this one
// (IFLA_LINK_NETNSID). What is opened is what the kernel is asked about: that a
// process has ended since, and another has its number, cannot be mistaken.
func Open(id int) (found *os.File, err error) {
	err = each(func(f *os.File) (kept bool, err error) {
		if got, err := netlink.GetNetNsIdByFd(int(f.Fd())); err != nil || got != id {
			return false, nil
		}
		found = f
		return true, nil
	})
	return found, err
}

// each has visit look at the network namespaces of Places, each once, until it keeps the file of one, which is its own to close then, or fails. The error is
// ErrNotFound if it does neither.
func each(visit func(f *os.File) (kept bool, err error)) error {
	tried := make(map[uint64]bool) // by inode
	for _, place := range Places {
		names, _ := filepath.Glob(place) // the patterns are good
		for _, name := range names {
			f, inode, err := openAt(name, tried)
			if err != nil {
				continue // gone, not a namespace, or not ours to look at
			}
			tried[inode] = true
			kept, err := visit(f)
			if !kept {
				_ = f.Close()
			}
			if kept || err != nil {
				return err
			}
		}
	}
	return ErrNotFound
}

// openAt opens a network namespace unless it is among those that were tried. It does
// not wait, whatever is found there.
func openAt(name string, tried map[uint64]bool) (*os.File, uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return nil, 0, err
	}
	if tried[st.Ino] {
		return nil, 0, os.ErrExist
	}
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	f := os.NewFile(uintptr(fd), name)
	var fs unix.Statfs_t
	if err = unix.Fstatfs(fd, &fs); err == nil && fs.Type != unix.NSFS_MAGIC {
		err = unix.EINVAL
	}
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, st.Ino, nil
}

// Inside runs f, which is to be short, with its thread in a network namespace. What
// sockets it opens stay there.
func Inside(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter its network namespace: %w", refused(err))
			return
		}
		err = f()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread() // else the thread ends with this goroutine
		}
		done <- err
	}()
	return <-done
}

// refused says which capability was missing.
func refused(err error) error {
	if errors.Is(err, unix.EPERM) {
		return errors.New("that needs CAP_SYS_ADMIN, which is missing")
	}
	return err
}
