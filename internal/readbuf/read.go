package readbuf

import (
	"io"
	"net"
	"syscall"

	"eproxy/internal/rawio"
)

// Read reads from a socket once there is something to read, into what room gives then; before it waits it calls idle. raw may
// be nil: the socket is closed. Errors are net.ErrClosed, io.EOF, those of raw.Read (os.ErrDeadlineExceeded among them), and
// a syscall.Errno of read(2).
func Read(raw syscall.RawConn, room func() []byte, idle func()) (int, error) {
	if raw == nil {
		return 0, net.ErrClosed
	}
	var n int
	var err error
	rerr := raw.Read(func(fd uintptr) bool {
		if n, err = rawio.Read(fd, room()); err != nil {
			idle() // it may wait for long
		}
		return !rawio.Waits(err)
	})
	switch {
	case rerr != nil:
		return 0, rerr
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}
