package mochi

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// settleTimeout is how long a connection may take to use what its client had sent
// before another took the session over.
const settleTimeout = time.Second

// progress is how far the server has got in a client's stream.
type progress struct {
	read   atomic.Uint64 // bytes read from the socket
	mu     sync.Mutex
	used   uint64 // of those, bytes that the server has done with
	wanted uint64
	wait   chan struct{} // closed when used reaches wanted; nil: nobody waits
}

// use notes that the server has done with everything that was read.
func (p *progress) use() { p.reach(p.read.Load()) }

// end notes that nothing more will be used.
func (p *progress) end() { p.reach(math.MaxUint64) }

func (p *progress) reach(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = max(p.used, n)
	if p.wait != nil && p.used >= p.wanted {
		close(p.wait)
		p.wait = nil
	}
}

// until is closed when the server has done with n bytes.
func (p *progress) until(n uint64) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	done := make(chan struct{})
	if p.used >= n || p.wait != nil { // nobody takes a session over twice
		close(done)
		return done
	}
	p.wait, p.wanted = done, n
	return done
}

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
	case <-c.progress.until(c.progress.read.Load() + uint64(c.unread())):
	case <-t.C:
	}
}

// unread is how many bytes wait in the socket.
func (c *conn) unread() (n int) {
	_ = c.raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}
