package relay

import (
	"sync"
	"sync/atomic"
	"time"
)

// sink is the way to one end, which several goroutines write to: whole packets each, but for the one that copies the
// other end's stream, which keeps the others out while it is inside of a packet.
type sink struct {
	write func(b []byte) (int, error) // writes all, and may wait for that

	mu     sync.Mutex
	inside bool         // the copier has written a part of a packet
	last   atomic.Int64 // when something was written last, in nanoseconds since 1970
}

// copy writes the next bytes of the stream; whole: they end with a packet. It is called by the copier alone.
func (k *sink) copy(b []byte, whole bool) error {
	if !k.inside {
		k.mu.Lock()
	}
	k.inside = !whole
	err := k.put(b)
	if whole {
		k.mu.Unlock()
	}
	return err
}

// packet writes whole packets of somebody else.
func (k *sink) packet(b []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.put(b)
}

func (k *sink) put(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	k.last.Store(time.Now().UnixNano())
	_, err := k.write(b)
	return err
}

// release lets the others in when the copier has ended.
func (k *sink) release() {
	if k.inside {
		k.inside = false
		k.mu.Unlock()
	}
}

// written is when something was written last.
func (k *sink) written() time.Time { return time.Unix(0, k.last.Load()) }
