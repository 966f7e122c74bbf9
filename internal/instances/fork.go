package instances

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/cgroup"
)

// errSilent means that nothing comes any more from a process that was to become an instance.
var errSilent = errors.New("its fork has ended before it was an instance")

// keeperTime is how long after an instance's process has ended its keeper may take to say how.
const keeperTime = time.Second

// receive takes a packet of a socket that channel has made, and says which process has sent it.
func receive(c *net.UnixConn) (b []byte, pid int, err error) {
	b, oob := make([]byte, maxReport), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if errors.Is(err, unix.ECONNRESET) { // said once, where the other end has left something unread: what it had sent is here still
		n, oobn, _, _, err = c.ReadMsgUnix(b, oob)
	}
	if err != nil {
		return nil, 0, err
	}
	if n == 0 {
		return nil, 0, io.EOF
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, 0, err
	}
	for _, m := range messages {
		if who, err := unix.ParseUnixCredentials(&m); err == nil {
			return b[:n], int(who.Pid), nil
		}
	}
	return nil, 0, errors.New("the kernel does not say which process has sent it")
}

// fork makes an instance's process of the zygote, in the group, which has nothing else in it.
func (z *zygote) fork(ctx context.Context, i *instance, group *cgroup.Group) (*process, error) {
	z.turn.Lock()
	defer z.turn.Unlock()
	z.wake()
	defer z.restLater()
	c, theirs, err := channel()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(i.run.Start)); err != nil {
		theirs.Close()
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	out, err := newStreams(i.says("stdout"), i.says("stderr"))
	if err != nil {
		theirs.Close()
		return nil, err
	}
	rights := unix.UnixRights(int(theirs.Fd()), int(out.writes[0].Fd()), int(out.writes[1].Fd()))
	_, _, err = z.control.WriteMsgUnix([]byte("{}"), rights, nil)
	theirs.Close()
	out.given()
	var p *process
	if err != nil {
		err = errSilent
	} else {
		p, err = z.raise(&birth{c, i, group, out})
	}
	if err != nil {
		group.Kill() // where it may be already
		out.end()
		return nil, err
	}
	return p, nil
}

// birth is how a process becomes an instance: it says little by a socket, first that it has namespaces of its own, and then, as
// another process, that it is done.
type birth struct {
	*net.UnixConn
	i     *instance
	group *cgroup.Group
	out   *streams
}

// raise has a process that the zygote was asked for become the instance.
func (z *zygote) raise(b *birth) (*process, error) {
	z.expect(true)
	defer z.expect(false)
	first, err := b.step(z.keeps)
	if err != nil {
		return nil, err
	}
	defer first.fd.Close()
	if err := b.group.Add(first.pid); err != nil { // with all that it writes to from here on
		return nil, err
	}
	ns, err := networkOf(first.pid)
	if err == nil {
		defer ns.Close()
	}
	if first.signal(0) != nil { // or it is another's
		err = errSilent
	}
	if err != nil {
		return nil, err
	}
	if err := b.i.r.network.connect(b.i.number, ns, b.i.run.Outgoing); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	if err := b.goOn(); err != nil {
		return nil, err
	}
	fork, err := b.step(b.within)
	if err != nil {
		return nil, err
	}
	p, err := z.bear(b, fork)
	if err != nil {
		fork.fd.Close()
	}
	return p, err
}

// bear has the process, which waits, go on as the instance's.
func (z *zygote) bear(b *birth, fork *held) (p *process, err error) {
	known, err := keptAs(fork.pid)
	if err != nil {
		return nil, err
	}
	of, err := z.adopt(known)
	if err != nil {
		return nil, err
	}
	p = &process{pid: fork.pid, group: b.group, killed: b.group.OOMKills(), done: make(chan struct{}), of: of}
	p.signal = func(s syscall.Signal) {
		_ = fork.signal(s)
		if s == syscall.SIGKILL {
			b.group.Kill() // what has left its PID namespace before it had one
		}
	}
	if err := b.goOn(); err != nil {
		z.forget(known, of)
		return nil, err
	}
	go func() {
		defer close(p.done)
		defer fork.fd.Close()
		fork.wait()
		p.status = z.told(known, of)
		b.out.end()
	}()
	return p, nil
}

// told is how a child has ended that has. The keeper says so if it is its child, which depends on what the function does: on nothing
// else here may it.
func (z *zygote) told(pid int, c *child) syscall.WaitStatus {
	late := time.NewTimer(keeperTime)
	defer late.Stop()
	select {
	case <-c.ended:
		return c.status
	case <-late.C:
		z.forget(pid, c)
		return syscall.WaitStatus(unix.SIGKILL)
	}
}

// step waits until the process has done its next step, and says which one it is. The kernel names it by a number, which may be another's
// by now: is says whether it can be the one, of which it is certain only if it still lives.
func (b *birth) step(is func(pid int) error) (*held, error) {
	said, pid, err := receive(b.UnixConn)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return nil, errSilent
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("it has not forked after %s", b.i.run.Start)
	case err != nil:
		return nil, err
	}
	var x report
	if err := json.Unmarshal(said, &x); err != nil || x.Failed != "" {
		return nil, fmt.Errorf("its fork says: %s", printable(x.Failed))
	}
	h, err := hold(pid)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // it has ended, or was none that is seen here
		return nil, errSilent
	}
	if err != nil {
		return nil, err
	}
	if err = is(pid); err == nil && h.signal(0) != nil {
		err = errSilent
	}
	if err != nil {
		h.fd.Close()
		return nil, err
	}
	return h, nil
}

// keeps says what is wrong if a process is not in the keeper's PID namespace, as all are before they are instances.
func (z *zygote) keeps(pid int) error {
	space, err := pidNamespace(pid)
	if err != nil {
		return errSilent
	}
	if space != z.space {
		return errors.New("its fork is a process of another PID namespace")
	}
	return nil
}

// pidNamespace names a process's PID namespace.
func pidNamespace(pid int) (string, error) { return os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)) }

// within says what is wrong if a process is not in the instance's group: it may be another instance's, or the zygote's.
func (b *birth) within(pid int) error {
	if !slices.Contains(b.group.Processes(), pid) {
		return errors.New("its fork is a process of another control group")
	}
	return nil
}

// goOn has the process do its next step.
func (b *birth) goOn() error {
	if _, err := b.Write([]byte("!")); err != nil {
		return errSilent
	}
	return nil
}

// keptAs is the process ID that a process has in the keeper's namespace: in its own it is the first.
func keptAs(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, errSilent
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			if all := strings.Fields(rest); len(all) == 3 && all[2] == "1" {
				return strconv.Atoi(all[1])
			}
		}
	}
	return 0, errors.New("its fork has no PID namespace of its own")
}
