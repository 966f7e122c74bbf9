package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// onThread runs f on an OS thread of its own that ends afterwards: whatever f
// does to the thread's namespaces cannot leak.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		done <- f()
	}()
	return <-done
}

// Do runs f with its thread in a host's network namespace. Only the network
// namespace changes: /sys/fs/bpf stays what it is. Sockets that f opens stay in
// that namespace.
func (l *Lab) Do(r Role, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(l.handles[r]), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", l.Name(r), err)
		}
		return f()
	})
}

// Start starts a command on a host. It is killed when ctx ends, and when this
// process dies.
func (l *Lab) Start(r Role, cmd *exec.Cmd) error {
	return l.Do(r, cmd.Start)
}

// Command is a command for Start; it gets SIGTERM when ctx ends.
func Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	return cmd
}

// Run runs a command on a host and returns its combined output.
func (l *Lab) Run(ctx context.Context, r Role, name string, args ...string) ([]byte, error) {
	var out []byte
	err := l.Do(r, func() error {
		var err error
		out, err = exec.CommandContext(ctx, name, args...).CombinedOutput()
		return err
	})
	return out, err
}

// Listen opens a TCP listener on a host.
func (l *Lab) Listen(r Role, address string) (net.Listener, error) {
	var ln net.Listener
	err := l.Do(r, func() error {
		var err error
		ln, err = net.Listen("tcp", address)
		return err
	})
	return ln, err
}

// Dial connects from a host.
func (l *Lab) Dial(ctx context.Context, r Role, address string) (net.Conn, error) {
	var c net.Conn
	err := l.Do(r, func() error {
		var d net.Dialer
		d.SetMultipathTCP(false)
		var err error
		c, err = d.DialContext(ctx, "tcp", address)
		return err
	})
	return c, err
}

// Commands of SIOCETHTOOL (include/uapi/linux/ethtool.h).
const (
	ethtoolSTXCSUM = 0x17
	ethtoolSTSO    = 0x1f
	ethtoolSGSO    = 0x24
	ethtoolSGRO    = 0x2c
	siocEthtool    = 0x8946
)

type ethtoolValue struct{ cmd, data uint32 }

// setFeature switches an offload of an interface in the thread's namespace.
func setFeature(ifname string, cmd uint32, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	v := ethtoolValue{cmd: cmd}
	if on {
		v.data = 1
	}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		pad  [16]byte
	}
	copy(req.name[:], ifname)
	req.data = unsafe.Pointer(&v)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), siocEthtool, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return os.NewSyscallError("ethtool "+ifname, errno)
	}
	return nil
}
