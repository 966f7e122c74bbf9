// Package progress tells who takes a client's session over when everything that the client had sent before is
// done with.
package progress

import (
	"math"
	"sync"
	"sync/atomic"
)

// Progress is how far the server has got in a client's stream. The zero value is its beginning.
type Progress struct {
	Read   atomic.Uint64 // bytes read from the socket
	mu     sync.Mutex
	used   uint64 // of those, bytes that the server has done with
	wanted uint64
	wait   chan struct{} // closed when used reaches wanted; nil: nobody waits
}

// Use notes that the server has done with everything that was read.
func (p *Progress) Use() { p.reach(p.Read.Load()) }

// End notes that nothing more will be used.
func (p *Progress) End() { p.reach(math.MaxUint64) }

func (p *Progress) reach(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = max(p.used, n)
	if p.wait != nil && p.used >= p.wanted {
		close(p.wait)
		p.wait = nil
	}
}

// Until is closed when the server has done with n bytes.
func (p *Progress) Until(n uint64) <-chan struct{} {
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
