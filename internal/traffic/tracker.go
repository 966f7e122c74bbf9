package traffic

import (
	"sync"
	"time"
)

// Tracker follows messages from their arrival to their end. The zero Tracker has none.
// Times are of one monotonic clock.
type Tracker struct {
	mu       sync.Mutex
	arrived  int64
	now      int64         // under way
	arrivals time.Duration // of those, all together
	ended    time.Duration // that the others took
}

// Begin has a message under way that arrived at that time. known: it is counted as
// arrived elsewhere.
func (t *Tracker) Begin(arrived time.Duration, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !known {
		t.arrived++
	}
	t.now++
	t.arrivals += arrived
}

// End ends one that arrived at that time.
func (t *Tracker) End(arrived, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now--
	t.arrivals -= arrived
	t.ended += now - arrived
}

// Sum is what has happened until now, with those that are under way.
func (t *Tracker) Sum(now time.Duration) Sum {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Sum{t.arrived, t.ended + time.Duration(t.now)*now - t.arrivals}
}
