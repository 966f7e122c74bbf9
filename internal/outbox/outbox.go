// Package outbox puts together what several goroutines write to one connection, so that what
// comes at the same time is written at once, and nobody waits for the other end.
package outbox

import (
	"net"
	"sync"
	"syscall"

	"eproxy/internal/rawio"
)

// keep is how large a buffer may be and still be kept, in bytes.
const keep = 64 << 10

// Box is what is to be written to one connection.
type Box struct {
	// Try writes as much as there is room for now.
	Try func(b []byte) (int, error)
	// Rest writes all of it, and may wait for that.
	Rest func(b []byte) (int, error)
	// Piece is how many bytes Rest gets at a time, wherever that cuts what was put; 0: all that there is. Only the one
	// that is being written counts as given.
	Piece int
	// Failed is called once when writing has failed, after which nothing more is written.
	Failed func(error)

	mu      sync.Mutex
	out     []byte
	spare   []byte // in place of out, while that is written
	put     uint64 // bytes so far
	given   uint64 // of them, those that were written, or are being written
	written uint64
	writing bool // a goroutine does
	failed  bool
	freed   chan struct{} // closed when something was written; nil: nobody waits
}

// Put puts bytes behind the others, for Flush to write, and returns where they end in the stream.
func (x *Box) Put(b []byte) (end uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed {
		return x.put
	}
	x.out = append(x.out, b...)
	x.put += uint64(len(b))
	return x.put
}

// Given is how many bytes were written, or are being written.
func (x *Box) Given() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.given
}

// End has nothing more written but what is just being written, and says how many bytes may have
// been, also in part: whatever lies behind them the other end never gets.
func (x *Box) End() (taken uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed {
		return x.written
	}
	x.failed = true
	x.out, x.spare = nil, nil
	x.free()
	return x.given
}

// free tells those that wait for Full; x.mu is held.
func (x *Box) free() {
	if x.freed != nil {
		close(x.freed)
		x.freed = nil
	}
}

// Full is closed when fewer bytes wait than it had been when it was called, or writing has failed; nil: no
// more than most wait.
func (x *Box) Full(most int) <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed || x.put-x.written <= uint64(most) {
		return nil
	}
	if x.freed == nil {
		x.freed = make(chan struct{})
	}
	return x.freed
}

// Flush writes all there is, as far as that is possible without waiting; the rest follows as soon as
// the other end lets it.
func (x *Box) Flush() {
	if b := x.take(true); b != nil {
		x.write(b)
	}
}

func (x *Box) write(b []byte) {
	for ; b != nil; b = x.take(false) {
		n, err := x.Try(b)
		if err == nil && n < len(b) {
			x.wrote(n)
			go func() {
				x.took(b, x.rest(b[n:]))
				if b := x.take(false); b != nil {
					x.write(b)
				}
			}()
			return
		}
		x.wrote(n)
		x.took(b, err)
	}
}

// rest writes what there was no room for.
func (x *Box) rest(b []byte) error {
	for len(b) > 0 {
		part := b
		if x.Piece > 0 {
			part = b[:min(x.Piece, len(b))]
		}
		if !x.give(len(part)) {
			return nil
		}
		n, err := x.Rest(part)
		if x.wrote(n); err != nil {
			return err
		}
		b = b[len(part):]
	}
	return nil
}

// give notes that n bytes are being written, unless nothing more is to be.
func (x *Box) give(n int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.failed {
		x.given += uint64(n)
	}
	return !x.failed
}

// wrote notes that n bytes were written, and nothing is being written for the moment.
func (x *Box) wrote(n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.written += uint64(n)
	x.given = x.written
	x.free()
}

// take is what is to be written; nil: nothing, or another goroutine does that. begin: the caller has
// not written yet.
func (x *Box) take(begin bool) []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	if begin && x.writing {
		return nil
	}
	if x.writing = len(x.out) > 0 && !x.failed; !x.writing {
		return nil
	}
	b := x.out
	x.out, x.spare = x.spare[:0], nil
	x.given += uint64(len(b))
	return b
}

// took notes that what take returned was written, or that writing has failed.
func (x *Box) took(b []byte, err error) {
	x.mu.Lock()
	failed := err != nil && !x.failed
	x.failed = x.failed || failed
	if !x.failed && cap(b) <= keep {
		x.spare = b[:0]
	}
	x.free()
	x.mu.Unlock()
	if failed {
		x.Failed(err)
	}
}

// Try writes as much to a socket as it has room for now, whatever its write deadline. rc may be nil.
func Try(rc syscall.RawConn, b []byte) (n int, err error) {
	if rc == nil {
		return 0, net.ErrClosed
	}
	rerr := rc.Control(func(fd uintptr) {
		n, err = rawio.Write(fd, b) // which does not wait: the socket is the poller's
	})
	if rawio.Waits(err) {
		err = nil
	}
	if rerr != nil {
		err = rerr
	}
	return n, err
}
