package dataplane

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// injectedMark is the skb->mark bit of injected packets, the default of
// knob_mark in bpf/include/config.h: TC egress leaves them untouched.
const injectedMark = 0x00e90000

// frameSender sends finished Ethernet frames.
type frameSender struct{ fd int }

func newFrameSender() (*frameSender, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, injectedMark); err != nil {
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
