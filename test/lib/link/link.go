package link

import (
	"fmt"
	"math/bits"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Direction is one of a link's two.
type Direction int

// The directions, between the interfaces as given to Open.
const (
	AtoB Direction = iota
	BtoA
)

// Counts are what happened in one direction since the last Begin.
type Counts struct {
	Packets  int
	Passed   int      // of them, so far
	Lost     int      // by the seed's decision
	LostData int      // those of them with payload or FIN
	Overflow int      // found the queue full, or the far interface's
	Late     Lateness // of those that passed
	Long     int      // longer than one MTU, and lost: not what a wire carries, they make a comparison worthless
}

// Lateness is by how much later than they should packets left: element n counts
// those of less than 2^n microseconds that are in no element before it, the last one all others.
type Lateness [20]int

func (l *Lateness) add(d time.Duration) {
	l[min(bits.Len64(uint64(max(d.Microseconds(), 0))), len(l)-1)]++
}

// Add adds another's packets.
func (l *Lateness) Add(o Lateness) {
	for i, n := range o {
		l[i] += n
	}
}

// Quantile is what a part q of the packets stayed below.
func (l *Lateness) Quantile(q float64) time.Duration {
	all := 0
	for _, n := range l {
		all += n
	}
	for i, n := range l {
		if q -= float64(n) / float64(max(all, 1)); q <= 0 {
			return time.Microsecond << i
		}
	}
	return time.Microsecond << len(l)
}

// Link joins two interfaces of a network namespace.
type Link struct {
	pumps [2]*pump
	stop  int // eventfd
	wg    sync.WaitGroup

	mu      sync.Mutex // guards all below
	seed    uint64
	params  [2]Params
	counts  [2]Counts
	streams *streams
	onLost  func(Key)
}

// processors are how many more Go gets for a link.
const processors = 16

// Open joins two interfaces of the calling thread's network namespace, and
// carries all frames at once until Begin says otherwise.
//
// The link is a thread of its own, which must not wait for one of the processors that
// Go shares out among the others: there are so many more of those while it is open that one is idle.
func Open(a, b string) (*Link, error) {
	l := &Link{streams: newStreams()}
	var err error
	if l.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("link between %s and %s: %w", a, b, err)
	}
	var sockets [2]*socket
	for i, name := range []string{a, b} {
		if sockets[i], err = openSocket(name); err != nil {
			for _, s := range sockets[:i] {
				s.close()
			}
			unix.Close(l.stop)
			return nil, fmt.Errorf("link at %s: %w", name, err)
		}
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + processors)
	for d := range l.pumps {
		l.pumps[d] = &pump{link: l, direction: Direction(d), in: sockets[d], out: sockets[1-d]}
	}
	l.wg.Go(l.run)
	return l, nil
}

// Begin makes a new beginning: a seed, what the directions do, no counts, and no
// connections. Those that are open already are carried without loss.
func (l *Link) Begin(seed uint64, params [2]Params) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pumps {
		p.in.dropped()
	}
	l.seed, l.params, l.counts, l.streams = seed, params, [2]Counts{}, newStreams()
}

// Continue is Begin, but the connections that are open stay known: their packets meet
// what the new seed decides, at the places that their streams have come to.
func (l *Link) Continue(seed uint64, params [2]Params) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.pumps {
		p.in.dropped()
	}
	l.seed, l.params, l.counts = seed, params, [2]Counts{}
}

// OnLost calls f, which must be quick, for each packet that the seed decides to lose.
func (l *Link) OnLost(f func(Key)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onLost = f
}

// Counts are what happened in a direction since Begin.
func (l *Link) Counts(d Direction) Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.pumps[d].in.dropped()
	l.counts[d].Packets += n
	l.counts[d].Overflow += n
	return l.counts[d]
}

// Idle says whether no packet is under way.
func (l *Link) Idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.counts {
		if c.Packets != c.Passed+c.Lost+c.Overflow+c.Long {
			return false
		}
	}
	return true
}

// Close carries nothing any more; what is under way is lost.
func (l *Link) Close() {
	var one [8]byte
	one[0] = 1
	_, _ = unix.Write(l.stop, one[:])
	l.wg.Wait()
	for _, p := range l.pumps {
		p.in.close()
	}
	unix.Close(l.stop)
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0)-processors, 1))
}
