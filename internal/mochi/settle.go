package mochi

import (
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/rawio"
)

// settleTimeout is how long a connection may take to use what its client had sent
// before another took the session over.
const settleTimeout = time.Second

// Settle waits until the server has done with what the client had sent when it was
// called, or for settleTimeout: a client may publish, say goodbye, and come back
// before the server has read it.
func (p *peer) Settle() {
	c := p.conn
	if c.raw == nil || p.Closed() {
		return
	}
	t := time.NewTimer(settleTimeout)
	defer t.Stop()
	select {
	case <-c.progress.Until(c.progress.Read.Load() + uint64(c.unread())):
	case <-t.C:
	}
}

// unread is how many bytes wait in the socket.
func (c *conn) unread() (n int) {
	n, _ = rawio.Int(c.raw, unix.TIOCINQ)
	return n
}
