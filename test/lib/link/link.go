package link

import (
	"fmt"
	"runtime"
	"sync"

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
	Passed   int // of them, so far
	Lost     int // by the seed's decision
	LostData int // those of them with payload or FIN
	Overflow int // found the queue full, or the far interface's
	Long     int // longer than one MTU, and lost: not what a wire carries, they make a comparison worthless
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

// Open joins two interfaces of the calling thread's network namespace, and
// carries all frames at once until Begin says otherwise.
//
// Each direction is a thread of its own, which must not wait for one of the
// processors that Go shares out among the others: there are two more of those
// while the link is open.
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
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 2)
	for d := range l.pumps {
		l.pumps[d] = &pump{link: l, direction: Direction(d), in: sockets[d], out: sockets[1-d]}
		l.wg.Go(l.pumps[d].run)
	}
	return l, nil
}

// Begin makes a new beginning: a seed, what the directions do, no counts, and no
// connections. Those that are open already are carried without loss.
func (l *Link) Begin(seed uint64, params [2]Params) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seed, l.params, l.counts, l.streams = seed, params, [2]Counts{}, newStreams()
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
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0)-2, 1))
}
