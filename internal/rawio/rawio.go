package rawio

import (
	"errors"
	"net"
	"syscall"
	"unsafe"
)

// Read reads what a socket that does not block has; 0 at the end of the stream. The error is a syscall.Errno.
func Read(fd uintptr, p []byte) (int, error) {
	for {
		if n, err := read(fd, p); !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// Write writes as much as a socket that does not block has room for. The error is a syscall.Errno.
func Write(fd uintptr, p []byte) (int, error) {
	for {
		if n, err := write(fd, p); !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// Int is an ioctl(2) that answers with an int, such as SIOCINQ and SIOCOUTQ of tcp(7). ok: the connection is open, and knows it.
func Int(rc syscall.RawConn, request uintptr) (n int, ok bool) {
	var v int32
	errno := syscall.ENOTCONN
	err := control(rc, func(fd uintptr) {
		_, _, errno = syscall.RawSyscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(&v)))
	})
	return int(v), err == nil && errno == 0
}

// Silent says whether there is nothing to read from a connection, and it has not ended.
func Silent(rc syscall.RawConn) bool {
	var b [1]byte
	var errno syscall.Errno
	err := control(rc, func(fd uintptr) {
		_, _, errno = syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	})
	return err == nil && errno == syscall.EAGAIN
}

// control is rc.Control of a connection that may have been closed before there was one (nil).
func control(rc syscall.RawConn, f func(fd uintptr)) error {
	if rc == nil {
		return net.ErrClosed
	}
	return rc.Control(f)
}

// Waits says whether a call has found nothing to read, or no room to write.
func Waits(err error) bool { return errors.Is(err, syscall.EAGAIN) }
