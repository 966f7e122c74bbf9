package instances

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// held is a process, and never another one that has its number later.
type held struct {
	pid int
	fd  *os.File // pidfd_open(2)
}

// hold takes hold of the process that has a number now.
func hold(pid int) (*held, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that wait costs no thread
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &held{pid, os.NewFile(uintptr(fd), "process")}, nil
}

// signal sends a signal; 0 says whether there is such a process, also one that has ended and whose parent has not heard of it.
func (h *held) signal(s syscall.Signal) (err error) {
	raw, err := h.fd.SyscallConn()
	if err != nil {
		return err
	}
	if bad := raw.Control(func(fd uintptr) { err = unix.PidfdSendSignal(int(fd), s, nil, 0) }); bad != nil {
		return bad
	}
	return err
}

// wait returns when the process has ended, whether or not its parent has heard of it; if it is the first of a PID namespace, all others
// there have, too (pid_namespaces(7)).
func (h *held) wait() {
	raw, err := h.fd.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return n > 0 && err == nil
	})
}
