package instances

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"eproxy/internal/instances/stage"
)

// follow hears from the keeper how its children end, until it has ended itself, and with it all that was left of them.
func (z *zygote) follow() {
	for {
		var e stage.Ended
		if z.ends.Decode(&e) != nil {
			break
		}
		z.ended(e)
	}
	z.keeper.kill() // it may have closed the socket only
	<-z.keeper.done
	z.socket.Close()
	z.mu.Lock()
	left := z.children
	z.children = nil
	z.mu.Unlock()
	for _, c := range left {
		c.end(syscall.WaitStatus(unix.SIGKILL))
	}
	<-z.gone
	if err := z.clear(); err != nil {
		z.r.often.Warn("cgroup of a zygote stays until the next start", z.n.s.name, "function", z.n.s.name, "error", err)
	}
	z.n.buried(z)
}

// end notes how a child has ended.
func (c *child) end(status syscall.WaitStatus) {
	c.status = status
	close(c.ended)
}

// ended notes how the keeper says that a child has ended. Most that it says this of were left by their parents, and nobody knows them.
func (z *zygote) ended(e stage.Ended) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if c := z.children[e.PID]; c != nil {
		delete(z.children, e.PID)
		c.end(e.Status)
	} else if z.forking && len(z.strays) < maxStrays {
		z.strays = append(z.strays, e)
	}
}

// adopt has the end of a child noted, that may have come already. What is an instance, or the zygote, becomes no other one.
func (z *zygote) adopt(pid int) (*child, error) {
	c := &child{ended: make(chan struct{})}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.children[pid] != nil {
		return nil, errors.New("its fork is an instance already")
	}
	for _, e := range z.strays {
		if e.PID == pid {
			c.end(e.Status)
			return c, nil
		}
	}
	if z.children == nil {
		c.end(syscall.WaitStatus(unix.SIGKILL))
		return c, nil
	}
	z.children[pid] = c
	return c, nil
}

// forget has no end of a child noted any more.
func (z *zygote) forget(pid int, c *child) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.children[pid] == c {
		delete(z.children, pid)
	}
}

// expect says whether a child may be adopted soon.
func (z *zygote) expect(soon bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.forking, z.strays = soon, nil
}

// hear takes what the zygote says until it has ended. Its socket may be open in others then, as in an instance whose function wants that: what
// it had said is there already.
func (z *zygote) hear() {
	defer close(z.gone)
	go func() {
		<-z.self.ended
		_ = z.control.SetReadDeadline(time.Now().Add(lastWords))
	}()
	for n := 0; ; n++ {
		b, pid, err := receive(z.control)
		var x report
		if err != nil || json.Unmarshal(b, &x) != nil {
			break
		}
		if !z.note(&x, pid) || n == maxReports {
			z.because("it says more than a zygote has to say")
			break
		}
	}
	z.end() // it may have closed the socket only
	<-z.self.ended
	z.control.Close()
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.why == "" {
		z.why = (&process{group: z.group, killed: z.killed, status: z.self.status}).ended(z.n.s.run.Memory)
	}
}

// note takes one report of the zygote, which is not to be trusted to say each thing once; false: it says what it has no reason to.
func (z *zygote) note(x *report, pid int) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.pid = pid
	if x.Failed != "" {
		z.why = printable(x.Failed)
		return true
	}
	if x.Changed != "" {
		z.why, z.stale = printable(x.Changed)+" has changed", true
		return true
	}
	select {
	case <-z.ready:
		return false
	default:
	}
	if x.Ready {
		close(z.ready)
	} else {
		z.importing = printable(x.Importing)
	}
	return true
}

// printable is what a function says, fit for a line on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// await waits until the zygote has imported everything, and says what hinders that.
func (z *zygote) await(ctx context.Context) error {
	limit := z.n.s.run.Start
	late := time.NewTimer(limit)
	defer late.Stop()
	why := ""
	select {
	case <-z.ready:
		z.turn.Lock()
		defer z.turn.Unlock()
		z.restLater()
		return nil
	case <-z.gone:
	case <-ctx.Done():
		why = ctx.Err().Error()
	case <-late.C:
		z.mu.Lock()
		why = fmt.Sprintf("after %s it still imports %s", limit, z.importing)
		z.mu.Unlock()
	}
	z.endFor(why)
	return errors.New(z.reason())
}

// endFor ends the zygote for a reason, if it has not ended for another one, and waits until it has.
func (z *zygote) endFor(why string) {
	z.because(why)
	z.end()
	<-z.gone
}

// because notes why it is to end, if nothing is known yet.
func (z *zygote) because(why string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.why == "" {
		z.why = why
	}
}

// hungUp says whether the zygote has closed its socket, as it does first when it ends.
func (z *zygote) hungUp() (yes bool) {
	raw, err := z.control.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd)}}
		_, _ = unix.Poll(fds, 0)
		yes = fds[0].Revents&unix.POLLHUP != 0
	})
	return yes || err != nil
}

// reason is why it has ended.
func (z *zygote) reason() string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.why
}

// wake has a frozen zygote go on; z.turn is held.
func (z *zygote) wake() {
	if z.later != nil {
		z.later.Stop()
	}
	z.sleeps(false)
	if z.freezer == nil {
		return
	}
	if err := z.freezer.Thaw(); err != nil { // its socket says so, in time
		z.r.often.Warn("zygote cannot be thawed", z.n.s.name, "function", z.n.s.name, "error", err)
	}
}

// restLater has it frozen a little later; z.turn is held.
func (z *zygote) restLater() {
	if z.freezer == nil {
		return
	}
	z.later = time.AfterFunc(zygoteRest, z.rest)
}

// rest freezes it until the next instance is asked for.
func (z *zygote) rest() {
	z.turn.Lock()
	defer z.turn.Unlock()
	select {
	case <-z.gone:
		return
	default:
	}
	if err := z.freezer.Freeze(); err != nil {
		return // it is being cleared away
	}
	for limit := time.Now().Add(freezeTime); time.Now().Before(limit); z.freezer.Wait(10) {
		frozen, err := z.freezer.Frozen()
		if err != nil {
			return
		}
		if frozen {
			z.sleeps(true)
			return
		}
	}
	_ = z.freezer.Thaw() // one that cannot be stopped works as well
}

func (z *zygote) sleeps(asleep bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asleep = asleep
}
