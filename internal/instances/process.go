package instances

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"eproxy/internal/cgroup"
	"eproxy/internal/config"
	"eproxy/internal/instances/stage"
)

// maxPIDs is how many processes and threads an instance may have.
const maxPIDs = 1024

// process is a started command.
type process struct {
	pid    int
	signal func(syscall.Signal) // to it, and to no other process that has its number later
	group  *cgroup.Group
	done   chan struct{}      // closed when it has ended, and all of its PID namespace with it
	status syscall.WaitStatus // how; done is closed

	of     *child // that the keeper of the zygote knows it as; nil: it was started
	killed int    // processes that the group's memory limit had cost before this one: the kernel may not have let go of an earlier group
}

// account is whom a command runs as.
type account struct {
	uid, gid int
	groups   []int
}

var errRoot = errors.New("is root: instances never run as root")

// lookup finds the account of a user by name, or by number, which need not be known here.
func lookup(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		id, bad := strconv.ParseUint(name, 10, 31)
		if bad != nil {
			return account{}, fmt.Errorf("user %q is not known on this machine", name)
		}
		if u, err = user.LookupId(name); err != nil {
			return notRoot(name, account{uid: int(id), gid: int(id)})
		}
	}
	a := account{}
	if a.uid, err = strconv.Atoi(u.Uid); err != nil {
		return account{}, fmt.Errorf("user %q: %w", name, err)
	}
	if a.gid, err = strconv.Atoi(u.Gid); err != nil {
		return account{}, fmt.Errorf("user %q: %w", name, err)
	}
	ids, _ := u.GroupIds() // one that cannot be read is one group fewer
	for _, s := range ids {
		if id, err := strconv.Atoi(s); err == nil && id != 0 {
			a.groups = append(a.groups, id)
		}
	}
	return notRoot(name, a)
}

func notRoot(name string, a account) (account, error) {
	if a.uid == 0 || a.gid == 0 {
		return a, fmt.Errorf("user %q %w", name, errRoot)
	}
	return a, nil
}

// environment is what a command has in its environment: nothing of the loader's.
func environment(run *config.Run) []string {
	env := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}
	maps.Copy(env, run.Env)
	env["PORT"] = strconv.Itoa(int(run.Port))
	var out []string
	for _, key := range slices.Sorted(maps.Keys(env)) {
		out = append(out, key+"="+env[key])
	}
	return out
}

// begin starts an instance's process in the group: forked from the function's zygote, if it is to have one that can.
func (r *Runtime) begin(ctx context.Context, i *instance, group *cgroup.Group) (*process, error) {
	if p := i.of.nursery.fork(ctx, i, group); p != nil {
		return p, nil
	}
	return r.start(ctx, i, group)
}

// start starts the stage in namespaces of its own and in the group, has connect make its
// network, and returns when it has become the command.
func (r *Runtime) start(ctx context.Context, i *instance, group *cgroup.Group) (*process, error) {
	who, err := lookup(i.run.User)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := socketpair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	p, err := r.launch(stage.Name, group, i.says("stdout"), i.says("stderr"), theirs)
	if err != nil {
		return nil, err
	}
	if err := r.order(ctx, i, p, who, ours); err != nil {
		p.kill()
		<-p.done
		return nil, err
	}
	return p, nil
}

// socketpair makes two ends of a socket: ours can have deadlines.
func socketpair(kind int) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs"), nil
}

// launch starts this program once more, as the stage of a name, in namespaces of its own. The files are open in it, and closed here.
func (r *Runtime) launch(name string, group *cgroup.Group, out, errs *lines, files ...*os.File) (*process, error) {
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: []string{name}, Env: []string{}, Dir: "/",
		Stdout: out, Stderr: errs, ExtraFiles: files, WaitDelay: outputTime,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL,
			Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS}}
	var err error
	r.starter.do(func() { err = cmd.Start() })
	for _, f := range files {
		f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("start a process in namespaces of its own: %w", err)
	}
	p := &process{pid: cmd.Process.Pid, group: group, done: make(chan struct{}), killed: group.OOMKills()}
	p.signal = func(s syscall.Signal) { _ = cmd.Process.Signal(s) }
	go func() {
		_ = cmd.Wait() // which has read all that it wrote
		out.close()
		errs.close()
		p.status, _ = cmd.ProcessState.Sys().(syscall.WaitStatus)
		close(p.done)
	}()
	return p, nil
}

// order makes what the stage needs, tells it what to do and waits until it is done, for as long as the instance has to start, or
// until ctx ends.
func (r *Runtime) order(ctx context.Context, i *instance, p *process, who account, socket *os.File) error {
	if err := p.group.Add(p.pid); err != nil {
		return err
	}
	ns, err := netns.GetFromPid(p.pid)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer ns.Close()
	if err := r.network.connect(i.number, ns, i.run.Outgoing); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	order := r.orderOf(i.run, who)
	if err := socket.SetDeadline(time.Now().Add(i.run.Start)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })()
	if err := json.NewEncoder(socket).Encode(order); err != nil {
		return fmt.Errorf("the process has ended before it was told what to do: %w", err)
	}
	var f stage.Failure
	switch err := json.NewDecoder(socket).Decode(&f); {
	case errors.Is(err, io.EOF):
		return nil // exec has closed it
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("after %s its namespaces and files are not ready for it", i.run.Start)
	case err != nil:
		return err
	}
	return errors.New(f.Message)
}

// orderOf is what a stage is told of a function.
func (r *Runtime) orderOf(run *config.Run, who account) stage.Order {
	order := stage.Order{Command: run.Command, Env: environment(run), Dir: run.Dir, UID: who.uid, GID: who.gid, Groups: who.groups, ReadOnly: run.ReadOnly}
	if run.Outgoing {
		order.Resolv = r.nameServers()
	}
	return order
}

// kill ends the process, and with the first of its PID namespace all others.
func (p *process) kill() { p.signal(syscall.SIGKILL) }

// defaultTime is how long a process may go on that has set the handling of SIGTERM back to
// the default after it came.
const defaultTime = time.Second

// stop asks the process to end, and kills it if it does not within limit; then it says
// why. The first of a PID namespace gets no signal that it does not catch: one that does
// not is killed without more words, and so is, a little later, one that sends itself the
// signal again by default, as Node does.
func (p *process) stop(limit time.Duration) (why string) {
	defer p.kill()
	if !p.catchesTerm() {
		return ""
	}
	p.signal(syscall.SIGTERM)
	late, poll := time.After(limit), time.NewTicker(drainPoll)
	defer poll.Stop()
	var byDefault <-chan time.Time
	for {
		select {
		case <-p.done:
			return ""
		case <-byDefault:
			return ""
		case <-late:
			return fmt.Sprintf("it has not ended %s after SIGTERM", limit)
		case <-poll.C:
			if byDefault == nil && !p.catchesTerm() {
				byDefault = time.After(defaultTime)
			}
		}
	}
}

// catchesTerm says whether the process has a handler for SIGTERM (SigCgt, proc_pid_status(5)).
func (p *process) catchesTerm() bool {
	caught, err := statusWord(p.pid, "SigCgt")
	return err == nil && caught&(1<<(syscall.SIGTERM-1)) != 0
}

// ended says how the process ended, for people; p.done is closed.
func (p *process) ended(memory int64) string {
	if p.group.OOMKills() > p.killed {
		return fmt.Sprintf("killed: it needs more than its memory limit of %d MiB", memory>>20)
	}
	switch {
	case p.status.Signaled():
		return "killed by signal " + unix.SignalName(p.status.Signal())
	case p.status.ExitStatus() == 0:
		return "it ended by itself with status 0: if it goes to the background, have it stay in the foreground"
	}
	return fmt.Sprintf("it ended with status %d", p.status.ExitStatus())
}
