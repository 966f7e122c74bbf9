// Package clock reads the clock of the BPF programs.
package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic is the time of CLOCK_MONOTONIC, which bpf_ktime_get_ns reads. It is no system call: Go's own monotonic time is
// the same clock's, by the vDSO, and counts from another moment.
func Monotonic() time.Duration { return At(time.Now()) }

// At is what Monotonic was at a time that time.Now returned; no clock is read.
func At(t time.Time) time.Duration { return origin.on + t.Sub(origin.at) }

// moment is one on both clocks.
type moment struct {
	at time.Time
	on time.Duration
}

var origin = agree(system, time.Now)

// exact is how near the two clocks are to be read to each other; a processor that does something else in between makes more.
const exact = time.Microsecond

// agree reads the clocks until they were read at about the same moment, or so often that the nearest will do. What it says
// is at most that much ahead of the system's clock and never behind it: nothing that the programs have noted is yet to come.
func agree(system func() time.Duration, now func() time.Time) (best moment) {
	const tries = 100
	nearest := time.Duration(-1)
	for range tries {
		before := system()
		at := now()
		after := system()
		if d := after - before; nearest < 0 || d < nearest {
			best, nearest = moment{at, after}, d
		}
		if nearest <= exact {
			break
		}
	}
	return best
}

// system is the clock as the kernel says.
func system() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}
