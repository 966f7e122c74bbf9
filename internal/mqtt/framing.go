package mqtt

// Framing follows packet framing over a stream that comes in any pieces.
type Framing struct {
	head []byte // of the packet that has begun
	left int    // bytes of its body still to come
	bad  bool
}

// Write consumes a piece of the stream. It returns an *Error from the first byte
// on that cannot be framing.
func (w *Framing) Write(b []byte) (int, error) {
	for i, c := range b {
		switch {
		case w.bad:
			return i, errLengthLong
		case w.left > 0:
			w.left--
		default:
			w.head = append(w.head, c)
			length, n, e := readLength(w.head[1:], false)
			switch {
			case e != nil:
				w.bad = true
				return i, e
			case n > 0:
				w.left, w.head = length, nil
			}
		}
	}
	return len(b), nil
}

// Pending is how far the packet that has begun is: the bytes of its fixed header
// so far, or those of its body still to come.
func (w *Framing) Pending() (head, left int) { return len(w.head), w.left }

// AtBoundary reports whether the next byte begins a packet.
func (w *Framing) AtBoundary() bool { return !w.bad && w.left == 0 && len(w.head) == 0 }

// ReadHeader reads the fixed header at the beginning of b: the packet's type, and its length in bytes with the fixed
// header, of n bytes. n is 0 if more bytes are needed to tell.
func ReadHeader(b []byte) (kind byte, total, n int, e *Error) {
	if len(b) == 0 {
		return 0, 0, 0, nil
	}
	length, n, e := readLength(b[1:], false)
	if e != nil || n == 0 {
		return 0, 0, 0, e
	}
	return b[0] >> 4, 1 + n + length, 1 + n, nil
}
