package instances

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"eproxy/internal/cgroup"
	"eproxy/internal/config"
)

// State is where an instance is.
type State string

// The states. One that is Ready is a pod, and so is one that sleeps where the data plane wakes it.
const (
	Starting State = "starting" // it does not listen yet
	Ready    State = "ready"
	Failed   State = "failed"    // it has ended, or never listened, and is started again after a while
	Stopping State = "stopping"  // nobody wants it any more
	Dozing   State = "dozing"    // it is to be frozen when its connections have ended
	Frozen   State = "frozen"    // it takes no processor time until it is woken
	PagedOut State = "paged-out" // it is frozen, and most of its memory is in swap
	Stopped  State = "stopped"   // of a function: it has no instance
)

const (
	// An instance that failed is started again after restartMin, twice as long each time
	// that it fails again, up to restartMost; once it was ready for forgiven, anew.
	restartMin  = 100 * time.Millisecond
	restartMost = 30 * time.Second
	forgiven    = 10 * time.Second
	// Whether it listens is tried after probeMin, then after half as long again, up to
	// probeMost.
	probeMin  = time.Millisecond
	probeMost = 50 * time.Millisecond
	probeTime = time.Second // of one try
	// drainTime is how long one that nobody wants any more may keep its connections, on
	// which answers may still be under way.
	drainTime = 30 * time.Second
	drainPoll = 20 * time.Millisecond
)

// Status is an instance as it is shown.
type Status struct {
	Function string         `json:"function"`
	Instance int            `json:"instance"` // unique on this machine
	Address  netip.AddrPort `json:"address"`
	State    State          `json:"state"`
	PID      int            `json:"pid"` // 0: there is no process
	Used     int64          `json:"used"`
	Memory   int64          `json:"memory"` // limit, bytes as the one before
	Starts   int            `json:"starts"`
	Reason   string         `json:"reason"` // of the state; empty where it needs none
	Pod      bool           `json:"-"`      // it gets requests
}

// instance is one of a function's.
type instance struct {
	r        *Runtime
	of       *set
	function string
	run      *config.Run
	number   int
	wake     chan struct{}
	owed     atomic.Bool // it was woken while it slept, or was about to
	changed  func()      // whenever status, which r.mu guards, is another
	cancel   context.CancelFunc
	ending   bool // nobody wants it any more; of.mu guards it
	status   Status
}

// end has live return when what is under way has ended.
func (i *instance) end() {
	i.of.mu.Lock()
	i.ending = true
	i.of.mu.Unlock()
	i.cancel()
}

// live runs processes, one after the other, until ctx ends.
func (i *instance) live(ctx context.Context) {
	wait := restartMin
	for {
		why, ready := i.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if ready >= forgiven {
			wait = restartMin
		}
		i.enter(Failed, why, 0)
		i.r.often.Warn("instance has failed, it is started again", i.function, "function", i.function, "instance", i.number, "reason", why, "after", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, restartMost)
	}
}

// once runs one process until it ends, or ctx does, and says why it ended and how long
// it was ready.
func (i *instance) once(ctx context.Context) (why string, ready time.Duration) {
	i.enter(Starting, "", 0)
	began := time.Now()
	group := i.group()
	defer i.clear(group)
	if err := group.Make(cgroup.Limits{Memory: i.run.Memory, CPU: i.run.CPU, PIDs: maxPIDs}); err != nil {
		return err.Error(), 0
	}
	p, err := i.r.begin(ctx, i, group)
	if err != nil {
		return err.Error(), 0
	}
	defer func() { p.kill(); <-p.done }()
	i.enter(Starting, "", p.pid)
	if why := i.await(ctx, p); why != "" || ctx.Err() != nil {
		return why, 0
	}
	since := time.Now()
	c := clock{idle: i.run.Idle}
	c.woken(since, i.r.requests(i.function)) // what comes from now on is use
	i.enter(Ready, "", p.pid)
	i.of.started(since.Sub(began))
	i.r.log.Info("instance is ready", "function", i.function, "instance", i.number, "address", i.status.Address, "pid", p.pid, "after", since.Sub(began).Round(time.Microsecond))
	if i.serve(ctx, p, &c) {
		return p.ended(i.run.Memory), time.Since(since)
	}
	i.shutDown(p)
	return "", time.Since(since)
}

// group is the instance's control group.
func (i *instance) group() *cgroup.Group {
	return i.r.groups.At(top, i.r.id, fmt.Sprintf("%d-%s", i.number, i.function))
}

// await waits until the process takes connections, and says why it does not.
func (i *instance) await(ctx context.Context, p *process) string {
	ctx, cancel := context.WithTimeout(ctx, i.run.Start)
	defer cancel()
	dialer := net.Dialer{Timeout: probeTime}
	for wait := probeMin; ; wait = min(wait*3/2, probeMost) {
		c, err := dialer.DialContext(ctx, "tcp", i.status.Address.String())
		if err == nil {
			c.Close()
			return ""
		}
		all, _ := sockets(p.pid)
		why := listening(all, i.run.Port)
		if wait == probeMost {
			i.enter(Starting, why, p.pid)
		}
		select {
		case <-p.done:
			return p.ended(i.run.Memory)
		case <-ctx.Done():
			return fmt.Sprintf("after %s %s", i.run.Start, why)
		case <-time.After(wait):
		}
	}
}

// shutDown ends a process that is no pod any more: it keeps its connections until what
// is under way on them has ended.
func (i *instance) shutDown(p *process) {
	i.enter(Stopping, "", p.pid)
	limit := time.After(drainTime)
	for open := true; open; {
		if all, err := sockets(p.pid); err != nil || !connected(all, i.run.Port) {
			break
		}
		select {
		case <-limit:
			open = false
		case <-p.done:
			return
		case <-i.r.hurry:
			open = false
		case <-time.After(drainPoll):
		}
	}
	if why := p.stop(i.run.Stop); why != "" {
		i.r.log.Warn("instance is killed", "function", i.function, "instance", i.number, "reason", why)
	}
}

// clear removes what a process leaves.
func (i *instance) clear(group *cgroup.Group) {
	i.r.network.disconnect(i.number)
	if err := group.Remove(); err != nil {
		i.r.often.Warn("cgroup of an instance stays until the next start", i.function, "function", i.function, "instance", i.number, "error", err)
	}
}

// enter brings the instance into a state.
func (i *instance) enter(s State, reason string, pid int) { i.become(s, reason, pid, s == Ready) }

// become is enter; pod: it gets requests in this state.
func (i *instance) become(s State, reason string, pid int, pod bool) {
	i.r.mu.Lock()
	was := i.status
	if pid != 0 && was.PID == 0 {
		i.status.Starts++
	}
	i.status.State, i.status.Reason, i.status.PID, i.status.Pod = s, reason, pid, pod
	if was.State != s {
		i.r.offer()
	}
	i.r.mu.Unlock()
	if was.Pod && pod { // to nobody else it makes a difference
		i.of.poke()
		return
	}
	if was.State != s || was.Reason != reason {
		i.changed()
		select {
		case i.r.changed <- struct{}{}:
		default: // it will be looked at
		}
	}
}

// says logs what the instance writes to a stream.
func (i *instance) says(stream string) *lines {
	return i.r.says(stream, "function", i.function, "instance", i.number)
}

// says logs what is written to a stream, by whom.
func (r *Runtime) says(stream string, who ...any) *lines {
	log := r.log.With(append(who, "stream", stream)...)
	return &lines{
		say: func(line string) {
			log.LogAttrs(context.Background(), slog.LevelInfo, "function says", slog.String("line", line))
		},
		omitted: func(lines int) { log.Warn("function writes too much, lines are left out", "lines", lines) },
	}
}
