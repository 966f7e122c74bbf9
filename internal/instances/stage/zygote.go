package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// ZygoteName is the program's name (argv[0]) by which it knows that it is to keep a zygote: a
// process that instances are forked from. It is the first of the zygote's PID namespace,
// and with it every process of the zygote and of its instances ends. Whoever is left by its
// parent is its child: that is how instances outlive the zygote that has forked them.
const ZygoteName = "eproxy-zygote"

// interpreterName is the program's name by which it knows that it is to become the zygote.
const interpreterName = "eproxy-interpreter"

// ControlFD is the file descriptor of the zygote's own socket to the loader, in the keeper.
const ControlFD = 4

// Begun is what a keeper says when it has started the zygote. After it come an Ended for each of its children.
type Begun struct {
	Zygote int // process ID in the keeper's namespace, as those of Ended
}

// Ended says how a child has ended.
type Ended struct {
	PID    int
	Status syscall.WaitStatus
}

// keep starts the zygote, gives up all privileges and says how children end, until there is none any more.
func (o *Order) keep(loader *os.File) error {
	if err := o.mount(); err != nil {
		return err
	}
	if o.ReadOnly { // the users of the zygote's namespace are written there
		if err := procWritable(true); err != nil {
			return err
		}
	}
	pid, err := o.conceive()
	if err != nil {
		return fmt.Errorf("start the zygote in a user namespace: %w", err)
	}
	if err := unix.Close(ControlFD); err != nil {
		return err
	}
	if err := o.drop(); err != nil {
		return err
	}
	if err := o.alive(); err != nil {
		return err
	}
	say := json.NewEncoder(loader)
	err = say.Encode(Begun{pid})
	for err == nil {
		var e Ended
		e.PID, err = syscall.Wait4(-1, &e.Status, 0, nil)
		switch {
		case err == nil:
			err = say.Encode(e)
		case errors.Is(err, syscall.EINTR):
			err = nil
		}
	}
	os.Exit(0) // the last child has ended, or the loader is gone
	return nil
}

// procWritable makes /proc, alone, writable or read-only.
func procWritable(yes bool) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if yes {
		attr = unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/proc", 0, &attr); err != nil {
		return fmt.Errorf("make /proc writable %v: %w", yes, err)
	}
	return nil
}

// forkRights are what the zygote's process has to do, in its user namespace, before it is the zygote: become the user, and
// see to it that it gains nothing; CAP_SYS_ADMIN it keeps.
var forkRights = []uintptr{unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP, unix.CAP_SYS_ADMIN}

// conceive starts what becomes the zygote, in a user namespace that has no users but the function's: the kernel
// locks the mounts of the one before against whoever is privileged in it.
func (o *Order) conceive() (pid int, err error) {
	order, theirs, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer order.Close()
	pid, err = syscall.ForkExec("/proc/self/exe", []string{interpreterName}, &syscall.ProcAttr{
		Env: []string{}, Files: []uintptr{0, 1, 2, order.Fd(), ControlFD},
		Sys: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: same(o.UID), GidMappings: same(append([]int{o.GID}, o.Groups...)...), GidMappingsEnableSetgroups: true,
			AmbientCaps: forkRights,
		}})
	if err != nil {
		theirs.Close()
		return 0, err
	}
	if err := json.NewEncoder(theirs).Encode(o); err != nil {
		return 0, err
	}
	return pid, theirs.Close()
}

// same maps IDs to themselves.
func same(ids ...int) (out []syscall.SysProcIDMap) {
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		out = append(out, syscall.SysProcIDMap{ContainerID: id, HostID: id, Size: 1})
	}
	return out
}

// interpret makes the process the zygote; it says by the zygote's socket what hinders that.
func (o *Order) interpret(*os.File) error {
	err := o.embody()
	b, _ := json.Marshal(struct { // as the zygote itself says it
		Failed string `json:"failed"`
	}{err.Error()})
	_, _ = unix.Write(ControlFD, b)
	os.Exit(127)
	return nil
}

// embody is interpret, but for what hinders it.
func (o *Order) embody() error {
	if o.ReadOnly { // now that its users are known
		if err := procWritable(false); err != nil {
			return err
		}
	}
	if err := bound(); err != nil {
		return err
	}
	if err := o.as(); err != nil {
		return err
	}
	if err := forkRight(); err != nil {
		return fmt.Errorf("keep the right to make namespaces: %w", err)
	}
	path, err := o.find()
	if err != nil {
		return err
	}
	path, argv, err := interpreted(path, o.Command)
	if err != nil {
		return err
	}
	if err := unix.Dup3(ControlFD, FD, 0); err != nil {
		return err
	}
	return fmt.Errorf("command %q: %w", path, unix.Exec(path, argv, o.Env))
}

// forkRight leaves this thread CAP_SYS_ADMIN alone, also when it becomes another program.
func forkRight() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	const right = 1 << unix.CAP_SYS_ADMIN
	data := [2]unix.CapUserData{{Effective: right, Permitted: right, Inheritable: right}}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_SYS_ADMIN, 0, 0)
}
