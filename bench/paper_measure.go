package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"eproxy/test/lib/lab"
	"eproxy/test/lib/load"
)

// paperRun is one measurement of a chain. Processor time is in microseconds per message that arrived.
type paperRun struct {
	Offered  float64            `json:"offered"` // messages per second
	Rate     float64            `json:"rate"`    // that arrived at the function, per second
	Sent     int                `json:"sent"`
	Arrived  int                `json:"arrived"`
	Parts    map[string]float64 `json:"cpu_us"`         // by component, by the clocks of its processes; other: what is left of the machine
	Charged  float64            `json:"charged_us"`     // all components but other
	Machine  float64            `json:"machine_us"`     // the whole machine, less what it uses by itself
	Kernel   float64            `json:"kernel_mode_us"` // of charged, in kernel mode: calls, softirqs, eproxy's programs; sampled
	P50      float64            `json:"p50_us"`         // from sending to the function's having read the body
	P99      float64            `json:"p99_us"`
	Answered float64            `json:"answered_p50_us"` // from sending to what answers the device: a broker does so by itself
}

// reading is processor time so far.
type reading struct {
	machine lab.Busy
	parts   map[string]time.Duration
	kernel  time.Duration // of the processes, in kernel mode
}

func (x *chain) read() (r reading, err error) {
	r.parts = make(map[string]time.Duration)
	for _, p := range x.parts {
		pid := os.Getpid()
		if p.process != nil {
			pid = p.process.PID()
		}
		busy, err := lab.BusyOf(pid)
		if err != nil {
			return r, err
		}
		system, err := systemTime(pid)
		if err != nil {
			return r, err
		}
		r.parts[p.name] += busy
		r.kernel += system
	}
	if r.parts[partKernel], err = kernelThreads(); err != nil {
		return r, err
	}
	r.kernel += r.parts[partKernel]
	r.machine, err = lab.ReadBusy()
	return r, err
}

// userHZ is the unit of /proc/PID/stat, ticks per second.
const userHZ = 100

// systemTime is a process' time in kernel mode. The kernel divides its whole time by samples of the timer interrupt.
func systemTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const stime = 12 // field 15 of proc(5), counted from the one behind the name
	if len(f) <= stime {
		return 0, fmt.Errorf("/proc/%d/stat: unexpected %q", pid, b)
	}
	n, err := strconv.ParseInt(f[stime], 10, 64)
	return time.Duration(n) * time.Second / userHZ, err
}

// kthreadd is the parent of the kernel's threads.
const kthreadd = "2"

// kernelThreads is the processor time of ksoftirqd, kworker and the like so far. One that has ended is left out.
func kernelThreads() (sum time.Duration, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(f) < 2 || f[1] != kthreadd {
			continue
		}
		sched, err := os.ReadFile(filepath.Join(filepath.Dir(file), "schedstat"))
		if err != nil {
			continue
		}
		var ns int64
		if _, err := fmt.Sscan(string(sched), &ns); err != nil {
			return 0, fmt.Errorf("%s: unexpected %q", file, sched)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// measure loads the chain once.
func (x *chain) measure(rate, idle float64) (m paperRun, err error) {
	plan := load.Plan{Connections: x.c.Int("connections"), Duration: x.c.Duration("duration"), Rate: rate}
	warm := plan
	warm.Duration, warm.Rate = plan.Duration/5, x.c.Float64("rate")
	if _, _, err := x.deliver(warm); err != nil {
		return m, fmt.Errorf("warm up: %w", err)
	}
	before, err := x.read()
	if err != nil {
		return m, err
	}
	began := time.Now()
	r, log, err := x.deliver(plan)
	if err != nil {
		return m, err
	}
	after, err := x.read()
	if err != nil {
		return m, err
	}
	return newPaperRun(rate, r, log, before, after, idle*time.Since(began).Seconds())
}

// deliver makes a load and waits until all of it has arrived, or no more does.
func (x *chain) deliver(plan load.Plan) (*load.Result, arrivalLog, error) {
	if _, err := x.log.take(x.c.Context); err != nil {
		return nil, arrivalLog{}, err
	}
	r, err := load.Run(x.c.Context, x.dialer(), plan)
	if r == nil {
		return nil, arrivalLog{}, err
	}
	if waited := x.log.await(x.c.Context, r.Sent); waited != nil {
		return nil, arrivalLog{}, waited
	}
	log, taken := x.log.take(x.c.Context)
	if err == nil {
		err = taken
	}
	return r, log, err
}

// newPaperRun is what lies between two readings.
func newPaperRun(rate float64, r *load.Result, log arrivalLog, before, after reading, idle float64) (m paperRun, err error) {
	if log.Count < 2 {
		return m, fmt.Errorf("%d of %d messages arrived", log.Count, r.Sent)
	}
	perMessage := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(log.Count) }
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	m = paperRun{
		Offered: rate, Sent: r.Sent, Arrived: log.Count, Parts: make(map[string]float64),
		Rate:    float64(log.Count-1) / log.Last.Sub(log.First).Seconds(),
		Machine: perMessage(after.machine.Since(before.machine)) - idle*1e6/float64(log.Count),
		Kernel:  perMessage(after.kernel - before.kernel),
		P50:     us(log.P50), P99: us(log.P99), Answered: us(r.Quantile(0.5)),
	}
	for name, t := range after.parts {
		m.Parts[name] = perMessage(t - before.parts[name])
		m.Charged += m.Parts[name]
	}
	m.Parts[partOther] = m.Machine - m.Charged
	return m, nil
}
