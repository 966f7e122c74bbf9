package pool

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

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
	log   *lograte.Logger
	count Troubles      // nil: nobody counts
	stall time.Duration // the patience with pods that nobody else uses

	mu        sync.Mutex // taken with lock, and left with unlock
	functions map[string]*function
	closed    bool
	batch     *Batch  // of who holds mu
	own       bool    // which unlock flushes
	dials     []dial  // that unlock begins
	over      []*Call // that unlock ends
}

// pod is one pod of one function.
type pod struct {
	addr     netip.AddrPort
	name     string // addr, as metrics have it
	limit    int
	shared   Shared // in place of limit; nil: nobody else uses the pod
	used     int
	idle     []*conn // the last one is the hottest
	busy     []*conn // with calls in flight
	pipe     pipe
	down     time.Time // until then
	failures int       // to connect, in a row; each counts downTime once
	noRoute  bool      // nobody can reach it now
	far      bool      // others are preferred to it
	sparse   time.Time // until then no idle connection is kept
	gone     bool      // a reload dropped it
}

var _ Pool = (*Standalone)(nil)

// New makes a pool for the functions.
func New(functions []*config.Function) *Standalone {
	s := &Standalone{stall: stallLimit}
	s.Reload(functions)
	return s
}

// LogTo has pods that take no connections logged; before the first Acquire.
func (s *Standalone) LogTo(log *lograte.Logger) { s.log = log }

// Reload is ReloadShared where nobody else uses the pods.
func (s *Standalone) Reload(functions []*config.Function) {
	s.ReloadShared(functions, func(string, netip.AddrPort) Place { return Place{} })
}

// ReloadShared takes over changed functions; connections to pods that stay are
// kept, those to others end. Whoever waits looks again. place says of each pod where it
// is, and who else uses it. What is under way counts against a limit that is new for its
// pod.
func (s *Standalone) ReloadShared(functions []*config.Function, place func(function string, pod netip.AddrPort) Place) {
	s.lock(nil)
	defer s.unlock()
	old := s.functions
	s.functions = make(map[string]*function)
	for _, fn := range functions {
		s.reload(old[fn.Name], fn, place)
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

// UpdateShared is ReloadShared for functions of which something has changed; the others stay.
func (s *Standalone) UpdateShared(changed []*config.Function, place func(function string, pod netip.AddrPort) Place) {
	s.lock(nil)
	defer s.unlock()
	for _, fn := range changed {
		s.reload(s.functions[fn.Name], fn, place)
	}
	for _, fn := range changed {
		s.serve(fn.Name, s.functions[fn.Name])
	}
}

// reload has a function follow its configuration; f is what there is of it, or nil. The pool's mu is held.
func (s *Standalone) reload(f *function, fn *config.Function, place func(function string, pod netip.AddrPort) Place) {
	if f == nil {
		f = &function{name: fn.Name, wake: func() { s.Wake(fn.Name) }}
	}
	before := make(map[netip.AddrPort]*pod, len(f.pods))
	for _, p := range f.pods {
		before[p.addr] = p
	}
	f.pods = make([]*pod, 0, len(fn.Pods))
	for _, a := range fn.Pods {
		p := before[a]
		if delete(before, a); p == nil {
			p = &pod{addr: a, name: a.String()}
		}
		f.pods = append(f.pods, p)
		p.limit = fn.Concurrency
		p.pipe.Configure(fn.Pipeline, deepest)
		p.settle(fn, place(fn.Name, a))
	}
	for _, p := range before {
		p.drop()
	}
	s.functions[fn.Name] = f
}

// Place is where a pod is, and who else uses it.
type Place struct {
	Shared  Shared // the limit that is shared with the others; nil: nobody else uses it
	NoRoute bool   // there is no way to it: it is used when there is no other pod, until a connection to it is made
	Far     bool   // it is on another node
}

// settle has a pod follow its function and its place; the pool's mu is held.
func (p *pod) settle(fn *config.Function, at Place) {
	p.noRoute = at.NoRoute
	p.far = at.Far && fn.Topology != config.TopologyAny
	p.share(at.Shared)
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
	s.lock(nil)
	defer s.unlock()
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
		c.dead = true
		_ = c.Close() // its reader sees to the rest
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

// Acquire waits for a free place at a pod; Pool. A function without pods may be given some.
func (s *Standalone) Acquire(ctx context.Context, function, client string, avoid []netip.AddrPort) (Lease, error) {
	t := &turn{client: client, avoid: avoid, grant: make(chan grant, 1)}
	if l, err := s.queue(function, t); l != nil || err != nil {
		return l, err
	}
	select {
	case g := <-t.grant:
		return g.get()
	case <-ctx.Done():
	}
	if !s.leave(t) { // its turn came at the same moment
		if l, err := (<-t.grant).get(); err == nil {
			l.Release()
		}
	}
	return nil, ctx.Err()
}

// queue gives a caller a place, or a turn.
func (s *Standalone) queue(function string, t *turn) (Lease, error) {
	s.lock(nil)
	defer s.unlock()
	f := s.functions[function]
	if f == nil || s.closed {
		return nil, fmt.Errorf("function %s: %w", function, ErrNoPod)
	}
	if f.turns.Len() == 0 {
		if l := s.lend(function, f, t.avoid); l != nil {
			return l, nil
		}
	}
	f.queue(t)
	s.serve(function, f)
	return nil, nil
}

// leave takes a caller out of the queue. Not if it has had its turn.
func (s *Standalone) leave(t *turn) (left bool) {
	s.lock(nil)
	defer s.unlock()
	if left = t.f.leave(t); left {
		s.serve(t.f.name, t.f)
	}
	return left
}

// Wake looks again for places that a function's callers wait for: another user of
// its pods has left one.
func (s *Standalone) Wake(function string) {
	s.lock(nil)
	defer s.unlock()
	if f := s.functions[function]; f != nil {
		s.serve(function, f)
	}
}

// lend takes a place at a pod, with an idle connection if there is one; nil if
// there is no place. s.mu is held.
func (s *Standalone) lend(function string, f *function, avoid []netip.AddrPort) *lease {
	now := time.Now()
	p := f.choose(avoid, now)
	if p == nil {
		return nil
	}
	return &lease{pool: s, function: function, f: f, pod: p, conn: p.hot(false, now)}
}

// Close closes all idle connections; leases in use end with their exchange. Limits
// that are shared are left alone from then on.
func (s *Standalone) Close() error {
	s.lock(nil)
	defer s.unlock()
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
	f        *function
	pod      *pod
	conn     *conn
	reusable bool
}

func (l *lease) Pod() netip.AddrPort { return l.pod.addr }

// Do sends the request. An idle connection that the pod has closed meanwhile
// is replaced once, if the request provably was not read.
func (l *lease) Do(ctx context.Context, request []byte) (*Response, error) {
	if l.conn != nil && l.conn.gone() {
		_ = l.conn.Close()
		l.conn = nil
	}
	if l.conn != nil {
		resp, err := l.exchange(ctx, request)
		if err == nil || !errors.Is(err, ErrUnread) || ctx.Err() != nil {
			return resp, err
		}
	}
	c, err := connect(ctx, l.pod.addr)
	l.dialled(err)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnread, err)
	}
	l.conn = newConn(l.pool, l.f, l.pod, c)
	go l.conn.read()
	return l.exchange(ctx, request)
}

// dialled notes how connecting to the pod ended.
func (l *lease) dialled(err error) { l.pool.dialled(l.function, l.pod, err) }

// dialled notes how connecting to a pod ended.
func (s *Standalone) dialled(function string, p *pod, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		Unreachable(s.log, function, p.addr, err)
	}
	s.lock(nil)
	defer s.unlock()
	now := time.Now()
	switch {
	case err == nil:
		p.failures, p.down, p.noRoute = 0, time.Time{}, false
	case now.After(p.down): // several at a time are one failure
		p.pipe.Forget()
		p.down = now.Add(min(downTime<<p.failures, downMost))
		p.failures = min(p.failures+1, 10)
	}
}

// noDeadline is how long a request may take whose context has no deadline.
const noDeadline = 24 * time.Hour

// exchange sends the request on the lease's connection.
func (l *lease) exchange(ctx context.Context, request []byte) (*Response, error) {
	c, ended := l.conn, make(chan struct{})
	l.reusable = false
	timeout := noDeadline
	if deadline, ok := ctx.Deadline(); ok {
		timeout = time.Until(deadline)
	}
	call := &Call{Request: request, Timeout: timeout, whole: true, leased: true, Done: func(*Call, *Batch) { close(ended) }}
	if !c.push(call, time.Now(), l.pool.patienceOf(c.shared()), false) {
		return nil, errEnded
	}
	stop := context.AfterFunc(ctx, func() { c.kill(ctx.Err()) })
	c.Flush()
	<-ended
	alive := stop() // or the connection is being ended
	l.reusable = alive && call.Err == nil && call.Response.KeepAlive && !call.more
	return call.Response, call.Err
}

// Release gives the place back, and the connection if it can be used again.
func (l *lease) Release() {
	s, p := l.pool, l.pod
	s.lock(nil)
	defer s.unlock()
	p.leave(1)
	if c := l.conn; c != nil {
		if l.reusable && !c.dead && !s.closed && !p.gone && p.spare() {
			p.idle = append(p.idle, c)
		} else {
			c.dead = true
			_ = c.Close() // its reader sees to the rest
		}
	}
	s.serve(l.function, l.f)
}
