package lab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Busy is a reading of the whole machine's processor time.
type Busy struct {
	at   time.Time
	idle time.Duration // idle, iowait and steal, over all processors
}

// userHZ is the unit of /proc/stat, ticks per second.
const userHZ = 100

// ReadBusy reads /proc/stat. Busy time is what is left of the wall clock after
// idle, iowait and steal, so that softirq and kernel threads are not hidden;
// the user and system columns are samples that alias with paced load.
func ReadBusy() (Busy, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Busy{}, fmt.Errorf("read processor times: %w", err)
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	f := bytes.Fields(line)
	if len(f) < 9 {
		return Busy{}, fmt.Errorf("read processor times: unexpected %q", line)
	}
	var ticks int64
	for _, i := range []int{4, 5, 8} {
		n, err := strconv.ParseInt(string(f[i]), 10, 64)
		if err != nil {
			return Busy{}, fmt.Errorf("read processor times: %w", err)
		}
		ticks += n
	}
	return Busy{time.Now(), time.Duration(ticks) * time.Second / userHZ}, nil
}

// Since is the busy processor time between two readings.
func (b Busy) Since(a Busy) time.Duration {
	return time.Duration(runtime.NumCPU())*b.at.Sub(a.at) - (b.idle - a.idle)
}

// Busy is the processor time that a program has used so far, of all its threads; that of no program is none.
func (p *Process) Busy() (time.Duration, error) {
	if p == nil {
		return 0, nil
	}
	return BusyOf(p.cmd.Process.Pid)
}

// BusyOf is the processor time that a process has used so far, of all its threads.
// Interrupts and softirqs that run while it does are in it, unless the kernel has
// CONFIG_IRQ_TIME_ACCOUNTING: over veth that is most of what its packets cost.
func BusyOf(pid int) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(processClock(pid), &t); err != nil {
		return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// processClock is MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of include/linux/posix-timers_types.h.
func processClock(pid int) int32 { return int32(^pid)<<3 | 2 }

// Switches is how often the threads that a program has now have given up their processor, or lost it, so far.
func (p *Process) Switches() (n int, err error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.PID()))
	if err != nil {
		return 0, err
	}
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err != nil {
			return 0, fmt.Errorf("count context switches: %w", err)
		}
		for line := range strings.Lines(string(status)) {
			if _, count, ok := strings.Cut(line, "voluntary_ctxt_switches:"); ok { // those of the nonvoluntary ones, too
				m, err := strconv.Atoi(strings.TrimSpace(count))
				if err != nil {
					return 0, fmt.Errorf("count context switches: %w", err)
				}
				n += m
			}
		}
	}
	return n, nil
}
