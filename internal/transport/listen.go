package transport

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listen opens the address of a listener. Multipath TCP stays off: grafting could not follow it.
func Listen(ctx context.Context, address string) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: socketOptions}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// rtoMax is the longest wait between two transmissions of what a client does not
// acknowledge. Without timestamps (which grafting rules out) the timeout keeps
// doubling until something gets through at first try; a client whose link was
// down for half a minute would wait another one for its PUBACK. Linux then gives
// up a dead client after some 100 s (net.ipv4.tcp_retries2 is 15), about when
// keepalive would.
const rtoMax = 10 * time.Second

// socketOptions are those of a listener, which its connections inherit.
func socketOptions(_, _ string, rc syscall.RawConn) error {
	var inner error
	err := rc.Control(func(fd uintptr) {
		// Urgent data stays where it stands in the stream (RFC 6093 section 5). Taken
		// out, a byte would be missing in a message, and the server and the kernel path
		// would count packet boundaries differently.
		inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
		rto := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, int(rtoMax.Milliseconds()))
		if !errors.Is(rto, unix.ENOPROTOOPT) { // Linux before 6.15
			inner = errors.Join(inner, rto)
		}
	})
	return errors.Join(err, inner)
}
