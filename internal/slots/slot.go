package slots

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"eproxy/internal/bpf"
	"eproxy/internal/clock"
	"eproxy/internal/datapath"
	"eproxy/internal/depth"
	"eproxy/internal/pool"
	"eproxy/internal/reach"
	"eproxy/internal/takeover"
)

var (
	errClosing = errors.New("pod closes the connection")
	errTimeout = errors.New("no response in time")
)

const (
	dialTimeout = 3 * time.Second
	backoffMin  = 10 * time.Millisecond
	backoffMax  = time.Second
	// unackedLimit is how long a request may stay unacknowledged by the pod's
	// TCP before the pod counts as gone: several retransmission timeouts.
	unackedLimit = time.Second
)

// slot is one keep-alive connection to a pod. Its goroutine owns reading.
type slot struct {
	all   *Pods
	pod   *Pod
	index uint32 // conn index
	bit   uint

	open     bool          // it has a goroutine; guarded by its pod's scale.mu
	grown    atomic.Bool   // it has memory: it was dialled
	position atomic.Uint32 // the byte of the stream that is read next, as the programs count

	mu       sync.Mutex
	gen      uint32
	conn     *net.TCPConn
	ready    time.Duration // when it was connected, clock.Monotonic()
	requests uint32        // of its entry, then
	doomed   bool          // a message was given up: what comes next answers nothing
	trouble  error         // why one of several requests in flight was not answered; nil: all were
	unneeded bool          // it is being closed
}

// inFlight is the number of requests of the programs that are not answered.
func (s *slot) inFlight() uint32 {
	if !s.grown.Load() {
		return 0
	}
	mem := s.memory()
	return atomic.LoadUint32(&mem.Tail) - atomic.LoadUint32(&mem.Head)
}

// early says whether what is read next, at this place in the stream, cannot be the
// response to the message that args took over: the pod sent it before it had the
// whole request.
func early(args bpf.EproxySlotArgs, position uint32) bool {
	return args.State == uint32(bpf.EproxySlotStateSLOT_RETIRED) || args.Acked == 0 || int32(position-args.Position) < 0
}

// unread says whether a pod has provably not read a message when its connection ended so: it sent
// FIN before its TCP had the whole request. RST proves nothing: the acknowledgement of what was
// read may have been lost before it.
func unread(args bpf.EproxySlotArgs, end error) bool {
	return args.Acked == 0 && (errors.Is(end, io.EOF) || errors.Is(end, io.ErrUnexpectedEOF))
}

// takeOver makes the oldest message in flight userspace's. Reading its response from
// the socket is only safe if nobody has given up on an earlier one.
func (s *slot) takeOver(gen uint32) (args bpf.EproxySlotArgs, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.doomed {
		return args, errTimeout
	}
	return s.all.control(bpf.EproxySlotOpSLOT_OP_TAKE_OVER, bpf.EproxySlotArgs{Slot: s.index, Gen: gen})
}

// run dials the slot and serves its connection, and dials again as long as its pod
// needs it.
func (s *slot) run(ctx context.Context) {
	backoff := backoffMin
	for {
		began := time.Now()
		e := s.session(ctx)
		s.all.Log.Debug("slot closed", "function", s.pod.id.Function, "pod", s.pod.id.Address, "slot", s.index, "error", e.err)
		if !s.pod.ended(s, e) {
			return
		}
		if e.atOnce || time.Since(began) > time.Second {
			backoff = backoffMin
		}
		if e.atOnce { // the server does its part
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, backoffMax)
	}
}

// session is one connection: dial, serve, take over what is left, clean up.
func (s *slot) session(ctx context.Context) (e ending) {
	all := s.all
	conn, gen, tuple, err := s.dial(ctx)
	s.pod.first.Do(func() { close(s.pod.tried) })
	if err != nil {
		if ctx.Err() == nil {
			all.failed(s, err)
		}
		return ending{err: err}
	}
	s.pod.dialled()
	stop := context.AfterFunc(ctx, func() { s.leave(conn, gen) })
	defer stop()
	err = s.serve(conn, gen)

	// Nobody may claim it any more; what was in flight is userspace's now.
	_, _ = all.control(bpf.EproxySlotOpSLOT_OP_RETIRE, bpf.EproxySlotArgs{Slot: s.index, Gen: gen})
	left, unread := s.takeRest(gen, err)
	mem := s.memory()
	answered := time.Duration(atomic.LoadUint64(&mem.RespondedNs))
	s.mu.Lock()
	s.conn = nil
	e = ending{err: err, dialled: true, unneeded: s.unneeded, requests: int(atomic.LoadUint32(&mem.Count) - s.requests), unread: unread}
	trouble := s.trouble
	s.mu.Unlock()
	if trouble != nil && ctx.Err() == nil {
		s.pod.troubled(depth.WhyEnded(trouble, errTrial, errTimeout), trouble)
	}
	e.atOnce = left == 0 && (errors.Is(err, errClosing) || answered > 0 && clock.Monotonic()-answered < atOnce)
	abort(conn)
	s.free(gen, tuple)
	return e
}

// takeRest makes what is in flight on a connection that has ended so userspace's. It
// returns how much that was, and how much of it stood behind a response that said
// "Connection: close": the pod reads nothing more then (RFC 9112 section 9.6).
func (s *slot) takeRest(gen uint32, end error) (left, cut int) {
	for {
		args, err := s.all.control(bpf.EproxySlotOpSLOT_OP_TAKE_OVER, bpf.EproxySlotArgs{Slot: s.index, Gen: gen})
		if err != nil || args.Ok == 0 {
			return left, cut
		}
		left++
		cause := fmt.Errorf("connection to %s: %w", s.pod.id.Address, end)
		closed := args.Closed != 0 || errors.Is(end, errClosing)
		if closed || unread(args, end) {
			cause = fmt.Errorf("%w: %w", pool.ErrUnread, cause)
		}
		spent := 0
		if closed {
			cut++
		} else {
			spent = s.spoilt(args, end)
		}
		s.finish(args, nil, cause, spent)
	}
}

// spoilt notes why the message that was just taken over was not answered. It returns how
// many of its attempts that counts for: none if it can be tried again, and other requests were
// in flight on the connection, which may be why.
func (s *slot) spoilt(args bpf.EproxySlotArgs, cause error) (spent int) {
	if args.Company == uint32(bpf.EproxyCompanyCOMPANY_NONE) && s.inFlight() == 0 {
		return 1
	}
	s.mu.Lock()
	if s.trouble == nil {
		s.trouble = cause
	}
	s.mu.Unlock()
	if args.Qos > 0 {
		return 0
	}
	return 1
}

// free gives the entry of a connection back that is over, or never came up.
func (s *slot) free(gen uint32, tuple bpf.EproxyTuple) {
	s.all.Entries.Free(s.index, gen, tuple)
	atomic.StoreUint32(&s.memory().State, uint32(bpf.EproxySlotStateSLOT_FREE))
}

// dial arms the slot's entry between bind and connect, so that the handshake's
// last packet seeds it, and puts the socket into the socket map.
func (s *slot) dial(ctx context.Context) (*net.TCPConn, uint32, bpf.EproxyTuple, error) {
	all := s.all
	if err := all.Memory.GrowSlot(s.index, s.pod.deep.Load()); err != nil {
		return nil, 0, bpf.EproxyTuple{}, err
	}
	s.grown.Store(true)
	mem := s.memory()
	var tuple bpf.EproxyTuple
	var gen uint32
	d := net.Dialer{Timeout: dialTimeout, ControlContext: func(_ context.Context, _, _ string, rc syscall.RawConn) error {
		var inner error
		err := rc.Control(func(fd uintptr) {
			var local netip.AddrPort
			if local, inner = bindLocal(int(fd), s.pod.id.Address.Addr()); inner != nil {
				return
			}
			tuple = bpf.TupleOf(local, s.pod.id.Address)
			*mem = bpf.EproxySlot{State: uint32(bpf.EproxySlotStateSLOT_DIALLING), Pod: s.pod.index,
				Count: mem.Count + 1, Dials: mem.Dials + 1, First: mem.Count + 1}
			copy(mem.IdPrefix[:], fmt.Sprintf("%07x%05x", all.idSeed>>4, s.index))
			gen, inner = all.Entries.Arm(s.index, bpf.EproxyConnKindCONN_SLOT, tuple)
		})
		if err != nil {
			return err
		}
		return inner
	}}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", s.pod.id.Address.String())
	if err != nil {
		if gen != 0 {
			s.free(gen, tuple)
		}
		return nil, 0, tuple, err
	}
	conn := c.(*net.TCPConn)
	rc, err := conn.SyscallConn()
	if err == nil {
		var inner error
		err = rc.Control(func(fd uintptr) { inner = all.Objects.PodSocks.Put(s.index, uint64(fd)) })
		if err == nil {
			err = inner
		}
	}
	if err != nil {
		abort(conn)
		s.free(gen, tuple)
		return nil, 0, tuple, fmt.Errorf("enter socket map: %w", err)
	}
	s.mu.Lock()
	s.conn, s.gen, s.doomed, s.trouble, s.unneeded = conn, gen, false, nil, false
	s.ready, s.requests = clock.Monotonic(), mem.Count
	s.mu.Unlock()
	args, err := all.control(bpf.EproxySlotOpSLOT_OP_READY, bpf.EproxySlotArgs{Slot: s.index, Gen: gen})
	s.position.Store(args.Position)
	if err == nil && args.Ok == 0 {
		err = errUnseen
	}
	if err != nil {
		s.mu.Lock()
		s.conn = nil
		s.mu.Unlock()
		abort(conn)
		s.free(gen, tuple)
		return nil, 0, tuple, err
	}
	if !s.pod.seen.Swap(true) {
		all.Events.Reached(s.pod)
	}
	s.pod.tendParked()
	return conn, gen, tuple, nil
}

// errSurplus means that a pod has sent more responses than it had requests.
var errSurplus = errors.New("more responses than requests")

// errUnseen means that no program saw the handshake of a slot's connection.
var errUnseen = errors.New("the connection does not leave through the pod's interface as it was dialled")

// unseenLimit is how many slots of a pod must come up unseen, and none seen,
// before Events.Unseen is told.
const unseenLimit = 3

// failed notes that a slot did not come up.
func (p *Pods) failed(s *slot, err error) {
	ps := s.pod
	pool.Unreachable(p.Often, ps.id.Function, ps.id.Address, err)
	p.record(func(rec Recorder) { rec.ConnectFailed(ps.id.Function, ps.id.Address.String()) })
	if errors.Is(err, errUnseen) && !ps.seen.Load() && ps.unseen.Add(1) == unseenLimit {
		p.Events.Unseen(ps)
	}
}

// serve reads whatever the programs pass to the socket: responses that the
// kernel path does not digest, and the end.
func (s *slot) serve(conn *net.TCPConn, gen uint32) error {
	all := s.all
	r := pool.NewReader(conn)
	begin := s.position.Load()
	for {
		if err := r.Wait(); err != nil {
			return err
		}
		args, err := s.takeOver(gen)
		if err != nil {
			return err
		}
		if args.Ok == 0 {
			return fmt.Errorf("unexpected bytes from the pod (slot state %d)", args.State)
		}
		if early(args, begin+uint32(r.Position())) {
			s.finish(args, nil, pool.ErrEarly, s.spoilt(args, pool.ErrEarly))
			return pool.ErrEarly
		}
		left := s.pod.fn.Load().Timeout - (clock.Monotonic() - time.Duration(args.TakenNs))
		_ = conn.SetReadDeadline(time.Now().Add(max(left, time.Millisecond)))
		resp, err := r.Response()
		_ = conn.SetReadDeadline(time.Time{})
		spent := 1
		switch {
		case err != nil:
			spent = s.spoilt(args, err)
		case args.Company == uint32(bpf.EproxyCompanyCOMPANY_TRIAL) && depth.Unreadable(resp.Status):
			s.pod.troubled(depth.Status, pool.NewStatusError(resp))
			spent = 0
		}
		s.finish(args, resp, err, spent)
		if err != nil {
			return err
		}
		if r.Buffered() > 0 && s.inFlight() == 0 {
			s.spoilt(args, errSurplus)
		}
		if !resp.KeepAlive || r.Buffered() > 0 && s.inFlight() == 0 {
			return errClosing
		}
		if s.inFlight() > 0 {
			continue // their responses come this way, too
		}
		s.position.Store(begin + uint32(r.Position()))
		args, err = all.control(bpf.EproxySlotOpSLOT_OP_READY, bpf.EproxySlotArgs{Slot: s.index, Gen: gen, Position: s.position.Load()})
		if err != nil {
			return err
		}
		if args.Ok == 0 {
			return fmt.Errorf("slot cannot be used again (state %d)", args.State)
		}
		s.pod.tendParked()
	}
}

// attention closes the connection if the programs retired the slot.
func (s *slot) attention(gen uint32) {
	s.mu.Lock()
	conn, current := s.conn, s.gen
	s.mu.Unlock()
	if conn != nil && current == gen {
		abort(conn)
	}
}

// overdue takes the oldest message over if its time is up, or that of a trial, and ends
// the connection: what else is in flight on it follows.
func (s *slot) overdue(gen uint32, only bpf.EproxyTakeOnly) {
	cause := errTimeout
	if only == bpf.EproxyTakeOnlyTAKE_TRIAL {
		cause = errTrial
	}
	s.mu.Lock()
	conn := s.conn
	if conn == nil || s.gen != gen {
		s.mu.Unlock()
		return
	}
	args, err := s.all.control(bpf.EproxySlotOpSLOT_OP_TAKE_OVER, bpf.EproxySlotArgs{Slot: s.index, Gen: s.gen, Only: uint32(only)})
	taken := err == nil && args.Ok == 1
	s.doomed = s.doomed || taken
	s.mu.Unlock()
	if taken {
		s.finish(args, nil, cause, s.spoilt(args, cause))
		abort(conn)
	}
}

// bindLocal binds a socket to the address that the route to remote prefers and
// a free port, and says which.
func bindLocal(fd int, remote netip.Addr) (netip.AddrPort, error) {
	src, _, err := reach.Source(remote)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var sa unix.Sockaddr
	if remote.Is4() {
		sa = &unix.SockaddrInet4{Addr: src.As4()}
	} else {
		sa = &unix.SockaddrInet6{Addr: src.As16()}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return netip.AddrPort{}, fmt.Errorf("bind to %s: %w", src, err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read bound address: %w", err)
	}
	switch b := bound.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(src, uint16(b.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(src, uint16(b.Port)), nil
	}
	return netip.AddrPort{}, fmt.Errorf("bound to an address of unknown family")
}

// leaving is how long a pod has to close its end of a connection that is not used
// any more.
const leaving = datapath.Farewell / 2

// leave ends the connection of a slot that goes out of service: with FIN if
// nothing is in flight, so that the server sees no error. Reading ends when the
// pod has closed its end, too, or its time is over.
func (s *slot) leave(conn *net.TCPConn, gen uint32) {
	args, err := s.all.control(bpf.EproxySlotOpSLOT_OP_RETIRE, bpf.EproxySlotArgs{Slot: s.index, Gen: gen})
	if err != nil || args.Ok == 0 || args.State != uint32(bpf.EproxySlotStateSLOT_IDLE) {
		abort(conn)
		return
	}
	s.farewell(conn)
}

// farewell closes this end of a connection, and gives the pod time to close its own.
func (*slot) farewell(conn *net.TCPConn) {
	if conn.CloseWrite() != nil {
		abort(conn)
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(leaving))
}

// abort closes with RST: a retired connection is never repaired.
func abort(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// finish has a message finished that was taken over from the slot: with the response that userspace read, or by further
// attempts, of which so many are spent.
func (s *slot) finish(args bpf.EproxySlotArgs, resp *pool.Response, cause error, spent int) {
	s.all.Messages.FinishSent(takeover.Sent{Function: s.pod.fn.Load(), Pod: s.pod.id.Address.String(), Args: args,
		Request: s.all.requestOf(args), Response: resp, Cause: cause, Spent: spent})
}

// requestOf is the request that args names, copied from its buffer.
func (p *Pods) requestOf(args bpf.EproxySlotArgs) []byte {
	buf := p.Memory.Request(args.Slot, args.Number).Buf[:]
	if int(args.RequestLen) > len(buf) {
		return nil
	}
	return append([]byte(nil), buf[:args.RequestLen]...)
}
