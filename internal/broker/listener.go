package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"

	"github.com/mochi-mqtt/server/v2/listeners"
	"golang.org/x/sys/unix"
)

// listener accepts connections for the mochi server.
type listener struct {
	address string
	net     *net.TCPListener
	log     *slog.Logger
}

var _ listeners.Listener = (*listener)(nil)

// listen opens the address. Multipath TCP stays off: grafting could not follow it.
func listen(ctx context.Context, address string, log *slog.Logger) (*listener, error) {
	lc := net.ListenConfig{Control: urgentInline}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", address, err)
	}
	return &listener{address: address, net: l.(*net.TCPListener), log: log}, nil
}

// urgentInline leaves urgent data where it stands in the stream (RFC 6093 section
// 5). Taken out, a byte would be missing in a message, and the server and the
// kernel path would count packet boundaries differently.
func urgentInline(_, _ string, rc syscall.RawConn) error {
	var inner error
	err := rc.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) })
	return errors.Join(err, inner)
}

func (l *listener) Init(*slog.Logger) error { return nil }
func (l *listener) ID() string              { return l.address }
func (l *listener) Address() string         { return l.net.Addr().String() }
func (l *listener) Protocol() string        { return "mqtt" }

// Serve accepts until the listener is closed.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		c, err := l.net.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.log.Warn("accept", "listener", l.address, "error", err)
			continue
		}
		go func() {
			w := newConn(c)
			if err := establish(l.address, w); err != nil {
				l.log.Debug("client ended", "remote", c.RemoteAddr(), "error", err)
			}
			_ = w.Close()
		}()
	}
}

// Close stops accepting; the server then ends its clients.
func (l *listener) Close(closeClients listeners.CloseFn) {
	_ = l.net.Close()
	closeClients(l.address)
}
