// Package delivery brings one message to its function: attempts, backoff,
// fan-out, dead letters.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/lograte"
	"eproxy/internal/pool"
	"eproxy/internal/request"
	"eproxy/internal/traffic"
)

// MQTT 5 reason codes of Outcome (section 2.4).
const (
	CodeSuccess       = 0x00
	CodeUnspecified   = 0x80
	CodeNotAccepted   = 0x83 // "implementation specific error": the receiver is not willing to accept it
	CodeQuotaExceeded = 0x97
)

// Outcome is how a message ended.
type Outcome struct {
	Acked        bool // success may be notified to the publisher: 2xx from all functions, or it is in a spool, or where dead letters are to be
	Status       int  // last HTTP status, of an earlier attempt if the last one had no response; 0: there was none
	ReasonCode   byte // MQTT 5
	Response     *pool.Response
	Err          error
	Function     string
	Topic        string
	DeadLettered bool
	Expired      bool // its Message Expiry Interval passed before a function had it
	Late         bool // its deadline passed first
	Overload     bool // it gave way to others, or there was no room for it
	Interrupted  bool // the server ended first: neither a success nor a failure, its client has it
	Lost         bool // QoS 0: the function may have read it, but has not answered; it is not sent again
	Spooled      bool // it is in the function's spool, on disk, and is delivered from there
	Rejected     bool // the function has answered that it will not have it, whenever it is sent
}

// delivered is the name of the best outcome.
const delivered = "delivered"

// Outcomes are the names that outcomes have.
var Outcomes = []string{delivered, "dead_letter", "rejected", "failed", "deadline", "overload", "expired", "interrupted", "lost"}

// Name is the outcome's name in metrics.
func (o Outcome) Name() string {
	switch {
	case o.Expired:
		return "expired"
	case o.Lost:
		return "lost"
	case o.Interrupted:
		return "interrupted"
	case o.DeadLettered:
		return "dead_letter"
	case o.Spooled:
		return "spooled"
	case o.Acked:
		return delivered
	case o.Rejected:
		return "rejected"
	case o.Late:
		return "deadline"
	case o.Overload:
		return "overload"
	}
	return "failed"
}

// Recorder counts; all methods may be called at any time.
type Recorder interface {
	Request(function, pod string, status int)
	DeadLetter(function string)
}

// Options of New.
type Options struct {
	Logger   *slog.Logger
	Recorder Recorder // may be nil
	// Activate is called, in a goroutine of its own, when a message waits for a function that has no
	// pod: once, until it has had one, or nothing has waited for it meanwhile. May be nil.
	Activate func(function string)
	// Patience is how long a message for a function that has no pod waits for one at least, also beyond the function's
	// deadline. May be nil: no longer.
	Patience func(function string) time.Duration
	// Served is how many requests a pod of a function's has answered 2xx on another path than the engine's.
	// May be nil.
	Served func(function string, pod netip.AddrPort) uint64
}

// Engine delivers messages.
type Engine struct {
	log   *slog.Logger
	often *lograte.Logger
	rec   Recorder
	state atomic.Pointer[state]
	id    atomic.Uint64
	dead  deadLetters
	again poison
	// served counts the messages that each function has answered 2xx, by its name.
	served          sync.Map // *atomic.Uint64
	servedElsewhere func(function string, pod netip.AddrPort) uint64
	patience        func(function string) time.Duration

	queues  queues
	spools  spools
	batches batches
	outside atomic.Int64 // bytes of messages that wait outside of queues
}

type state struct {
	cfg  *config.Config
	pool pool.Pool
}

// New makes an engine for a configuration's functions.
func New(cfg *config.Config, p pool.Pool, opts Options) *Engine {
	e := &Engine{log: opts.Logger, rec: opts.Recorder, servedElsewhere: opts.Served, patience: opts.Patience}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.often = lograte.New(e.log)
	e.id.Store(rand.Uint64())
	e.queues.activate = opts.Activate
	e.Reload(cfg, p)
	return e
}

// Reload takes over a configuration; messages under way end under the old one.
func (e *Engine) Reload(cfg *config.Config, p pool.Pool) {
	e.state.Store(&state{cfg, p})
	e.queues.follow(cfg)
	e.spools.follow(e, cfg)
}

// Park makes what waits for a function in the kernel a part of its queue: both together keep its bounds.
func (e *Engine) Park(function string, p Parked) { e.queues.of(function).park(p) }

// Concurrency is that of a function's pods; 0: there is no such function.
func (e *Engine) Concurrency(function string) int {
	if fn := e.state.Load().cfg.Function(function); fn != nil {
		return fn.Concurrency
	}
	return 0
}

// deadline is how long a message for a function may wait that comes now.
func (e *Engine) deadline(fn *config.Function) time.Duration {
	if len(fn.Pods) > 0 || e.patience == nil {
		return fn.Deadline
	}
	return max(fn.Deadline, e.patience(fn.Name))
}

// EachQueued tells how many messages userspace holds for each function that there is, and for how many its queue has room:
// metrics.QueueSource.
func (e *Engine) EachQueued(each func(function string, messages, limit int)) {
	cfg := e.state.Load().cfg
	e.queues.each(func(name string, held, limit bounds) {
		if cfg.Function(name) != nil {
			each(name, held.messages, limit.messages)
		}
	})
}

// Load is what userspace has had of a function's messages: each from its arrival, also in the programs, to its
// end. Those that the programs took are not counted as arrived.
func (e *Engine) Load(function string, now time.Duration) traffic.Sum {
	return e.queues.of(function).track.Sum(now)
}

// Held is how many messages of a function userspace has: those that wait, also for room in the queue, and those with an
// attempt under way.
func (e *Engine) Held(function string) int { return e.queues.of(function).count() }

// Finished adds a message that the programs took at that time, and that ended now without being delivered here.
func (e *Engine) Finished(function string, arrived, now time.Duration) {
	t := &e.queues.of(function).track
	t.Begin(arrived, true)
	t.End(arrived, now)
}

// PublishWith has dead letters published to the subscribers of their topics: publish returns nil when they are where the subscribers' sessions are kept.
func (e *Engine) PublishWith(publish func(*request.Message) error) { e.dead.publish.Store(&publish) }

// CloseSpools closes the spools, for good. Whoever publishes dead letters is to be there until then.
func (e *Engine) CloseSpools() { e.spools.closeAll(e) }

// Close closes the spools, and logs what was counted and not yet logged.
func (e *Engine) Close() {
	e.CloseSpools()
	e.often.Close()
}

// NextID is a new ce-id: unique, 16 hexadecimal digits.
func (e *Engine) NextID() string {
	var b [16]byte
	id := strconv.AppendUint(b[:0], e.id.Add(1), 16)
	return "0000000000000000"[len(id):] + string(id)
}

// Delivery is one message on its way to the functions of its route.
type Delivery struct {
	Arrived time.Time
	singles []*single
	failed  *Outcome // of functions that do not exist

	one   single     // most messages have one function
	array [1]*single // of singles
}

// arrive makes the delivery of a message that arrived at this moment.
func (e *Engine) arrive(ctx context.Context, route *config.Route, m *request.Message, arrived time.Time) *Delivery {
	d := &Delivery{Arrived: arrived}
	d.singles = d.array[:0]
	cfg := e.state.Load().cfg
	for _, name := range route.Functions {
		fn := cfg.Function(name)
		if fn == nil { // a reload has removed it
			d.failed = &Outcome{Function: name, Topic: m.Topic, ReasonCode: CodeUnspecified, Err: fmt.Errorf("function %s: %w", name, pool.ErrNoPod)}
			continue
		}
		request.Begin(fn, m)
		x := &d.one
		if len(d.singles) > 0 {
			x = &single{}
		}
		x.init(ctx, e, fn, m, arrived, false)
		d.singles = append(d.singles, x)
	}
	return d
}

// Deliver brings a message that nobody waits with to all functions of its route: where their
// queues are full, it is given up.
func (e *Engine) Deliver(ctx context.Context, route *config.Route, m *request.Message) Outcome {
	d := e.arrive(ctx, route, m, time.Now())
	for _, x := range d.singles {
		x.push()
	}
	defer d.Release()
	return d.Run()
}

// DeliverRequest sends these very bytes until they are answered, counting from
// an attempt that was made elsewhere, where the message was counted; lastErr is how that one ended. turn is closed when
// the message may be sent; nil: at once.
func (e *Engine) DeliverRequest(ctx context.Context, fn *config.Function, req []byte, m *request.Message, arrived time.Time, turn <-chan struct{}, attempts int, lastErr error) Outcome {
	x := &single{request: req, turn: turn}
	x.init(ctx, e, fn, m, arrived, true)
	x.push()
	x.run(attempts, lastErr)
	return *x.result
}

// Run delivers the message. Acked only if each function has answered 2xx, or its
// dead letter is on disk.
func (d *Delivery) Run() Outcome {
	if len(d.singles) == 1 {
		d.singles[0].run(0, nil)
	} else {
		d.fanOut()
	}
	return d.outcome()
}

// Abandon ends the message, which has not been run, where it has not ended by itself while it
// waited for its places, and returns its outcome. Places are kept until Release.
func (d *Delivery) Abandon() Outcome {
	for _, x := range d.singles {
		if x.result == nil {
			o := x.outcome(errGone)
			o.Interrupted = true
			x.settle(o)
		}
	}
	return d.outcome()
}

// outcome is that of all functions together, each of which has one.
func (d *Delivery) outcome() Outcome {
	if d.failed != nil {
		return *d.failed
	}
	worst := d.singles[0].result
	for _, x := range d.singles {
		switch {
		case !x.result.Acked && !x.result.Rejected: // there is something to be had by sending it again
			return *x.result
		case !x.result.Acked && worst.Acked:
			worst = x.result
		}
	}
	return *worst
}

// fanOut sends the message to all its functions at the same time. A panic is the
// caller's to recover from, whichever of them it was.
func (d *Delivery) fanOut() {
	var wg sync.WaitGroup
	var fault atomic.Pointer[any]
	for _, x := range d.singles {
		wg.Go(func() {
			defer func() {
				if cause := recover(); cause != nil {
					fault.Store(&cause)
				}
			}()
			x.run(0, nil)
		})
	}
	wg.Wait()
	if cause := fault.Load(); cause != nil {
		panic(*cause)
	}
}

// Release gives up the places that the message still has, also if it was not delivered; once.
func (d *Delivery) Release() {
	d.Abandon()
	for _, x := range d.singles {
		x.release()
	}
}

// Start begins to deliver the message as Run does, but waits for nothing, and says whether it does; if
// not, it is to be run. end.Ended is called once when the message has ended, perhaps before Start
// returns; what it has to write is in the batch. Where something has to be waited for after all, end.Go does it.
func (d *Delivery) Start(b *pool.Batch, end Ender) bool {
	if len(d.singles) != 1 || d.failed != nil {
		return false
	}
	return d.singles[0].start(d, b, end)
}

// Ender is who has started a delivery.
type Ender interface {
	// Ended is told the outcome; it does not wait.
	Ended(o Outcome, b *pool.Batch)
	// Go runs f in another goroutine.
	Go(f func())
	// Contain is deferred by what is done for the message in goroutines that serve others,
	// and recovers from a panic.
	Contain()
}

// acquire waits for a connection to one of the function's pods, in a client's turn.
func (e *Engine) acquire(ctx context.Context, fn *config.Function, client string, avoid []netip.AddrPort) (pool.Lease, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return e.state.Load().pool.Acquire(ctx, fn.Name, client, avoid)
}

// attempt is one exchange with one pod.
func (e *Engine) attempt(ctx context.Context, fn *config.Function, l pool.Lease, req []byte) (*pool.Response, error) {
	defer l.Release()
	ctx, cancel := context.WithTimeout(ctx, fn.Timeout)
	defer cancel()
	resp, err := l.Do(ctx, req)
	if e.rec != nil {
		status := 0
		if resp != nil {
			status = resp.Status
		}
		e.rec.Request(fn.Name, l.Pod().String(), status)
	}
	return resp, err
}

// statusOf is the HTTP status that an attempt failed with; 0: there was no response.
func statusOf(err error) int {
	if s, ok := errors.AsType[*pool.StatusError](err); ok {
		return s.Status
	}
	return 0
}

// giveUp writes the dead letter, if the function has one. A lost message has none:
// it may have been delivered.
func (e *Engine) giveUp(fn *config.Function, m *request.Message, o Outcome, attempts int) Outcome {
	e.often.Warn("message not delivered", fn.Name, "function", fn.Name, "topic", m.Topic, "client", m.ClientID, "attempts", attempts, "error", o.Err)
	if o.Lost {
		return o
	}
	if fn.DeadLetter == nil {
		if o.Rejected = o.Rejected || e.again.tooOften(fn.Name, m, o, e.servedBy(fn)); o.Rejected {
			o.ReasonCode = CodeNotAccepted
		}
		return o
	}
	if err := e.dead.write(fn.DeadLetter, newLetter(fn, m, o, attempts)); err != nil {
		e.log.Error("dead letter not written", "function", fn.Name, "error", err)
		o.Err, o.Rejected = fmt.Errorf("%w; %w", o.Err, err), false // it is to be kept, and only its client has it
		return o
	}
	if e.rec != nil {
		e.rec.DeadLetter(fn.Name)
	}
	o.Acked, o.DeadLettered, o.ReasonCode = true, true, CodeSuccess
	return o
}

// serve counts a message that a function has answered 2xx.
func (e *Engine) serve(function string) {
	n, ok := e.served.Load(function)
	if !ok {
		n, _ = e.served.LoadOrStore(function, new(atomic.Uint64))
	}
	n.(*atomic.Uint64).Add(1)
}

// servedBy is how many messages a function has answered 2xx, on all paths.
func (e *Engine) servedBy(fn *config.Function) (sum uint64) {
	if n, ok := e.served.Load(fn.Name); ok {
		sum = n.(*atomic.Uint64).Load()
	}
	if e.servedElsewhere != nil {
		for _, pod := range fn.Pods {
			sum += e.servedElsewhere(fn.Name, pod)
		}
	}
	return sum
}

// final says whether an attempt failed so that another one cannot do better.
func final(fn *config.Function, err error) bool {
	return slices.Contains(fn.Retry.Final, statusOf(err))
}

// retryAfter is how long a function wants to wait for the next attempt; 0: it has not said.
func retryAfter(err error) time.Duration {
	if s, ok := errors.AsType[*pool.StatusError](err); ok {
		return s.RetryAfter
	}
	return 0
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// sleep waits, unless ctx ends first.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
