// Package load makes the devices' load: the same structure for MQTT publishers
// and for HTTP clients that call the function directly, so that the two can be
// compared.
package load

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is one device's connection.
type Conn interface {
	// Send sends message number n without waiting for its response.
	Send(n int) error
	// Receive waits for the next responses and says which messages they end.
	Receive() ([]int, error)
	// Interrupt makes a Receive that waits return an error.
	Interrupt()
	Close() error
}

// pushed is a Conn that receives more than responses.
type pushed interface {
	// Done says whether it has received all of that.
	Done() bool
}

// Dialer opens device number i's connection.
type Dialer func(ctx context.Context, i int) (Conn, error)

// Plan is how much load there is.
type Plan struct {
	Connections int
	Rate        float64 // messages per second over all connections; 0: closed loop
	InFlight    int     // per connection, closed loop
	Duration    time.Duration
	Messages    int // per connection, closed loop; 0: as many as Duration allows, else Duration is how long they may take
	Group       int // messages are answered that many together, and sent so; 0: each by itself
}

// ErrUnfinished means that Plan.Messages were not answered within Plan.Duration.
// Run's result says what was.
var ErrUnfinished = errors.New("not finished in time")

// Result is what came of it.
type Result struct {
	Sent, Answered int
	Elapsed        time.Duration
	latencies      []time.Duration // sorted
	answers        [][]int         // of each connection, in each slice of the plan's time
}

// Rate is the answered messages per second.
func (r *Result) Rate() float64 { return float64(r.Answered) / r.Elapsed.Seconds() }

// Quantile is a latency from sending to the response.
func (r *Result) Quantile(q float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(int(q*float64(len(r.latencies))), len(r.latencies)-1)]
}

// slice is how finely answers are counted over time.
const slice = 100 * time.Millisecond

// SmallestShare is, over all spans of that length within the plan's time and all connections, the least part of
// an equal share of the answers that one had. 1: all had the same; 0: one had none for so long.
func (r *Result) SmallestShare(span time.Duration) float64 {
	smallest := 1.0
	if len(r.answers) == 0 {
		return smallest
	}
	n := int(span / slice)
	for from := 0; from+n <= len(r.answers[0]); from++ {
		total, least := 0, -1
		for _, a := range r.answers {
			sum := 0
			for _, c := range a[from : from+n] {
				sum += c
			}
			total += sum
			if least < 0 || sum < least {
				least = sum
			}
		}
		if total > 0 {
			smallest = min(smallest, float64(least*len(r.answers))/float64(total))
		}
	}
	return smallest
}

// ring is how many messages of a connection may be under way.
const ring = 4096

// worker is one connection with its open messages.
type worker struct {
	conn     Conn
	sentAt   [ring]atomic.Int64
	sent     int
	answered atomic.Int64
	total    atomic.Int64 // sent in all, -1 while sending
	lat      []time.Duration
	answers  []int         // by slice of the plan's time
	free     chan struct{} // closed loop: a response came
}

// Run makes the load. Connections are opened before the clock starts. It fails
// if a connection breaks or a response is missing ten seconds after the end, of a
// plan with Messages at the end.
func Run(ctx context.Context, dial Dialer, p Plan) (*Result, error) {
	workers := make([]*worker, p.Connections)
	for i := range workers {
		c, err := dial(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		defer c.Close()
		workers[i] = &worker{conn: c, free: make(chan struct{}, max(p.InFlight, 1)), lat: make([]time.Duration, 0, 1<<14), answers: make([]int, p.Duration/slice)}
	}
	limit := p.Duration
	if p.Messages == 0 {
		limit += 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		for _, w := range workers {
			w.conn.Close()
		}
	})
	defer stop()
	began := time.Now()
	errs := make(chan error, 2*len(workers))
	var senders, receivers sync.WaitGroup
	for i, w := range workers {
		w.total.Store(-1)
		senders.Go(func() {
			errs <- w.sendAll(p, began, i)
			w.finish()
		})
		receivers.Go(func() { errs <- w.receiveAll(began) })
	}
	senders.Wait()
	receivers.Wait()
	r := &Result{Elapsed: time.Since(began)}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, context.Canceled
	}
	var failed error
	for range 2 * len(workers) {
		failed = errors.Join(failed, <-errs)
	}
	for _, w := range workers {
		r.Sent += w.sent
		r.Answered += int(w.answered.Load())
		r.latencies = append(r.latencies, w.lat...)
		r.answers = append(r.answers, w.answers)
	}
	if p.Messages > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		failed = ErrUnfinished
	}
	sort.Slice(r.latencies, func(i, j int) bool { return r.latencies[i] < r.latencies[j] })
	if failed == nil && r.Answered != r.Sent {
		failed = fmt.Errorf("%d of %d messages answered", r.Answered, r.Sent)
	}
	return r, failed
}

func (w *worker) send(n int) error {
	w.sentAt[n%ring].Store(time.Now().UnixNano())
	w.sent = n + 1
	return w.conn.Send(n)
}

// sendAll sends until the plan's time is over.
func (w *worker) sendAll(p Plan, began time.Time, index int) error {
	end, group := began.Add(p.Duration), max(p.Group, 1)
	if p.Rate > 0 {
		// absolute deadlines: a late message does not delay the following ones
		gap := time.Duration(float64(time.Second) * float64(p.Connections) / p.Rate)
		at := began.Add(gap * time.Duration(index) / time.Duration(p.Connections))
		for n := 0; at.Before(end) || n%group != 0; n++ {
			time.Sleep(time.Until(at))
			if n-int(w.answered.Load()) >= ring {
				return errors.New("responses too far behind")
			}
			if err := w.send(n); err != nil {
				return err
			}
			at = at.Add(gap)
		}
		return nil
	}
	for n := 0; (time.Now().Before(end) || n%group != 0) && (p.Messages == 0 || n < p.Messages); n++ {
		if n >= p.InFlight {
			if _, ok := <-w.free; !ok {
				return nil
			}
		}
		if err := w.send(n); err != nil {
			return err
		}
	}
	return nil
}

// finish tells the receiver how many responses to expect, and wakes it if it has
// them all.
func (w *worker) finish() {
	w.total.Store(int64(w.sent))
	if w.answered.Load() == int64(w.sent) && w.pushesCame() {
		w.conn.Interrupt()
	}
}

func (w *worker) pushesCame() bool {
	p, ok := w.conn.(pushed)
	return !ok || p.Done()
}

// receiveAll notes responses until all that were sent are answered, and all that
// is pushed has come.
func (w *worker) receiveAll(began time.Time) error {
	defer close(w.free)
	for {
		ids, err := w.conn.Receive()
		at := time.Now()
		now := at.UnixNano()
		if i := int(at.Sub(began) / slice); i < len(w.answers) {
			w.answers[i] += len(ids)
		}
		for _, id := range ids {
			w.lat = append(w.lat, time.Duration(now-w.sentAt[id%ring].Load()))
			select {
			case w.free <- struct{}{}:
			default:
			}
		}
		answered := w.answered.Add(int64(len(ids)))
		if total := w.total.Load(); total >= 0 && answered == total && w.pushesCame() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("connection ended with %d messages answered: %w", answered, err)
		}
	}
}
