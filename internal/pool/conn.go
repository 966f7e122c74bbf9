package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"eproxy/internal/depth"
	"eproxy/internal/outbox"
	"eproxy/internal/rawio"
)

// conn is a connection to a pod. Whoever has a request for it writes; one goroutine reads the
// responses, which come in the order of the requests (RFC 9112 section 9.3.2).
type conn struct {
	*net.TCPConn
	raw  syscall.RawConn
	r    *Reader
	pool *Standalone
	f    *function
	pod  *pod

	// guarded by the pool's mu
	inFlight int       // calls that have its place; none of a lease's
	trials   int       // of them, those that are trials
	once     int       // of them, those that must not be sent again
	run      int       // calls that it was given since it was idle
	carried  int       // calls that it was given
	dead     bool      // it takes no more
	answered time.Time // when the last one was

	out   outbox.Box // requests
	had   uint64     // bytes of them that the pod's TCP has acknowledged, at least; read's, as asked
	asked bool       // since more was read

	mu       sync.Mutex
	calls    []*Call // that were put into out, and not answered; in order
	tested   int     // of them, those that are trials
	plain    int     // of them, those that must not be sent again
	failed   bool    // its calls were ended
	used     bool    // it has carried a request that was answered
	err      error   // why it takes no more; nil: it does
	deadline time.Time
	patience time.Duration         // with a response to a call behind others; 0: that may take its time
	behind   time.Time             // until when the next one is waited for, where one stands behind others; zero: none does
	stop     func() (stalled bool) // ends the watch over the first response; nil: there is none
}

// connect makes a connection to a pod.
func connect(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// restPiece is how much is written at a time of requests that have to wait, in bytes: those behind have not been sent, should the connection end.
const restPiece = 16 << 10

// newConn is a connection whose responses are to be read by read.
func newConn(s *Standalone, f *function, p *pod, c *net.TCPConn) *conn {
	n := &conn{TCPConn: c, r: NewReader(c), pool: s, f: f, pod: p}
	n.raw, _ = c.SyscallConn() // nil only if closed, which read will see
	n.out.Try = func(b []byte) (int, error) { return outbox.Try(n.raw, b) }
	n.out.Rest, n.out.Piece = c.Write, restPiece
	n.out.Failed = func(err error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.err == nil {
			n.err = fmt.Errorf("send: %w", err)
		}
		_ = n.Close() // which its reader sees
	}
	return n
}

// Flush writes the requests that were put together; Flusher.
func (c *conn) Flush() { c.out.Flush() }

// gone says whether the pod has closed an idle connection, or has sent what
// nobody asked for. A request sent after the pod's FIN would end in a plain end
// of file, which does not tell whether it was read.
func (c *conn) gone() bool { return !rawio.Silent(c.raw) }

// errEnded is what a request ends with that came after its connection had ended.
var errEnded = fmt.Errorf("%w: the connection has ended", ErrUnread)

// push puts a request behind those that are under way, for Flush to write; false if the connection has
// ended. patience is that with the first response. The pool's mu is held for calls that have their
// place from it. watched: calls behind others are waited for no longer than that, too.
func (c *conn) push(call *Call, now time.Time, patience time.Duration, watched bool) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed || c.err != nil { // nothing of it would be written, and its place in the stream means nothing
		return false
	}
	if !c.used && c.stop == nil {
		c.stop = c.watch(patience)
	}
	call.sent, call.end, call.ahead = now, c.out.Put(call.Request), len(c.calls)
	c.calls = append(c.calls, call)
	if !call.Repeatable {
		c.plain++
	}
	if call.trial > 0 { // put into the same buffer as the one before, if that is there still
		c.tested++
		call.together = call.trial > 2 || c.out.Given() <= c.calls[0].end-uint64(len(c.calls[0].Request))
	}
	if watched && call.ahead > 0 && c.behind.IsZero() {
		c.patience = patience
		c.watchBehind(now.Add(unansweredPatience * patience))
	}
	if until := now.Add(call.Timeout); c.deadline.IsZero() || until.Before(c.deadline) {
		c.until(until)
	}
	return true
}

// unansweredPatience is how many times longer a first response may take than the others, where several are
// waited for.
const unansweredPatience = 4

// watchBehind waits for the next response until then, since one stands behind others; c.mu is held.
func (c *conn) watchBehind(until time.Time) {
	c.behind = until
	if c.deadline.IsZero() || until.Before(c.deadline) {
		c.until(until)
	}
}

// until sets when reading is to be looked after; c.mu is held.
func (c *conn) until(t time.Time) {
	c.deadline = t
	_ = c.SetReadDeadline(t)
}

// read reads responses until the connection ends.
func (c *conn) read() {
	var b Batch
	for {
		err := c.await()
		if err == nil {
			err = c.responses(&b)
		}
		if err != nil {
			c.fail(err, &b)
		}
		b.Gather()
		if err != nil {
			return
		}
	}
}

// await waits for a response, as long as the oldest request may take.
func (c *conn) await() error {
	for {
		err := c.r.Wait()
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.late() {
			return err
		}
	}
}

// late says whether the time of the oldest request is up, or the connection has failed otherwise; if
// not, reading is looked after when it would be.
func (c *conn) late() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return true
	}
	if len(c.calls) == 0 {
		c.until(time.Time{})
		return false
	}
	end, now := c.calls[0].sent.Add(c.calls[0].Timeout), time.Now()
	if !c.behind.IsZero() && !c.behind.After(now) && c.plain > 0 {
		c.behind = now.Add(c.patience) // what would be lost has all its time
	}
	if !c.behind.IsZero() && c.behind.Before(end) {
		if end = c.behind; !end.After(now) {
			c.err = errStalled
		}
	}
	if !end.After(now) {
		return true
	}
	c.until(end)
	return false
}

var (
	errUnasked = errors.New("response to no request")
	errClosing = errors.New("the function closes the connection")
)

// responses reads all responses that have come, and at least one.
func (c *conn) responses(b *Batch) error {
	now := time.Now()
	if c.asked = false; c.tries() {
		c.ask()
	}
	for c.r.Buffered() > 0 {
		call := c.oldest()
		if call == nil {
			return errUnasked
		}
		var resp *Response
		if !call.whole {
			resp = c.r.plain()
		}
		more := resp == nil
		if more {
			b.Flush() // the rest may be long in coming
			c.readUntil(call.sent.Add(call.Timeout))
			var err error
			if resp, err = c.r.respond(); err != nil {
				return err
			}
			now, c.asked = time.Now(), false // more has been read meanwhile
		}
		c.hold(c.had)
		if resp.Status/100 == 2 && !c.has(call.end) {
			return ErrEarly
		}
		if err := c.settle(call, resp, now, b); err != nil {
			return err
		}
	}
	return nil
}

// oldest is the call whose response is next; nil if there is none.
func (c *conn) oldest() *Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) == 0 {
		return nil
	}
	return c.calls[0]
}

// readUntil lets reading a response take until then.
func (c *conn) readUntil(end time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.deadline.Before(end) {
		c.until(end)
	}
}

// acknowledged is how many bytes of the connection's requests the pod's TCP has acknowledged, at
// most: what is just being written may be or not.
func (c *conn) acknowledged() (n uint64, known bool) {
	n = atMost(func() (waits int) {
		waits, known = unsent(c.raw)
		return waits
	}, c.out.Given)
	return n, known
}

// surely is how many bytes of them it has acknowledged as far as that is known: for what needs them to be.
func (c *conn) surely() uint64 {
	if n, known := c.acknowledged(); known {
		return n
	}
	return 0
}

// has says whether it had acknowledged the first n bytes when it sent what was read last. The kernel is asked once for
// what came together, and not where that is known from before.
func (c *conn) has(n uint64) bool {
	if c.had < n && !c.asked {
		c.ask()
	}
	return c.had >= n
}

func (c *conn) ask() { c.had, c.asked = c.surely(), true }

// atMost is how many bytes of a stream are acknowledged, of which others may be given to the socket meanwhile: what
// waits there is asked for first, or bytes that come in between would count as waiting and not as given.
func atMost(waiting func() int, given func() uint64) uint64 {
	n := waiting()
	return given() - uint64(n)
}

// settle ends the oldest call with its response; an error if the connection ends with it.
func (c *conn) settle(call *Call, resp *Response, now time.Time, b *Batch) error {
	c.mu.Lock()
	c.calls[0] = nil
	if c.calls = c.calls[1:]; len(c.calls) == 0 {
		c.calls = c.calls[:0]
	}
	if !c.behind.IsZero() {
		c.behind = time.Time{}
		if len(c.calls) > 0 && c.calls[len(c.calls)-1].ahead > 0 {
			c.watchBehind(now.Add(c.patience))
		}
	}
	if call.trial > 0 {
		c.tested--
	}
	if !call.Repeatable {
		c.plain--
	}
	x := Exchange{Took: now.Sub(call.sent), Reused: c.used}
	c.used = true
	stop := c.stop
	c.stop = nil
	c.mu.Unlock()
	if stop != nil {
		x.Stalled = stop()
	}
	if call.ahead == 0 {
		if shared := c.shared(); shared != nil {
			x.Closed = !x.Reused && !resp.KeepAlive
			shared.Exchanged(x)
		}
	}
	call.Response, call.more = resp, c.r.Buffered() > 0
	if depth.Unreadable(resp.Status) && (call.trial > 0 || c.pool.tests(c)) { // or what the pod read was more than this request
		call.Behind = true
		c.pool.troubled(c, depth.Status, NewStatusError(resp))
	}
	if !call.leased {
		c.pool.answered(c, call, resp.KeepAlive, now, b)
	}
	call.Done(call, b)
	if !resp.KeepAlive {
		return errClosing
	}
	return nil
}

// shared is the limit that others use, too; nil if nobody else does.
func (c *conn) shared() Shared {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return c.pod.shared
}

// kill ends the connection with what is under way on it.
func (c *conn) kill(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	_ = c.SetReadDeadline(time.Unix(1, 0))
}

// fail ends the connection, and all calls that are under way on it.
func (c *conn) fail(err error, b *Batch) {
	acknowledged, known := uint64(0), false
	if errors.Is(err, io.EOF) {
		acknowledged, known = c.acknowledged()
	}
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	cause, calls, taken := c.err, c.calls, c.out.End() // who has put a request there and not written it yet does not do so now
	c.calls, c.failed = nil, true
	stop := c.stop
	c.stop = nil
	used := c.used
	c.mu.Unlock()
	_ = c.Close()
	if stop != nil {
		stop()
	}
	trouble := c.pool.ended(c, b) && !errors.Is(err, errClosing)
	if trouble {
		c.pool.troubled(c, depth.WhyEnded(cause, errStalled), cause)
	}
	for _, call := range calls {
		call.Err = cause
		unread := call.end-uint64(len(call.Request)) >= taken || known && call.end > acknowledged ||
			errors.Is(err, errClosing) // what is behind that response was not read (RFC 9112 section 9.6)
		if unread && !errors.Is(cause, ErrUnread) {
			call.Err = fmt.Errorf("%w: %w", ErrUnread, cause)
		}
		call.Behind = call.ahead > 0 || trouble
		if errors.Is(call.Err, ErrUnread) && (call.Behind || used && !call.replaced) && !call.leased {
			call.replaced = call.replaced || !call.Behind
			if c.pool.Send(call, b) && call.Waits != nil {
				call.Waits(call)
			}
			continue
		}
		call.Done(call, b)
	}
}

// watch has idle connections to the pod closed as often as the patience with the first
// response on a connection ends, until stop, which says whether it did.
func (c *conn) watch(patience time.Duration) (stop func() bool) {
	var mu sync.Mutex
	var t *time.Timer
	stalled, done := false, false
	mu.Lock()
	defer mu.Unlock()
	t = time.AfterFunc(patience, func() {
		mu.Lock()
		defer mu.Unlock()
		if done {
			return
		}
		stalled = true
		shared := c.shared()
		if shared != nil {
			shared.Stalled()
		} else {
			c.pool.CloseIdle(c.f.name, c.pod.addr)
		}
		t.Reset(c.pool.patienceOf(shared))
	})
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		done = true
		t.Stop()
		return stalled
	}
}

// patienceOf is how long the first response on a connection may take; shared is the pod's limit.
func (s *Standalone) patienceOf(shared Shared) time.Duration {
	if shared == nil {
		return s.stall
	}
	return max(shared.Patience(), time.Millisecond)
}
