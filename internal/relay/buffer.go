package relay

import (
	"slices"
	"sync"
)

const (
	// readSize is how much is read at once, in bytes.
	readSize = 16 << 10
	// keepSize is how large a buffer of a connection's own may be and still be kept though it is empty, in bytes.
	keepSize = 4 << 10
)

// lendable are buffers for connections that have something to read; those that wait have none.
var lendable = sync.Pool{New: func() any { return new([readSize]byte) }}

// buffer is what was read of a stream and is not used yet.
type buffer struct {
	b    []byte
	from int
	lent *[readSize]byte // where b is; nil: in memory of its own
}

// room is where to read into.
func (u *buffer) room() []byte {
	switch {
	case u.lent == nil && len(u.b) == 0:
		u.lent = lendable.Get().(*[readSize]byte)
		u.b = u.lent[:0]
	case u.lent == nil:
		u.b = slices.Grow(u.b, max(len(u.b), keepSize/2))
	}
	return u.b[len(u.b):cap(u.b)]
}

// added notes that n bytes were read into room.
func (u *buffer) added(n int) { u.b = u.b[:len(u.b)+n] }

// rest is what is not used yet.
func (u *buffer) rest() []byte { return u.b[u.from:] }

// use drops n bytes of rest.
func (u *buffer) use(n int) { u.from += n }

// idle gives back what is not needed while the stream is waited for.
func (u *buffer) idle() {
	rest := u.rest()
	switch {
	case u.lent != nil:
		u.b = append([]byte(nil), rest...)
		lendable.Put(u.lent)
		u.lent = nil
	case cap(u.b) > max(keepSize, 2*len(rest)):
		u.b = append([]byte(nil), rest...)
	default:
		u.b = u.b[:copy(u.b, rest)]
	}
	u.from = 0
}
