package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/request"
	"eproxy/internal/spool"
	"eproxy/internal/tracecontext"
)

const (
	// drainers is how many clients of a function have their spooled messages delivered at a time.
	drainers = 16
	// unservedRounds is how many times in a row a spooled message has been tried in vain, and its function has served others since, before the
	// next time is its last: it is one that the function does not survive.
	unservedRounds = 3
	// windowAlone is how many messages of a client are read at once; they are delivered one after the other.
	windowAlone = 64
	// spoolEnd is how long attempts under way may take at the end of the program.
	spoolEnd = 5 * time.Second
	// diskEnd is how much longer what is on its way to the disk may take.
	diskEnd = 5 * time.Second
)

// spooled is the record of a message in a spool.
type spooled struct {
	Letter
	ID        string    `json:"id"` // ce-id
	Expires   time.Time `json:"expires,omitzero"`
	Trace     string    `json:"traceparent,omitempty"`
	TraceMade bool      `json:"trace_made,omitempty"`
	Ordered   bool      `json:"ordered,omitempty"` // of an ordered route
}

func (x *single) encode() []byte {
	r := spooled{Letter: *newLetter(x.fn, x.m, Outcome{}, 0), ID: x.id, Expires: x.m.Expires, Ordered: x.turn != nil}
	if t := x.m.Trace; t != nil {
		r.Trace, r.TraceMade = t.Context.String(), t.Made
	}
	b, _ := json.Marshal(r) // of strings, numbers and bytes
	return b
}

// decode is the message of a record.
func decode(record []byte) (m *request.Message, ordered bool, err error) {
	var r spooled
	if err := json.Unmarshal(record, &r); err != nil {
		return nil, false, err
	}
	m = r.Message()
	m.EventID, m.Expires, m.MessageExpiry = r.ID, r.Expires, r.MessageExpiry
	if c, ok := tracecontext.Parse(r.Trace); ok {
		m.Trace = &request.Trace{Context: c, Made: r.TraceMade}
	}
	return m, r.Ordered, nil
}

// inSpool is a message's part in its function's spool.
type inSpool struct {
	spool    *spool.Spool // nil: the function has none, or the message is in it, or in a file of dead letters
	order    spool.Order
	record   []byte // what it has room for there; nil: none
	encoded  []byte // what it wants room for, while it waits for that outside of the queue; nil: it was not encoded yet
	stays    bool   // it comes from the disk, and stays there while its function does not serve
	alone    bool   // it is in no batch with others: it may be what its function does not survive
	hopeless bool   // it comes from the spool, and has been there for too long
}

// arrive enters the message among those that spooled ones wait for; x.m and x.queue are set.
func (x *single) arrive(arrived time.Time) {
	if x.stays {
		return
	}
	if x.spool = x.queue.spool.Load(); x.spool != nil {
		x.order = x.spool.Arrived(x.m.ClientID, arrived)
	}
}

// follows says whether messages of the client are in the spool, which this one must not overtake.
func (x *single) follows() bool { return x.spool != nil && x.spool.Follows(x.m.ClientID) }

// standBehind has a message whose turn has come stand behind those of its client that have gone to the spool meanwhile: there, which it says, or
// until they have gone from it, or its waiting ends.
func (x *single) standBehind() (spilled bool) {
	for x.turn != nil && x.spool != nil {
		freed := x.spool.Freed()
		switch {
		case !x.follows():
			return false
		case x.spill():
			return true
		}
		select {
		case <-freed:
		case <-x.waiting().Done():
			return false
		}
	}
	return false
}

// spill gets the message room in the spool, if it may wait there: whoever waits for a response does not wait so long.
func (x *single) spill() bool {
	if x.spool == nil || x.record != nil || x.m.ResponseTopic != "" {
		return false
	}
	if x.encoded == nil {
		x.encoded = x.encode()
	}
	if !x.spool.Reserve(x.m.ClientID, len(x.encoded)) {
		return false
	}
	x.record, x.encoded = x.encoded, nil
	return true
}

// spooled writes the message to the spool, where it has room, and returns when it is on disk. If the spool was closed meanwhile
// the message is delivered as others are.
func (x *single) spooled() Outcome {
	o, ok := x.keep()
	if !ok {
		if !x.inside {
			x.push()
		}
		return x.deliver(0, nil)
	}
	return o
}

// keep is spooled; false: the spool was closed.
func (x *single) keep() (Outcome, bool) {
	record := x.record
	x.record = nil
	o := x.outcome(nil)
	if !x.spool.Put(x.m.ClientID, x.order, record) {
		return o, false
	}
	o.Acked, o.Spooled, o.ReasonCode = true, true, CodeSuccess
	return o, true
}

// part ends the message's part in the spool; once.
func (x *single) part() {
	if x.spool == nil {
		return
	}
	if x.record != nil {
		x.spool.Cancel(x.m.ClientID, len(x.record))
	}
	x.spool.Left(x.m.ClientID, x.order)
	x.spool = nil
}

// outage says whether a message was given up because its function does not serve, rather than for what the message is.
func outage(o Outcome) bool {
	if o.Rejected || o.Lost || o.Expired || o.Interrupted {
		return false
	}
	if o.Late || o.Overload {
		return true
	}
	switch statusOf(o.Err) {
	case 0, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// giveUp ends a message that was not delivered: its function's spool has it, or what the engine does with others.
func (x *single) giveUp(o Outcome, attempts int) Outcome {
	if outage(o) {
		if x.stays && !x.hopeless {
			return o
		}
		if x.hopeless {
			o.Err = with(errHopeless, o.Err)
		}
		if x.spill() {
			if kept, ok := x.keep(); ok {
				x.engine.often.Warn("message spooled: its function did not serve it in time", x.fn.Name, "function", x.fn.Name, "error", o.Err)
				kept.Status = o.Status
				return kept
			}
		}
	}
	return x.engine.giveUp(x.fn, x.m, o, attempts)
}

// spools are the functions' spools that are open.
type spools struct {
	following sync.Mutex         // one at a time opens and closes; it may take as long as the disk does
	refused   map[string]refusal // by function
	ended     bool               // none is opened any more

	mu   sync.Mutex
	open map[string]*draining // by function
}

// refusal is that a spool could not be opened.
type refusal struct {
	of   *config.Spool // of which configuration: another one may have put it right
	why  string        // as the log has it
	when time.Time
}

// reopen is how long a spool that could not be opened is left alone while the configuration stays the same: each try waits for its lock, and reads all
// of the file.
const reopen = 30 * time.Second

// due says whether a spool is to be tried.
func (r refusal) due(of *config.Spool) bool { return r.of != of || time.Since(r.when) >= reopen }

// of is a function's spool; nil: there is none.
func (s *spools) of(function string) *draining {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[function]
}

// set notes that a function has this spool from now on; nil: none.
func (s *spools) set(e *Engine, function string, d *draining) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d == nil {
		delete(s.open, function)
		e.queues.of(function).spool.Store(nil)
		return
	}
	if s.open == nil {
		s.open = make(map[string]*draining)
	}
	s.open[function] = d
	e.queues.of(function).spool.Store(d.Spool)
}

// all are those that are open now.
func (s *spools) all() map[string]*draining {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.open)
}

// draining is an open spool and who empties it.
type draining struct {
	*spool.Spool
	dir  string
	stop context.CancelFunc // no further attempt begins
	cut  context.CancelFunc // those under way end
	wg   sync.WaitGroup
}

// follow opens and closes spools as a configuration says. What cannot be opened is said, and its function has none: its clients wait
// as those of functions without.
func (s *spools) follow(e *Engine, cfg *config.Config) {
	s.following.Lock()
	defer s.following.Unlock()
	if s.ended {
		return
	}
	if s.refused == nil {
		s.refused = make(map[string]refusal)
	}
	for name, d := range s.all() {
		if fn := cfg.Function(name); fn == nil || fn.Queue.Spool == nil || fn.Queue.Spool.Dir != d.dir {
			s.close(e, name, d)
		}
	}
	for _, fn := range cfg.Functions {
		if fn.Queue.Spool == nil {
			continue
		}
		if d := s.of(fn.Name); d != nil {
			d.Limit(fn.Queue.Spool.Bytes)
			continue
		}
		before := s.refused[fn.Name]
		if !before.due(fn.Queue.Spool) {
			continue
		}
		d, err := e.openSpool(fn)
		if err != nil {
			if before.why != err.Error() {
				e.log.Error("spool not usable: messages of the function wait in their clients' connections instead", "function", fn.Name, "error", err)
			}
			s.refused[fn.Name] = refusal{fn.Queue.Spool, err.Error(), time.Now()}
			continue
		}
		delete(s.refused, fn.Name)
		s.set(e, fn.Name, d)
	}
}

// close closes a spool, and leaves its file. It does not wait for ever where the disk refuses what is to be written.
func (s *spools) close(e *Engine, name string, d *draining) {
	s.set(e, name, nil)
	d.stop()
	d.Stop()
	defer time.AfterFunc(spoolEnd, d.cut).Stop()
	defer time.AfterFunc(spoolEnd+diskEnd, d.Shut).Stop()
	d.wg.Wait()
	d.cut()
	rest := d.Stat()
	if err := d.Close(); err != nil {
		e.log.Error("spool not closed", "function", name, "error", err)
	}
	if rest.Messages > 0 {
		e.log.Warn("messages are left in the spool: they are delivered when the function has this spool again", "function", name, "dir", d.dir, "messages", rest.Messages)
	}
}

func (s *spools) closeAll(e *Engine) {
	s.following.Lock()
	defer s.following.Unlock()
	s.ended = true
	var wg sync.WaitGroup
	for name, d := range s.all() {
		wg.Go(func() { s.close(e, name, d) })
	}
	wg.Wait()
}

// openSpool opens a function's spool, and begins to deliver what is in it.
func (e *Engine) openSpool(fn *config.Function) (*draining, error) {
	s, err := spool.Open(fn.Queue.Spool.Dir, fn.Name, fn.Queue.Spool.Bytes, e.log)
	if err != nil {
		return nil, err
	}
	d := &draining{Spool: s, dir: fn.Queue.Spool.Dir}
	ctx, cut := context.WithCancel(context.Background())
	soft, stop := context.WithCancel(ctx)
	d.stop, d.cut = stop, cut
	if n := s.Stat(); n.Messages > 0 {
		e.log.Info("messages wait in the spool", "function", fn.Name, "dir", d.dir, "messages", n.Messages, "bytes", n.Bytes)
	}
	for range drainers {
		d.wg.Go(func() { e.drain(ctx, soft, fn.Name, s) })
	}
	return d, nil
}

// drain delivers what is in a spool until that is closed. When soft ends no further attempt begins, when ctx does those under way
// are cut off.
func (e *Engine) drain(ctx, soft context.Context, function string, s *spool.Spool) {
	for {
		fn := e.state.Load().cfg.Function(function)
		most := windowAlone
		if fn != nil && fn.Batch != nil {
			most = min(most, fn.Batch.MaxMessages)
		}
		w, err := s.Next(most)
		if err != nil {
			e.log.Error("spool cannot be read: messages of a client stay in it", "function", function, "error", err)
			continue
		}
		if w == nil {
			return
		}
		if fn = e.state.Load().cfg.Function(function); fn == nil {
			w.Failed(false, 0) // a reload closes the spool
			w.Done()
			continue
		}
		e.drainWindow(ctx, soft, fn, w)
	}
}

// drainWindow delivers messages of one client, in their order; those of a function with batches together, unless their route is ordered.
func (e *Engine) drainWindow(ctx, soft context.Context, fn *config.Function, w *spool.Window) {
	all := make([]*request.Message, len(w.Records))
	together := fn.Batch != nil && w.Unserved == 0 // one of them may be what the function does not survive
	for i, r := range w.Records {
		m, ordered, err := decode(r.Value)
		if err != nil { // its checksum is right: it is of another version of this program
			e.log.Error("spooled message cannot be read, and stays in the spool", "function", fn.Name, "client", w.Client, "error", err)
		}
		all[i], together = m, together && !ordered
	}
	results := make([]tried, len(all))
	var wg sync.WaitGroup
	for i, m := range all {
		if together {
			wg.Go(func() { results[i] = e.drainOne(ctx, soft, fn, w, i, m) })
		} else if results[i] = e.drainOne(ctx, soft, fn, w, i, m); results[i] != over {
			break
		}
	}
	wg.Wait()
	for _, r := range results {
		if r != over {
			w.Failed(r == unserved, e.servedBy(fn))
			break
		}
	}
	w.Done()
}

// tried is what came of trying to deliver a spooled message.
type tried int

const (
	untried  tried = iota // it has had no attempt, or not all of them
	unserved              // its function has served no attempt
	over                  // it has an outcome
)

// errHopeless is why a spooled message becomes a dead letter that its function never answers.
var errHopeless = errors.New("the function serves others, and does not answer this message")

// drainOne delivers the message of a record; nil: it could not be read.
func (e *Engine) drainOne(ctx, soft context.Context, fn *config.Function, w *spool.Window, i int, m *request.Message) tried {
	if soft.Err() != nil || m == nil {
		return untried
	}
	r := w.Records[i]
	if m.QoS == 0 && !w.Take(r) {
		return untried
	}
	x := &single{}
	x.stays, x.alone, x.hopeless = true, w.Unserved > 0, i == 0 && w.Unserved >= unservedRounds
	x.init(ctx, e, fn, m, time.Now(), false)
	defer context.AfterFunc(soft, func() { x.stop(errGone) })()
	if x.inside = x.queue.await(x.size, x.waiting()); x.inside {
		x.run(0, nil)
	} else {
		x.settle(x.unfinished(x.outcome(nil), 0))
	}
	switch o := *x.result; {
	case o.Acked, o.Rejected, o.Lost:
		w.End(r, o.Name())
		return over
	case o.Late, o.Overload, o.Interrupted:
		return untried
	}
	return unserved
}

// SpoolStat is what there is in a function's spool.
type SpoolStat struct {
	Function string
	Usable   bool // it is open
	spool.Stat
}

// EachSpool tells of the spools of the functions that are to have one; metrics.SpoolSource.
func (e *Engine) EachSpool(tell func(SpoolStat)) {
	for _, fn := range e.state.Load().cfg.Functions {
		if fn.Queue.Spool == nil {
			continue
		}
		s := SpoolStat{Function: fn.Name}
		if d := e.spools.of(fn.Name); d != nil {
			s.Usable, s.Stat = true, d.Stat()
		}
		tell(s)
	}
}
