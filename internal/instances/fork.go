package instances

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/cgroup"
)

// errSilent means that nothing comes any more from a process that was to become an instance.
var errSilent = errors.New("its fork has ended before it was an instance")

// receive takes a packet of a socket that channel has made, and says which process has sent it.
func receive(c *net.UnixConn) (b []byte, pid int, err error) {
	b, oob := make([]byte, maxReport), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
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
		p, err = z.raise(&birth{c, i, group})
	}
	if err != nil {
		group.Kill() // where it may be already
		out.end()
		return nil, err
	}
	p.done = make(chan struct{})
	go func() {
		<-p.of.ended
		out.end()
		p.status = p.of.status
		close(p.done)
	}()
	return p, nil
}

// birth is how a process becomes an instance: it says little by a socket, first that it has namespaces of its own, and then, as
// another process, that it is done.
type birth struct {
	*net.UnixConn
	i     *instance
	group *cgroup.Group
}

// raise has a process that the zygote was asked for become the instance.
func (z *zygote) raise(b *birth) (*process, error) {
	z.expect(true)
	defer z.expect(false)
	pid, fork, err := b.step()
	if err != nil {
		return nil, err
	}
	if err := b.group.Add(pid); err != nil { // with all that it writes to from here on
		return nil, err
	}
	if fork.Signal(syscall.Signal(0)) != nil {
		return nil, errSilent
	}
	if err := b.i.r.network.connect(b.i.number, pid, b.i.run.Outgoing); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	if err := b.goOn(); err != nil {
		return nil, err
	}
	if pid, fork, err = b.step(); err != nil {
		return nil, err
	}
	known, err := keptAs(pid)
	if err != nil {
		return nil, err
	}
	p := &process{pid: pid, group: b.group, killed: b.group.OOMKills(), of: z.adopt(known)}
	p.signal = func(s syscall.Signal) {
		_ = fork.Signal(s)
		if s == syscall.SIGKILL {
			b.group.Kill() // what has left its PID namespace before it had one
		}
	}
	return p, b.goOn()
}

// step waits until the process has done its next step, and says which one it is.
func (b *birth) step() (pid int, p *os.Process, err error) {
	said, pid, err := receive(b.UnixConn)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return 0, nil, errSilent
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, nil, fmt.Errorf("it has not forked after %s", b.i.run.Start)
	case err != nil:
		return 0, nil, err
	}
	var x report
	if err := json.Unmarshal(said, &x); err != nil || x.Failed != "" {
		return 0, nil, fmt.Errorf("its fork says: %s", printable(x.Failed))
	}
	if p, err = os.FindProcess(pid); err != nil {
		return 0, nil, err
	}
	return pid, p, nil
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
