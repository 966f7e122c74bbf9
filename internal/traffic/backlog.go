package traffic

import "time"

// Backlog estimates how long those in a queue have waited, of which only is known how
// many have come and how many are left, each time that somebody looks. Who came between
// two looks is taken to have come in the middle, and who came first to have left first:
// the error is half the time between two looks at most where they leave in order, and
// none in the long run.
type Backlog struct {
	came  uint64
	at    time.Duration // of the latest look
	begun bool
	in    []arrival // oldest first
}

// arrival is some that came at about the same time.
type arrival struct {
	n  int
	at time.Duration
}

// Waited is how long those that wait now have waited, all together. came is how many
// have come so far, waiting how many of them are left.
func (b *Backlog) Waited(came uint64, waiting int, now time.Duration) time.Duration {
	if !b.begun {
		b.begun, b.at, b.came = true, now, came-uint64(waiting)
	}
	if n := int(came - b.came); n > 0 {
		b.in = append(b.in, arrival{n, b.at + (now-b.at)/2})
	}
	b.came, b.at = came, now
	left, sum := max(0, waiting), time.Duration(0)
	i := len(b.in)
	for ; i > 0 && left > 0; i-- {
		a := &b.in[i-1]
		a.n = min(a.n, left)
		left -= a.n
		sum += time.Duration(a.n) * (now - a.at)
	}
	b.in = append(b.in[:0], b.in[i:]...)
	return sum
}
