package instances

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"eproxy/internal/cgroup"
)

// pageOutChunk is how much of a process is paged out at a time, in bytes: between two of these it is looked whether
// somebody needs the instance.
const pageOutChunk = 16 << 20

var errNoSwap = errors.New("nothing is paged out: this machine has no swap (on zram, for one), so what is frozen stays in memory")

// swapsFile names where there is swap (proc_swaps(5)): a heading, and a line for each. Tests have another.
var swapsFile = "/proc/swaps"

// Paging says what hinders that instances are paged out on this machine now; nil: nothing.
func Paging() error {
	swaps, err := os.ReadFile(swapsFile)
	if err != nil {
		return errNoSwap // a kernel without swap has no such file
	}
	if bytes.Count(swaps, []byte("\n")) < 2 {
		return errNoSwap
	}
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("nothing is paged out: pidfd_open: %w", err)
	}
	defer unix.Close(fd)
	if _, err := pageOutRange(fd, 0, 0); err != nil {
		return fmt.Errorf("nothing is paged out: process_madvise: %w", err)
	}
	return nil
}

// pageOut has the kernel take the memory of a group's processes: to swap, and what files have, too, from memory only. What other
// processes use stays. It ends early when stop says so.
func pageOut(group *cgroup.Group, memory int64, stop func() bool) (err error) {
	if err := group.AllowSwap(memory); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, group.AllowSwap(0)) }()
	for _, pid := range group.Processes() {
		if err := pageOutProcess(group, pid, stop); err != nil {
			return err
		}
	}
	return nil
}

// pageOutProcess pages one process out, unless it has ended.
func pageOutProcess(group *cgroup.Group, pid int, stop func() bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(fd)
	if !slices.Contains(group.Processes(), pid) { // another one has its number by now
		return nil
	}
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer maps.Close()
	err = eachMapping(maps, func(m mapping) error { return pageOutMapping(fd, m, stop) })
	if errors.Is(err, errNeeded) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// errNeeded says that somebody needs the instance now.
var errNeeded = errors.New("instance is needed")

// pageOutMapping pages a range of a process's addresses out, but for what the kernel does not.
func pageOutMapping(pidfd int, m mapping, stop func() bool) error {
	for m.from < m.to {
		if stop() {
			return errNeeded
		}
		n := min(m.to-m.from, pageOutChunk)
		switch _, err := pageOutRange(pidfd, m.from, n); {
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOMEM): // the kernel's, locked, or there no more
		case err != nil:
			return fmt.Errorf("process_madvise: %w", err)
		}
		m.from += n
	}
	return nil
}

// mapping is a range of addresses of a process.
type mapping struct{ from, to uintptr }

// eachMapping reads /proc/PID/maps (proc_pid_maps(5)), and ends with the first error of see; lines that are none are left out. A process may have
// 65,530 mappings (sysctl vm.max_map_count) of files whose names are 4 KiB long, so one line at most is in memory, without its end if it is long.
func eachMapping(maps io.Reader, see func(mapping) error) error {
	r := bufio.NewReader(maps)
	for begins := true; ; {
		part, err := r.ReadSlice('\n')
		if m, ok := parseMapping(part); ok && begins {
			if err := see(m); err != nil {
				return err
			}
		}
		switch begins = err == nil; {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// parseMapping reads the addresses with which a line begins.
func parseMapping(line []byte) (m mapping, ok bool) {
	addresses, _, _ := bytes.Cut(line, []byte(" "))
	from, to, ok := strings.Cut(string(addresses), "-")
	first, bad := strconv.ParseUint(from, 16, 63) // beyond is the kernel's
	last, worse := strconv.ParseUint(to, 16, 63)
	return mapping{uintptr(first), uintptr(last)}, ok && bad == nil && worse == nil
}

// pageOutRange is process_madvise(2) with MADV_PAGEOUT for one range of another process's addresses, Linux 5.10. The caller needs
// CAP_SYS_NICE, CAP_SYS_PTRACE for another user's process, and CAP_FOWNER for pages of files that it may not write to.
func pageOutRange(pidfd int, from, n uintptr) (done int, err error) {
	vec := struct{ base, len uintptr }{from, n} // struct iovec; no pointer, as it is not to this process's memory
	r, _, errno := unix.Syscall6(unix.SYS_PROCESS_MADVISE, uintptr(pidfd), uintptr(unsafe.Pointer(&vec)), 1, unix.MADV_PAGEOUT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// pageOutLater is sent to when a frozen instance is to be paged out; nil: it never is.
func (d *doze) pageOutLater() <-chan time.Time {
	if d.run.PageOut == 0 {
		return nil
	}
	return time.After(d.run.PageOut - d.run.Idle)
}

// pageOut pages the frozen instance out where that can be, else it stays as it is; over: it is to be awake.
func (d *doze) pageOut(ctx context.Context) (over bool) {
	if Paging() != nil { // doctor says so
		return false
	}
	before := d.p.group.MemoryUsed()
	err := pageOut(d.p.group, d.run.Memory, func() bool { over = over || d.over(ctx); return over })
	switch {
	case over:
	case err != nil:
		d.r.often.Warn("frozen instance stays in memory", d.function, "function", d.function, "instance", d.number, "error", err)
	default:
		d.become(PagedOut, fmt.Sprintf("it had %d MiB in memory, and has %d", before>>20, d.p.group.MemoryUsed()>>20), d.p.pid, d.rest != nil)
	}
	return over
}
