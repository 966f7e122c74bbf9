package wire

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Side is one of a wire's ends.
type Side int

// The ends, as given to Open.
const (
	A Side = iota
	B
)

// end is the socket on one interface, and what becomes of what arrives there.
type end struct {
	fd    int
	mu    sync.Mutex // guards dir
	dir   direction
	other *end
}

// Wire joins two interfaces of the calling thread's network namespace.
type Wire struct {
	ends  [2]*end
	down  atomic.Bool
	watch atomic.Pointer[func(Side, Segment)]
	wg    sync.WaitGroup
	done  chan struct{}
}

// Open joins two interfaces. It must be called in their network namespace.
func Open(a, b string, seed uint64) (*Wire, error) {
	w := &Wire{done: make(chan struct{})}
	for i, name := range []string{a, b} {
		fd, err := openEnd(name)
		if err != nil {
			if i == 1 {
				unix.Close(w.ends[0].fd)
			}
			return nil, fmt.Errorf("wire at %s: %w", name, err)
		}
		w.ends[i] = &end{fd: fd, dir: newDirection(seed, uint64(i))}
	}
	w.ends[A].other, w.ends[B].other = w.ends[B], w.ends[A]
	for i := range w.ends {
		w.wg.Add(1)
		go w.pump(Side(i))
	}
	return w, nil
}

// openEnd opens the socket on an interface. Its reads end after a while, for
// what is held back to be joined.
func openEnd(ifname string) (int, error) {
	link, err := net.InterfaceByName(ifname)
	if err != nil {
		return 0, err
	}
	fd, err := PacketSocket(link.Index, 16<<20)
	if err != nil {
		return 0, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: joinTime.Microseconds()}); err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// PacketSocket is a socket that receives all frames of an interface of the thread's
// namespace but those that it sent, and keeps up to buffer bytes of them.
func PacketSocket(ifindex, buffer int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		return 0, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: ifindex}))
	if err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// SetFaults changes what happens to segments that arrive at a side.
func (w *Wire) SetFaults(at Side, f Faults) {
	e := w.ends[at]
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dir.faults = f
}

// SetPlan makes a plan for the segments that arrive at a side; nil: the faults
// decide.
func (w *Wire) SetPlan(at Side, p Plan) {
	e := w.ends[at]
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dir.plan = p
}

// Count is what happened so far to the segments that arrived at a side.
func (w *Wire) Count(at Side) Count {
	e := w.ends[at]
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dir.count
}

// SetDown loses everything, in both directions, until it is called with false.
func (w *Wire) SetDown(down bool) { w.down.Store(down) }

// Watch sees every TCP segment that arrives at a side, before any fault. f must
// not keep the segment.
func (w *Wire) Watch(f func(at Side, s Segment)) { w.watch.Store(&f) }

// Inject sends a frame as if it had arrived at a side, without any fault.
func (w *Wire) Inject(at Side, frame []byte) { w.send(w.ends[at].other, frame) }

// Close stops carrying frames; what is held back is lost.
func (w *Wire) Close() {
	close(w.done)
	w.wg.Wait()
	for _, e := range w.ends {
		unix.Close(e.fd)
	}
}

// pump carries what arrives at a side.
func (w *Wire) pump(at Side) {
	defer w.wg.Done()
	e := w.ends[at]
	buf := make([]byte, 1<<17)
	for {
		select {
		case <-w.done:
			return
		default:
		}
		n, _, err := unix.Recvfrom(e.fd, buf, 0)
		if err == nil && w.down.Load() {
			e.mu.Lock()
			e.dir.count.Down++
			e.mu.Unlock()
			continue
		}
		if err == nil {
			if f := w.watch.Load(); f != nil {
				if s, ok := Parse(buf[:n]); ok {
					(*f)(at, s)
				}
			}
		}
		e.mu.Lock()
		var out []due
		if err != nil { // nothing came for a while
			out = e.dir.flush()
		} else {
			out = e.dir.frame(append([]byte(nil), buf[:n]...))
		}
		e.mu.Unlock()
		for _, d := range out {
			if d.wait == 0 {
				w.send(e.other, d.frame)
				continue
			}
			w.wg.Go(func() {
				t := time.NewTimer(d.wait)
				defer t.Stop()
				select {
				case <-w.done:
				case <-t.C:
					w.send(e.other, d.frame)
				}
			})
		}
	}
}

// send puts a frame on an interface. A full queue loses it, as on any wire.
func (w *Wire) send(e *end, frame []byte) {
	if !w.down.Load() {
		_, _ = unix.Write(e.fd, frame)
	}
}
