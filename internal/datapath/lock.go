package datapath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrRunning is returned by Load and Unload when another process holds the lock.
var ErrRunning = errors.New("another loader is running")

func lockName(bpffs string) string {
	return filepath.Join("/run/eproxy", filepath.Base(bpffs)+".lock")
}

// whole is a write lock on a whole file. Locks of open file descriptions
// (F_OFD_*, fcntl(2)) go with the process, and whoever asks for one need not
// take it.
func whole() *unix.Flock_t { return &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart} }

// acquireLock takes the lock of a pin directory, lockName of it, or says who
// holds it.
func acquireLock(name string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, fmt.Errorf("make lock directory: %w", err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, whole()); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("%w (pid %s, lock %s): stop it first", ErrRunning, holderOf(f), name)
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(fmt.Sprint(os.Getpid())), 0)
	}
	return f, nil
}

// Holder says whether a loader holds the lock of a pin directory, and its pid,
// "?" if that cannot be known. It takes no lock and changes nothing: a loader
// that starts at this moment does not notice.
func Holder(bpffs string) (pid string, running bool, err error) { return holder(lockName(bpffs)) }

func holder(name string) (pid string, running bool, err error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("open lock: %w", err)
	}
	defer f.Close()
	l := whole()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, l); err != nil {
		return "", false, fmt.Errorf("look at lock %s: %w", f.Name(), err)
	}
	if l.Type == unix.F_UNLCK {
		return "", false, nil
	}
	return holderOf(f), true, nil
}

// holderOf is the process that wrote its pid into the lock; the one before it,
// for a moment, until the new holder has: hence the look whether it lives.
func holderOf(f *os.File) string {
	b := make([]byte, 16)
	n, _ := f.ReadAt(b, 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		return "?"
	}
	return strconv.Itoa(pid)
}
