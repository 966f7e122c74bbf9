package link

import (
	"container/heap"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/test/lib/wire"
)

// longestFrame is the longest with an MTU of 1500 bytes, with a VLAN tag.
const longestFrame = 1518

// batch is how many frames are read before what is due is sent.
const batch = 32

// pump carries the frames of one direction. All its fields belong to the link's
// thread: two would wait for each other's locks, in Go's scheduler.
type pump struct {
	link      *Link
	direction Direction
	in, out   *socket
	waiting   waiting
	free      [][]byte
	arrivals  uint64
	arrived   time.Time // the last one
	busyUntil time.Time // when the rate lets the next packet begin
}

// packet waits until it is due.
type packet struct {
	frame []byte
	due   time.Time
	order uint64 // of arrival
}

// run carries frames in both directions until the link is closed.
func (l *Link) run() {
	runtime.LockOSThread() // never unlocked: the thread with its slack and priority ends
	precise()
	fds := []unix.PollFd{{Fd: int32(l.stop), Events: unix.POLLIN}}
	for _, p := range l.pumps {
		fds = append(fds, unix.PollFd{Fd: int32(p.in.fd), Events: unix.POLLIN})
	}
	for {
		_, _ = unix.Ppoll(fds, l.wait(), nil)
		if fds[0].Revents != 0 {
			return
		}
		for i, p := range l.pumps {
			if fds[1+i].Revents != 0 {
				p.receive()
			}
			p.send()
		}
	}
}

// wait is the time until the next packet is due; nil: there is none.
func (l *Link) wait() *unix.Timespec {
	var first *time.Time
	for _, p := range l.pumps {
		if len(p.waiting) > 0 && (first == nil || p.waiting[0].due.Before(*first)) {
			first = &p.waiting[0].due
		}
	}
	if first == nil {
		return nil
	}
	ts := unix.NsecToTimespec(max(time.Until(*first), 0).Nanoseconds())
	return &ts
}

// precise makes the thread's timers exact, and lets it run as soon as it can.
func precise() {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
}

// receive reads the frames that are there.
func (p *pump) receive() {
	for range batch {
		b := p.buffer()
		n, arrived, ok := p.in.read(b)
		if !ok {
			p.free = append(p.free, b)
			return
		}
		if due, ok := p.decide(b[:min(n, len(b))], n, arrived); ok {
			p.arrivals++
			heap.Push(&p.waiting, packet{b[:n], due, p.arrivals})
		} else {
			p.free = append(p.free, b)
		}
	}
}

func (p *pump) buffer() []byte {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		return b[:cap(b)]
	}
	return make([]byte, longestFrame)
}

// decide says when a frame of n bytes that arrived at a time leaves; not ok:
// never.
func (p *pump) decide(frame []byte, n int, arrived time.Time) (due time.Time, ok bool) {
	l := p.link
	l.mu.Lock()
	defer l.mu.Unlock()
	params, count := &l.params[p.direction], &l.counts[p.direction]
	count.Packets++
	// The two clocks that the time is made of are read one after the other: what came
	// later may seem to have come earlier.
	if arrived.Before(p.arrived) {
		arrived = p.arrived
	}
	p.arrived = arrived
	if n > len(frame) {
		count.Long++
		return due, false
	}
	key := Key{Direction: p.direction, Kind: Setup}
	if s, ok := wire.Parse(frame); ok {
		key = l.streams.key(p.direction, s)
	}
	fate := params.Decide(l.seed, key)
	if fate.Lost {
		count.Lost++
		if key.Kind == Data {
			count.LostData++
		}
		if l.onLost != nil {
			l.onLost(key)
		}
		return due, false
	}
	limit := params.Queue
	if limit == 0 {
		limit = DefaultQueue
	}
	if len(p.waiting) >= limit {
		count.Overflow++
		return due, false
	}
	if params.Rate > 0 {
		if p.busyUntil.Before(arrived) {
			p.busyUntil = arrived
		}
		p.busyUntil = p.busyUntil.Add(time.Duration(len(frame)) * time.Second / time.Duration(params.Rate))
		arrived = p.busyUntil
	}
	return arrived.Add(fate.Delay), true
}

// send sends what is due.
func (p *pump) send() {
	now := time.Now()
	for len(p.waiting) > 0 && !p.waiting[0].due.After(now) {
		q := heap.Pop(&p.waiting).(packet)
		ok := p.out.write(q.frame)
		p.sent(ok, time.Since(q.due))
		p.free = append(p.free, q.frame)
	}
}

// sent counts a packet that was sent so late.
func (p *pump) sent(ok bool, late time.Duration) {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	c := &p.link.counts[p.direction]
	if !ok {
		c.Overflow++
		return
	}
	c.Passed++
	c.Late.add(late)
}

// waiting is a heap by time and arrival.
type waiting []packet

func (w waiting) Len() int { return len(w) }
func (w waiting) Less(i, j int) bool {
	if !w[i].due.Equal(w[j].due) {
		return w[i].due.Before(w[j].due)
	}
	return w[i].order < w[j].order
}
func (w waiting) Swap(i, j int) { w[i], w[j] = w[j], w[i] }
func (w *waiting) Push(x any)   { *w = append(*w, x.(packet)) }
func (w *waiting) Pop() any {
	last := len(*w) - 1
	p := (*w)[last]
	*w = (*w)[:last]
	return p
}
