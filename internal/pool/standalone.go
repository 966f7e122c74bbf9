package pool

import (
	"context"
	"errors"
	"fmt"
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

// Standalone is a Pool that dials its connections itself. Others may use the pods
// as well: then it shares their concurrency limits (Shared).
type Standalone struct {
	log *lograte.Logger

	mu        sync.Mutex
	functions map[string]*function
	closed    bool
}

// pod is one pod of one function.
type pod struct {
	addr     netip.AddrPort
	limit    int
	shared   Shared // in place of limit; nil: nobody else uses the pod
	used     int
	idle     []*conn   // the last one is the hottest
	down     time.Time // until then
	failures int       // to connect, in a row; each counts downTime once
	noRoute  bool      // nobody can reach it now
	sparse   time.Time // until then no idle connection is kept
	gone     bool      // a reload dropped it
}

type conn struct {
	*net.TCPConn
	r    *Reader
	used bool // it has carried a request that was answered
}

var _ Pool = (*Standalone)(nil)

// New makes a pool for the functions.
func New(functions []*config.Function) *Standalone {
	s := &Standalone{}
	s.Reload(functions)
	return s
}

// LogTo has pods that take no connections logged; before the first Acquire.
func (s *Standalone) LogTo(log *lograte.Logger) { s.log = log }

// Reload is ReloadShared where nobody else uses the pods.
func (s *Standalone) Reload(functions []*config.Function) {
	s.ReloadShared(functions, func(string, netip.AddrPort) Shared { return nil })
}

// ReloadShared takes over changed functions; connections to pods that stay are
// kept, those to others end. Whoever waits looks again. shared has the limits of
// pods that others use, too; nil for those that nobody else does. What is under
// way counts against a limit that is new for its pod.
func (s *Standalone) ReloadShared(functions []*config.Function, shared func(function string, pod netip.AddrPort) Shared) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.functions
	s.functions = make(map[string]*function)
	for _, fn := range functions {
		f := &function{}
		before := old[fn.Name]
		if before != nil {
			f = before
		}
		pods := f.pods
		f.pods = nil
		for _, a := range fn.Pods {
			i := slices.IndexFunc(pods, func(p *pod) bool { return p.addr == a })
			if i >= 0 {
				f.pods = append(f.pods, pods[i])
			} else {
				f.pods = append(f.pods, &pod{addr: a})
			}
			p := f.pods[len(f.pods)-1]
			p.limit = fn.Concurrency
			p.share(shared(fn.Name, a))
		}
		for _, p := range pods {
			if !slices.Contains(f.pods, p) {
				p.drop()
			}
		}
		s.functions[fn.Name] = f
	}
	for name, f := range old {
		if s.functions[name] == nil {
			for _, p := range f.pods {
				p.drop()
			}
			f.pods = nil
			s.serve(name, f)
		}
	}
	for name, f := range s.functions {
		s.serve(name, f)
	}
}

// share makes others' limit the pod's; the pool's mu is held.
func (p *pod) share(with Shared) {
	if p.shared == with {
		return
	}
	p.shared = with
	if with != nil {
		with.Adopt(p.used)
	}
}

// drop ends a pod's part in the pool; the pool's mu is held.
func (p *pod) drop() {
	p.gone, p.shared = true, nil
	p.closeIdle()
}

// SetReachable says whether there is a way to a pod. One that there is none to is
// used when there is no other, until a connection to it is made. Who waits for a
// place looks again.
func (s *Standalone) SetReachable(function string, addr netip.AddrPort, reachable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.functions[function]
	if f == nil {
		return
	}
	for _, p := range f.pods {
		if p.addr == addr {
			p.noRoute = !reachable
		}
	}
	s.serve(function, f)
}

// spare says whether an idle connection may be kept; the pool's mu is held.
func (p *pod) spare() bool {
	return time.Now().After(p.sparse) && (p.shared == nil || p.shared.Spare())
}

// stallLimit is how long the first response on a connection may take where nobody
// else uses the pod; sparseTime how long no idle connections are kept to a pod that
// may serve nobody else for them.
const (
	stallLimit = 250 * time.Millisecond
	sparseTime = 10 * time.Second
)

// CloseIdle closes the connections to a pod that nothing is sent on, because a request
// waits on another, and says how many there were. For a while none is kept.
func (s *Standalone) CloseIdle(function string, addr netip.AddrPort) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.functions[function]; f != nil {
		for _, p := range f.pods {
			if p.addr == addr {
				if n = len(p.idle); n > 0 {
					p.closeIdle()
					p.sparse = time.Now().Add(sparseTime)
				}
			}
		}
	}
	return n
}

// closeIdle closes a pod's idle connections; the pool's mu is held.
func (p *pod) closeIdle() {
	for _, c := range p.idle {
		c.Close()
	}
	p.idle = nil
}

// enter takes a place, if the pod has one; the pool's mu is held.
func (p *pod) enter() bool {
	if p.shared != nil && !p.shared.Enter() || p.shared == nil && p.used >= p.limit {
		return false
	}
	p.used++
	return true
}

// free is how many places the pod has, about; the pool's mu is held.
func (p *pod) free() int {
	if p.shared != nil {
		return p.shared.Free()
	}
	return p.limit - p.used
}

// Acquire waits for a free place at a pod: first come, first served. A function
// without pods may be given some.
func (s *Standalone) Acquire(ctx context.Context, function string, avoid []netip.AddrPort) (Lease, error) {
	s.mu.Lock()
	f := s.functions[function]
	if f == nil || s.closed {
		s.mu.Unlock()
		return nil, fmt.Errorf("function %s: %w", function, ErrNoPod)
	}
	if f.turns.Len() == 0 {
		if l := s.lend(function, f, avoid); l != nil {
			s.mu.Unlock()
			return l, nil
		}
	}
	t := f.queue(avoid)
	s.serve(function, f)
	s.mu.Unlock()
	select {
	case g := <-t.grant:
		return g.get()
	case <-ctx.Done():
	}
	s.mu.Lock()
	left := f.leave(t)
	if left {
		s.serve(function, f)
	}
	s.mu.Unlock()
	if !left { // its turn came at the same moment
		if l, err := (<-t.grant).get(); err == nil {
			l.Release()
		}
	}
	return nil, ctx.Err()
}

// Wake looks again for places that a function's callers wait for: another user of
// its pods has left one.
func (s *Standalone) Wake(function string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.functions[function]; f != nil {
		s.serve(function, f)
	}
}

// lend takes a place at a pod, with an idle connection if there is one; nil if
// there is no place. s.mu is held.
func (s *Standalone) lend(function string, f *function, avoid []netip.AddrPort) *lease {
	p := f.choose(avoid, time.Now())
	if p == nil {
		return nil
	}
	l := &lease{pool: s, function: function, pod: p}
	if n := len(p.idle); n > 0 {
		l.conn = p.idle[n-1]
		p.idle = p.idle[:n-1]
	}
	return l
}

// Close closes all idle connections; leases in use end with their exchange. Limits
// that are shared are left alone from then on.
func (s *Standalone) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for name, f := range s.functions {
		for _, p := range f.pods {
			p.drop()
		}
		f.pods = nil
		s.serve(name, f)
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
	l.conn = &conn{TCPConn: tc, r: NewReader(tc)}
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
		p.failures, p.down, p.noRoute = 0, time.Time{}, false
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

// exchange sends the request on the lease's connection, and tells whoever else uses
// the pod how it fared.
func (l *lease) exchange(ctx context.Context, request []byte) (*Response, error) {
	shared := l.shared()
	x := Exchange{Reused: l.conn.used}
	began := time.Now()
	stop := func() bool { return false }
	if !x.Reused {
		stop = l.watch(shared)
	}
	resp, err := l.roundTrip(ctx, request)
	x.Stalled = stop()
	if err == nil && shared != nil {
		x.Took, x.Closed = time.Since(began), !x.Reused && !resp.KeepAlive
		shared.Exchanged(x)
	}
	return resp, err
}

// watch has idle connections to the pod closed as often as the patience with the first
// response on a connection ends, until stop, which says whether it did.
func (l *lease) watch(shared Shared) (stop func() bool) {
	var mu sync.Mutex
	var t *time.Timer
	stalled, done := false, false
	patience := func() time.Duration {
		if shared == nil {
			return stallLimit
		}
		return max(shared.Patience(), time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(patience(), func() {
		mu.Lock()
		defer mu.Unlock()
		if done {
			return
		}
		stalled = true
		if shared == nil {
			l.pool.CloseIdle(l.function, l.pod.addr)
		} else {
			shared.Stalled()
		}
		t.Reset(patience())
	})
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		done = true
		t.Stop()
		return stalled
	}
}

// shared is the limit that others use, too; nil if nobody else does.
func (l *lease) shared() Shared {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	return l.pod.shared
}

func (l *lease) roundTrip(ctx context.Context, request []byte) (*Response, error) {
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
	c.used = true
	l.reusable = resp.KeepAlive && c.r.Buffered() == 0
	return resp, nil
}

// Release gives the place back, and the connection if it can be used again.
func (l *lease) Release() {
	s := l.pool
	s.mu.Lock()
	defer s.mu.Unlock()
	l.pod.used--
	if l.pod.shared != nil {
		l.pod.shared.Leave()
	}
	if l.conn != nil {
		if l.reusable && !s.closed && !l.pod.gone && l.pod.spare() {
			_ = l.conn.SetDeadline(time.Time{})
			l.pod.idle = append(l.pod.idle, l.conn)
		} else {
			l.conn.Close()
		}
	}
	if f := s.functions[l.function]; f != nil {
		s.serve(l.function, f)
	}
}
