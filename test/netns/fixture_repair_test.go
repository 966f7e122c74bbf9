package netns

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Queues of TCP_REPAIR_QUEUE, and the way out that sends nothing
// (include/uapi/linux/tcp.h).
const (
	repairReceive   = 1
	repairSend      = 2
	repairOffSilent = -1
)

// startAt makes a socket's first SYN have this sequence number: connect() keeps
// one that TCP_REPAIR has set.
func startAt(isn uint32) func(fd int) error {
	return func(fd int) error {
		return errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, repairSend),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ, int(int32(isn))),
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, repairOffSilent))
	}
}

// positions are the sequence numbers of the next byte to send and to receive.
func positions(c net.Conn) (send, receive uint32, err error) {
	rc, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var inner error
	err = rc.Control(func(fd uintptr) {
		read := func(queue int) uint32 {
			if inner == nil {
				inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue)
			}
			v, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
			inner = errors.Join(inner, err)
			return uint32(v)
		}
		reuse, _ := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR) // TCP_REPAIR changes it
		inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
		send, receive = read(repairSend), read(repairReceive)
		inner = errors.Join(inner, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, repairOffSilent),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, min(reuse, 1)))
	})
	if err = errors.Join(err, inner); err != nil {
		return 0, 0, fmt.Errorf("read sequence numbers: %w", err)
	}
	return send, receive, nil
}
