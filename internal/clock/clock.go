// Package clock reads the clock of the BPF programs.
package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic is the time of CLOCK_MONOTONIC, which bpf_ktime_get_ns reads.
func Monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}
