package readbuf

import (
	"slices"
	"sync"
)

const (
	// ReadSize is how much is read at once, in bytes.
	ReadSize = 16 << 10
	// KeepSize is how large a buffer of a connection's own may be and still be kept though it is mostly empty, in bytes.
	KeepSize = 4 << 10
)

// lendable are buffers for connections that have something to read; those that wait have none.
var lendable = sync.Pool{New: func() any { return new([ReadSize]byte) }}

// Buffer is what was read of a stream and is not used yet. The zero value is empty. One goroutine at a time may use it.
type Buffer struct {
	Held []byte          // what was read and is kept
	From int             // Held[From:] is not used yet
	lent *[ReadSize]byte // where Held is; nil: in memory of its own
}

// Room is where to read into, never empty: to read into nothing would look like the stream's end. Without anything held that is a
// buffer that Idle gives back; what does not fit into that has memory of its own.
func (u *Buffer) Room() []byte {
	switch {
	case u.lent == nil && len(u.Held) == 0:
		u.lent = lendable.Get().(*[ReadSize]byte)
		u.Held = u.lent[:0]
	case u.lent != nil && len(u.Held) == ReadSize:
		u.Held = append(make([]byte, 0, 2*ReadSize), u.Held...)
		lendable.Put(u.lent)
		u.lent = nil
	case u.lent == nil:
		u.Held = slices.Grow(u.Held, max(len(u.Held), KeepSize/2))
	}
	return u.Held[len(u.Held):cap(u.Held)]
}

// Added notes that n bytes were read into Room.
func (u *Buffer) Added(n int) { u.Held = u.Held[:len(u.Held)+n] }

// Rest is what is not used yet.
func (u *Buffer) Rest() []byte { return u.Held[u.From:] }

// Use drops n bytes of Rest.
func (u *Buffer) Use(n int) { u.From += n }

// Idle gives back what is not needed while the stream is waited for. From is 0 then.
func (u *Buffer) Idle() {
	rest := u.Rest()
	switch {
	case u.lent != nil:
		u.Held = append([]byte(nil), rest...)
		lendable.Put(u.lent)
		u.lent = nil
	case cap(u.Held) > max(KeepSize, 2*len(rest)):
		u.Held = append([]byte(nil), rest...)
	default:
		u.Held = u.Held[:copy(u.Held, rest)]
	}
	u.From = 0
}
