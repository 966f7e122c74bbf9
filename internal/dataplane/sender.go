package dataplane

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// frameSender sends finished Ethernet frames.
type frameSender struct{ fd int }

// newFrameSender opens a socket whose frames bear mark in skb->mark: TC egress
// leaves what the programs and this socket inject untouched.
func newFrameSender(mark uint32) (*frameSender, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mark packet socket: %w", err)
	}
	return &frameSender{fd: fd}, nil
}

// Send sends one frame out of an interface.
func (s *frameSender) Send(ifindex int, frame []byte) error {
	return unix.Sendto(s.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: ifindex})
}

// Close closes the socket.
func (s *frameSender) Close() error { return unix.Close(s.fd) }
