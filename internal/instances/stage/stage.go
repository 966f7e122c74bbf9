// Package stage is what runs in a new instance before its function's command: the
// loader's own program once more, in the instance's namespaces, which makes them ready,
// gives up all privileges and becomes the command; or what keeps a zygote's. Who imports the package can be started
// as that. It imports little, because its part runs when packages are initialized, before
// the rest of the program takes its time.
package stage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Name is the program's name (argv[0]) by which it knows that it is to be the stage.
const Name = "eproxy-instance"

// FD is the file descriptor of the socket to the loader: the Order comes by it, a
// Failure goes back; that it ends without one says that the command runs.
const FD = 3

// Order is what the stage is to do.
type Order struct {
	Command  []string
	Env      []string
	Dir      string
	UID, GID int
	Groups   []int
	ReadOnly bool   // all file systems but /tmp, /var/tmp and /dev/shm, which are new and empty
	Resolv   string // file that is to be /etc/resolv.conf; empty: it stays
}

// Failure says why the command does not run.
type Failure struct {
	Message string
}

func init() {
	switch os.Args[0] {
	case Name:
		follow((*Order).run)
	case ZygoteName:
		follow((*Order).keep)
	case interpreterName:
		follow((*Order).interpret)
	}
}

// follow does what an order says that comes by FD, and ends the process.
func follow(do func(*Order, *os.File) error) {
	runtime.LockOSThread() // exec keeps what prctl says of this thread
	conn := os.NewFile(FD, "loader")
	// Nothing that the loader was started with is the command's.
	_ = unix.CloseRange(FD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	var o Order
	if err := json.NewDecoder(conn).Decode(&o); err != nil {
		os.Exit(127) // the loader has given up, or is gone
	}
	if err := do(&o, conn); err != nil {
		_ = json.NewEncoder(conn).Encode(Failure{err.Error()})
		os.Exit(127)
	}
	os.Exit(0)
}

// run makes the process the command; it returns only what hinders that.
func (o *Order) run(*os.File) error {
	if err := o.mount(); err != nil {
		return err
	}
	if err := o.drop(); err != nil {
		return err
	}
	path, err := o.find()
	if err != nil {
		return err
	}
	if err := o.alive(); err != nil {
		return err
	}
	return fmt.Errorf("command %q: %w", o.Command[0], unix.Exec(path, o.Command, o.Env))
}

// find goes to the command's directory, and looks it up by the PATH that it is to have.
func (o *Order) find() (string, error) {
	if err := unix.Chdir(o.Dir); err != nil {
		return "", fmt.Errorf("dir %q: %w", o.Dir, err)
	}
	os.Clearenv()
	for _, e := range o.Env {
		for i := range len(e) {
			if e[i] == '=' {
				_ = os.Setenv(e[:i], e[i+1:])
				break
			}
		}
	}
	return look(o.Command[0])
}

// look finds a program by the PATH of this process.
func look(name string) (string, error) {
	path, err := exec.LookPath(name)
	var unknown *exec.Error
	var unfit *fs.PathError
	switch { // the command is named once
	case errors.As(err, &unfit):
		err = unfit.Err
	case errors.As(err, &unknown):
		err = unknown.Err
	}
	if err != nil {
		return "", fmt.Errorf("command %q: %w", name, err)
	}
	return path, nil
}

// mount makes the mount namespace the instance's own.
func (o *Order) mount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if o.Resolv != "" {
		if err := unix.Mount(o.Resolv, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind /etc/resolv.conf: %w", err)
		}
	}
	if !o.ReadOnly {
		return nil
	}
	ro := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, &ro); err != nil {
		return fmt.Errorf("make file systems read-only: %w", err)
	}
	for _, dir := range []string{"/tmp", "/var/tmp", "/dev/shm"} {
		err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	return nil
}

// drop gives up every privilege: capabilities, also those that a program of the file
// system might give back, and the user.
func (o *Order) drop() error {
	if err := bound(); err != nil {
		return err
	}
	return o.as()
}

// bound sees to it that no program of the file system gives privileges.
func bound() error {
	for c := uintptr(0); ; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err == unix.EINVAL { //nolint:errorlint // a bare errno; the first that this kernel does not know
			break
		} else if err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	return nil
}

// as makes the process the user's.
func (o *Order) as() error {
	if err := syscall.Setgroups(o.Groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setresgid(o.GID, o.GID, o.GID); err != nil {
		return fmt.Errorf("set group %d: %w", o.GID, err)
	}
	if err := syscall.Setresuid(o.UID, o.UID, o.UID); err != nil {
		return fmt.Errorf("set user %d: %w", o.UID, err)
	}
	return nil
}

// alive has the process die with the loader. Another user was another process to the
// kernel, which forgot that it was to; a loader that died meanwhile has left the socket.
func (o *Order) alive() error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("die with the loader: %w", err)
	}
	fds := []unix.PollFd{{Fd: FD, Events: unix.POLLIN}}
	if n, _ := unix.Poll(fds, 0); n > 0 {
		return errors.New("the loader is gone")
	}
	return nil
}
