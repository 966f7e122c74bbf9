package outbox

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// sink takes as much as it wants to at a time.
type sink struct {
	mu   sync.Mutex
	got  []byte
	most int // of a Try
}

func (s *sink) try(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(b), rand.IntN(s.most+1))
	s.got = append(s.got, b[:n]...)
	return n, nil
}

func (s *sink) rest(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, b...)
	return len(b), nil
}

// TestBox: however many put and flush, and however little the other end takes, everything is written
// once, and what each has put in its order.
func TestBox(t *testing.T) {
	s := &sink{most: 40}
	x := &Box{Try: s.try, Rest: s.rest, Failed: func(err error) { t.Error(err) }}
	const writers, each = 8, 2000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				x.Put(binary.BigEndian.AppendUint32(nil, uint32(w)<<24|uint32(i)))
				if i%7 == 0 {
					x.Flush()
				}
			}
			x.Flush()
		})
	}
	wg.Wait()
	for full := x.Full(0); full != nil; full = x.Full(0) {
		<-full
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var next [writers]uint32
	if len(s.got) != writers*each*4 {
		t.Fatalf("%d bytes, want %d", len(s.got), writers*each*4)
	}
	for b := s.got; len(b) > 0; b = b[4:] {
		v := binary.BigEndian.Uint32(b)
		if w := v >> 24; next[w] != v&0xffffff {
			t.Fatalf("writer %d: %d, want %d", w, v&0xffffff, next[w])
		}
		next[v>>24]++
	}
}

// TestBoxOfDeafEnd: nobody waits for an end that takes nothing; who asks is told that too much waits, and when that
// is over, also by a failure.
func TestBoxOfDeafEnd(t *testing.T) {
	release := make(chan error)
	failed := make(chan error, 2)
	x := &Box{Try: func([]byte) (int, error) { return 1, nil }, Rest: func(b []byte) (int, error) { return 0, <-release }, Failed: func(err error) { failed <- err }}
	for range 3 {
		x.Put([]byte("abcd"))
		x.Flush()
	}
	if x.Full(11) != nil {
		t.Error("full with 11 bytes")
	}
	full := x.Full(10)
	if full == nil {
		t.Fatal("not full")
	}
	select {
	case <-full:
		t.Error("not full any more")
	default:
	}
	broken := errors.New("broken")
	release <- broken
	select {
	case <-full:
	case <-time.After(30 * time.Second):
		t.Fatal("still full")
	}
	if err := <-failed; !errors.Is(err, broken) || x.End() != 1 || x.Full(0) != nil {
		t.Errorf("failed with %v, %d bytes taken", err, x.End())
	}
	x.Put([]byte("abcd"))
	x.Flush()
	if len(failed) > 0 {
		t.Error("it is written to behind a failure")
	}
}

// TestBoxEnds: what is put there and not written when it ends never is; what is being written counts as taken.
func TestBoxEnds(t *testing.T) {
	s := &sink{most: 4}
	x := &Box{Rest: s.rest}
	x.Try = func(b []byte) (int, error) { return s.rest(b) }
	x.Put([]byte("abcd"))
	x.Flush()
	x.Put([]byte("efgh"))
	if n := x.End(); n != 4 {
		t.Errorf("%d bytes taken, want 4", n)
	}
	x.Flush()
	if string(s.got) != "abcd" {
		t.Errorf("%q was written", s.got)
	}

	var y *Box
	var taken uint64
	y = &Box{Try: func(b []byte) (int, error) { taken = y.End(); return len(b), nil }}
	y.Put([]byte("abcd"))
	y.Flush()
	if taken != 4 {
		t.Errorf("%d bytes taken while 4 are being written", taken)
	}
}

// TestBoxGivesPieces: of what there is no room for only the piece that is being written may have been read; behind
// the end no other follows.
func TestBoxGivesPieces(t *testing.T) {
	const piece = 16 << 10
	pieces, next := make(chan int), make(chan struct{})
	x := &Box{Piece: piece, Try: func([]byte) (int, error) { return 1000, nil }, Failed: func(err error) { t.Error(err) }}
	x.Rest = func(b []byte) (int, error) {
		pieces <- len(b)
		<-next
		return len(b), nil
	}
	x.Put(make([]byte, 100_000))
	x.Flush()
	for i := range 2 {
		if n, given := <-pieces, x.Given(); n != piece || given != uint64(1000+(i+1)*piece) {
			t.Errorf("piece %d has %d bytes, %d are given", i, n, given)
		}
		if i == 1 {
			if n := x.End(); n != 1000+2*piece {
				t.Errorf("%d bytes taken", n)
			}
		}
		next <- struct{}{}
	}
	select {
	case n := <-pieces:
		t.Errorf("%d bytes are written behind the end", n)
	case <-time.After(50 * time.Millisecond):
	}
}

// TestBoxGivesAll: without pieces all that there is no room for is written at once: whoever locks the connection in between would put
// something of his own into the middle of a packet.
func TestBoxGivesAll(t *testing.T) {
	const size = 100_000
	rest := make(chan int, size)
	x := &Box{Try: func([]byte) (int, error) { return 1000, nil }, Failed: func(err error) { t.Error(err) }}
	x.Rest = func(b []byte) (int, error) {
		rest <- len(b)
		return len(b), nil
	}
	x.Put(make([]byte, size))
	x.Flush()
	if n := <-rest; n != size-1000 {
		t.Errorf("%d bytes at once, want all %d", n, size-1000)
	}
}
