package pool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/config"
	"eproxy/internal/lograte"
)

const (
	dialTimeout = 3 * time.Second
	// A pod that refuses a connection is only used when there is no other for
	// downTime, which doubles up to downMost while it goes on refusing.
	downTime = time.Second
	downMost = 8 * time.Second
)

// Standalone is a Pool that dials its connections itself. The data plane has one
// for the pods that only the fallback reaches.
type Standalone struct {
	log *lograte.Logger

	mu        sync.Mutex
	functions map[string][]*pod
	waiters   map[string][]chan struct{} // first come, first served
	closed    bool
}

// pod is one pod of one function.
type pod struct {
	addr     netip.AddrPort
	limit    int
	used     int
	idle     []*conn   // the last one is the hottest
	down     time.Time // until then
	failures int       // to connect, in a row; each counts downTime once
	gone     bool      // a reload dropped it
}

type conn struct {
	*net.TCPConn
	r *Reader
}

var _ Pool = (*Standalone)(nil)

// New makes a pool for the functions.
func New(functions []*config.Function) *Standalone {
	s := &Standalone{waiters: make(map[string][]chan struct{})}
	s.Reload(functions)
	return s
}

// LogTo has pods that take no connections logged; before the first Acquire.
func (s *Standalone) LogTo(log *lograte.Logger) { s.log = log }

// Reload takes over changed functions; connections to pods that stay are kept,
// those to others end. Whoever waits looks again.
func (s *Standalone) Reload(functions []*config.Function) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.functions
	s.functions = make(map[string][]*pod)
	for _, f := range functions {
		for _, a := range f.Pods {
			p := &pod{addr: a}
			for _, o := range old[f.Name] {
				if o.addr == a {
					p = o
				}
			}
			p.limit = f.Concurrency
			s.functions[f.Name] = append(s.functions[f.Name], p)
		}
	}
	for f, pods := range old {
		for _, p := range pods {
			if !slices.Contains(s.functions[f], p) {
				p.gone = true
				p.closeIdle()
			}
		}
	}
	for f := range s.waiters {
		s.wakeAll(f)
	}
}

// Distrust makes a pod one that is used when there is no other, until a
// connection to it is made.
func (s *Standalone) Distrust(function string, addr netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.functions[function] {
		if p.addr == addr {
			p.down = time.Now().Add(math.MaxInt64)
		}
	}
}

// closeIdle closes a pod's idle connections; the pool's mu is held.
func (p *pod) closeIdle() {
	for _, c := range p.idle {
		c.Close()
	}
	p.idle = nil
}

// Acquire waits for a free place at a pod.
func (s *Standalone) Acquire(ctx context.Context, function string, avoid []netip.AddrPort) (Lease, error) {
	for {
		s.mu.Lock()
		pods := s.functions[function]
		if len(pods) == 0 || s.closed {
			s.mu.Unlock()
			return nil, fmt.Errorf("function %s: %w", function, ErrNoPod)
		}
		if p := choose(pods, avoid, false); p != nil {
			l := s.lend(function, p)
			s.mu.Unlock()
			return l, nil
		}
		turn := make(chan struct{})
		s.waiters[function] = append(s.waiters[function], turn)
		s.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			s.leave(function, turn)
			return nil, ctx.Err()
		}
	}
}

// TryAcquire is Acquire without waiting: nil if no pod has room. With good, only
// pods that are neither down nor to be avoided are used.
func (s *Standalone) TryAcquire(function string, avoid []netip.AddrPort, good bool) Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := choose(s.functions[function], avoid, good); p != nil && !s.closed {
		return s.lend(function, p)
	}
	return nil // not a nil *lease
}

// lend takes a place at a pod, with an idle connection if there is one; s.mu is
// held.
func (s *Standalone) lend(function string, p *pod) *lease {
	p.used++
	l := &lease{pool: s, function: function, pod: p}
	if n := len(p.idle); n > 0 {
		l.conn = p.idle[n-1]
		p.idle = p.idle[:n-1]
	}
	return l
}

// choose is the less loaded of two random pods with room, good ones first. A pod
// that has refused connections is tried by one message at a time while there are
// others.
func choose(pods []*pod, avoid []netip.AddrPort, onlyGood bool) *pod {
	var good, rest []*pod
	now := time.Now()
	for _, p := range pods {
		switch {
		case p.used >= p.limit:
		case slices.Contains(avoid, p.addr) || now.Before(p.down) || p.failures > 0 && p.used > 0:
			rest = append(rest, p)
		default:
			good = append(good, p)
		}
	}
	if len(good) == 0 && !onlyGood {
		good = rest
	}
	if len(good) == 0 {
		return nil
	}
	i := rand.IntN(len(good))
	a, b := good[i], good[(i+1)%len(good)]
	if b.limit-b.used > a.limit-a.used {
		return b
	}
	return a
}

// leave gives up waiting; a turn that came at the same moment is passed on.
func (s *Standalone) leave(function string, turn chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiters[function]
	if i := slices.Index(w, turn); i >= 0 {
		s.waiters[function] = slices.Delete(w, i, i+1)
		return
	}
	s.wake(function)
}

// wake lets the longest waiting caller try again; s.mu is held.
func (s *Standalone) wake(function string) {
	if w := s.waiters[function]; len(w) > 0 {
		close(w[0])
		s.waiters[function] = w[1:]
	}
}

// wakeAll lets all waiting callers try again; s.mu is held.
func (s *Standalone) wakeAll(function string) {
	for len(s.waiters[function]) > 0 {
		s.wake(function)
	}
	delete(s.waiters, function)
}

// Close closes all idle connections; leases in use end with their exchange.
func (s *Standalone) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, pods := range s.functions {
		for _, p := range pods {
			p.closeIdle()
		}
	}
	for f := range s.waiters {
		s.wakeAll(f)
	}
	return nil
}

// lease is one place at a pod, with a connection once there is one.
type lease struct {
	pool     *Standalone
	function string
	pod      *pod
	conn     *conn
	reusable bool
}

func (l *lease) Pod() netip.AddrPort { return l.pod.addr }

// Do sends the request. An idle connection that the pod has closed meanwhile
// is replaced once, if the request provably was not read.
func (l *lease) Do(ctx context.Context, request []byte) (*Response, error) {
	if l.conn != nil && l.conn.gone() {
		l.conn.Close()
		l.conn = nil
	}
	if l.conn != nil {
		resp, err := l.exchange(ctx, request)
		if err == nil || !errors.Is(err, ErrUnread) || ctx.Err() != nil {
			return resp, err
		}
	}
	d := net.Dialer{Timeout: dialTimeout}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", l.pod.addr.String())
	l.dialled(err)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnread, err)
	}
	tc := c.(*net.TCPConn)
	l.conn = &conn{tc, NewReader(tc)}
	return l.exchange(ctx, request)
}

// dialled notes how connecting to the pod ended.
func (l *lease) dialled(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		Unreachable(l.pool.log, l.function, l.pod.addr, err)
	}
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	p, now := l.pod, time.Now()
	switch {
	case err == nil:
		p.failures, p.down = 0, time.Time{}
	case now.After(p.down): // several at a time are one failure
		p.down = now.Add(min(downTime<<p.failures, downMost))
		p.failures = min(p.failures+1, 10)
	}
}

// gone says whether the pod has closed an idle connection, or has sent what
// nobody asked for. A request sent after the pod's FIN would end in a plain end
// of file, which does not tell whether it was read.
func (c *conn) gone() bool {
	rc, err := c.SyscallConn()
	if err != nil {
		return true
	}
	var peeked error
	err = rc.Control(func(fd uintptr) {
		_, _, peeked = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return err != nil || !errors.Is(peeked, unix.EAGAIN)
}

func (l *lease) exchange(ctx context.Context, request []byte) (*Response, error) {
	c := l.conn
	l.reusable = false
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if n, err := c.Write(request); err != nil {
		c.Close()
		if n == 0 {
			return nil, fmt.Errorf("%w: send: %w", ErrUnread, err)
		}
		return nil, fmt.Errorf("send: %w", err)
	}
	// From here on the function may have read it: a reset proves nothing.
	resp, err := c.r.Response()
	if err != nil {
		c.Close()
		return nil, err
	}
	l.reusable = resp.KeepAlive && c.r.Buffered() == 0
	return resp, nil
}

// Release gives the place back, and the connection if it can be used again.
func (l *lease) Release() {
	s := l.pool
	s.mu.Lock()
	defer s.mu.Unlock()
	l.pod.used--
	if l.conn != nil {
		if l.reusable && !s.closed && !l.pod.gone {
			_ = l.conn.SetDeadline(time.Time{})
			l.pod.idle = append(l.pod.idle, l.conn)
		} else {
			l.conn.Close()
		}
	}
	s.wake(l.function)
}
