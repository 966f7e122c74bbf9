package lab

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"syscall"

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

// Listen opens a TCP listener on a host. The address may be one whose last listener was closed just now: a process that is
// being started has a copy of its descriptor until it executes its program, so that is waited for.
func (l *Lab) Listen(r Role, address string) (net.Listener, error) {
	syscall.ForkLock.RLock()
	syscall.ForkLock.RUnlock() //nolint:staticcheck // nothing to do in it: those who fork hold it until then
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
