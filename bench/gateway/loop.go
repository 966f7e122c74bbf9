package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"eproxy/internal/config"
)

// Loop is a gateway in one thread: epoll, one system call for all that a socket has to read, and one
// for all that a turn has to write to it.
type Loop struct {
	epoll, listener, wake int
	ends                  []end // by file descriptor
	dirty                 []*socket
	fn                    *config.Function
	pods                  []*pod
	devices               uint64 // so far
	buf                   []byte // what was read last
}

// end is what an epoll event is for.
type end interface {
	// readable is called when there is something to read, or the connection has ended.
	readable(l *Loop) error
	base() *socket
}

// socket is a connection that does not block.
type socket struct {
	fd     int
	in     []byte // the beginning of a packet or response whose rest is still to come
	out    []byte
	events uint32 // that epoll waits for
	dirty  bool   // there is something to write
	closed bool
}

func (s *socket) base() *socket { return s }

// NewLoop listens at an address, and connects to each pod so many times.
func NewLoop(listen string, pods []string, connections int, url string) (*Loop, error) {
	fn, err := function(url)
	if err != nil {
		return nil, err
	}
	l := &Loop{fn: fn, buf: make([]byte, 256<<10)}
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if err := l.listen(listen); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", listen, err)
	}
	for range connections {
		for _, address := range pods {
			if err := l.dial(address); err != nil {
				return nil, fmt.Errorf("connect to %s: %w", address, err)
			}
		}
	}
	for _, fd := range []int{l.wake, l.listener} {
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return nil, fmt.Errorf("epoll: %w", err)
		}
	}
	return l, nil
}

func sockaddr(address string) (unix.Sockaddr, int, error) {
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, 0, err
	}
	if v4 := a.IP.To4(); v4 != nil {
		return &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(v4)}, unix.AF_INET, nil
	}
	sa := &unix.SockaddrInet6{Port: a.Port}
	copy(sa.Addr[:], a.IP) // all zeros if there is none
	return sa, unix.AF_INET6, nil
}

func (l *Loop) listen(address string) error {
	sa, family, err := sockaddr(address)
	if err != nil {
		return err
	}
	if l.listener, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(l.listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(l.listener, sa); err != nil {
		return err
	}
	return unix.Listen(l.listener, 4096)
}

// dial makes one connection to a pod.
func (l *Loop) dial(address string) error {
	sa, family, err := sockaddr(address)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, sa); err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	p := &pod{socket: socket{fd: fd}}
	l.pods = append(l.pods, p)
	return l.add(p)
}

// add makes epoll watch a new socket.
func (l *Loop) add(e end) error {
	s := e.base()
	if err := unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	s.events = unix.EPOLLIN
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: s.events, Fd: int32(s.fd)}); err != nil {
		return err
	}
	if s.fd >= len(l.ends) {
		l.ends = slices.Grow(l.ends, s.fd+1-len(l.ends))[:s.fd+1]
	}
	l.ends[s.fd] = e
	return nil
}

// want changes what epoll waits for.
func (l *Loop) want(s *socket, events uint32) {
	if s.events != events && !s.closed {
		s.events = events
		_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, s.fd, &unix.EpollEvent{Events: events, Fd: int32(s.fd)})
	}
}

func (l *Loop) close(s *socket) {
	if !s.closed {
		s.closed = true
		l.ends[s.fd] = nil
		_ = unix.Close(s.fd)
	}
}

func (l *Loop) closeAll() {
	for _, e := range l.ends {
		if e != nil {
			l.close(e.base())
		}
	}
	for _, fd := range []int{l.listener, l.wake, l.epoll} {
		_ = unix.Close(fd)
	}
}

// Run serves until ctx ends, or a pod fails.
func (l *Loop) Run(ctx context.Context) error {
	defer l.closeAll()
	stop := context.AfterFunc(ctx, func() { _, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	defer stop()
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := l.wait(events)
		if err != nil {
			return err
		}
		for _, e := range events[:n] {
			switch fd := int(e.Fd); fd {
			case l.wake:
				return nil
			case l.listener:
				l.accept()
			default:
				if err := l.event(fd, e.Events); err != nil {
					return err
				}
			}
		}
		for _, s := range l.dirty {
			s.dirty = false
			l.flush(s)
		}
		l.dirty = l.dirty[:0]
	}
}

// wait is epoll_pwait(2) behind the scheduler's back: it would give the processor away at each call, and
// wake a thread that looks after it. Its preemption interrupts the call.
func (l *Loop) wait(events []unix.EpollEvent) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), ^uintptr(0), 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			runtime.Gosched()
		default:
			return 0, fmt.Errorf("epoll: %w", errno)
		}
	}
}

func (l *Loop) event(fd int, events uint32) error {
	e := l.ends[fd]
	if e == nil { // closed in this turn
		return nil
	}
	if events&unix.EPOLLOUT != 0 {
		l.flush(e.base())
	}
	if events&^unix.EPOLLOUT != 0 {
		return e.readable(l)
	}
	return nil
}

// receive reads what a socket has, behind what is left of the last time; nothing if it has ended.
func (l *Loop) receive(s *socket) []byte {
	n, err := unix.Read(s.fd, l.buf)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return s.in
	case err != nil || n == 0:
		l.close(s)
		return nil
	case len(s.in) == 0:
		return l.buf[:n]
	}
	s.in = append(s.in, l.buf[:n]...)
	return s.in
}

// keep remembers what is to be read again with what follows.
func (s *socket) keep(rest []byte) { s.in = append(s.in[:0], rest...) }

// written says that something was appended to out.
func (l *Loop) written(s *socket) {
	if !s.dirty {
		s.dirty = true
		l.dirty = append(l.dirty, s)
	}
}

// flush writes what the socket takes.
func (l *Loop) flush(s *socket) {
	if s.closed || len(s.out) == 0 {
		return
	}
	n, err := unix.Write(s.fd, s.out)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		l.close(s)
		return
	}
	s.out = s.out[:copy(s.out, s.out[max(n, 0):])]
	if len(s.out) > 0 {
		l.want(s, s.events|unix.EPOLLOUT)
	} else {
		l.want(s, s.events&^unix.EPOLLOUT)
	}
}
