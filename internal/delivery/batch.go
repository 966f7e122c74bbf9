package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/pool"
	"eproxy/internal/request"
)

// batches are the requests of several messages that are being put together, by function. Each message has its own
// attempts, deadline and outcome; an attempt is its part in one batch.
type batches struct {
	mu   sync.Mutex
	open map[string]*batch
}

// batch is the messages of one request.
type batch struct {
	engine *Engine
	fn     *config.Function
	ctx    context.Context // ends when no message is left in it
	cancel context.CancelFunc
	timer  *time.Timer // that closes it

	mu    sync.Mutex
	items []*item
	bytes int // of the body
}

// item is a message in a batch.
type item struct {
	single *single
	event  []byte
	result chan result // of the attempt, one
	sent   bool        // the attempt is under way, or over; of its batch's mu
}

// result is how an attempt ended for one message.
type result struct {
	pod      netip.AddrPort
	response *pool.Response
	err      error
}

// send makes an attempt along with other messages; begun is false if the message's waiting ended before.
func (b *batches) send(x *single) (r result, begun bool) {
	i := &item{single: x, event: request.Event(x.fn, x.m, x.id), result: make(chan result, 1)}
	in := b.enter(i)
	select {
	case r = <-i.result:
		return r, true
	case <-x.waiting().Done():
	}
	if in.withdraw(i) {
		return r, false
	}
	return <-i.result, true
}

// enter puts a message in a batch, which is its own if it is to be alone.
func (b *batches) enter(i *item) *batch {
	if !i.single.alone {
		return b.join(i)
	}
	in := newBatch(i.single.engine, i.single.fn, i.single.ctx)
	in.add(i, len(i.event)+1)
	go in.run()
	return in
}

func newBatch(e *Engine, fn *config.Function, ctx context.Context) *batch {
	in := &batch{engine: e, fn: fn, bytes: 1}
	in.ctx, in.cancel = context.WithCancel(ctx)
	return in
}

// join puts a message in its function's open batch, and closes that when it is full.
func (b *batches) join(i *item) *batch {
	fn, size := i.single.fn, len(i.event)+1
	b.mu.Lock()
	defer b.mu.Unlock()
	in := b.open[fn.Name]
	if in != nil && !in.takes(fn, size) {
		b.close(in)
		in = nil
	}
	if in == nil {
		in = b.begin(i.single.engine, fn, i.single.ctx)
	}
	if in.add(i, size) >= fn.Batch.MaxMessages {
		b.close(in)
	}
	return in
}

// begin opens a batch; b.mu is held.
func (b *batches) begin(e *Engine, fn *config.Function, ctx context.Context) *batch {
	in := newBatch(e, fn, ctx)
	if b.open == nil {
		b.open = make(map[string]*batch)
	}
	b.open[fn.Name] = in
	in.timer = time.AfterFunc(fn.Batch.Linger, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.close(in)
	})
	return in
}

// close lets no more messages into a batch, and sends it; once. b.mu is held.
func (b *batches) close(in *batch) {
	if b.open[in.fn.Name] == in {
		delete(b.open, in.fn.Name)
		in.timer.Stop()
		go in.run()
	}
}

// takes says whether a batch has room for an event of this function, which a reload may have changed.
func (in *batch) takes(fn *config.Function, size int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.fn == fn && (len(in.items) == 0 || in.bytes+size <= fn.Batch.MaxBytes)
}

func (in *batch) add(i *item, size int) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.items = append(in.items, i)
	in.bytes += size
	return len(in.items)
}

// withdraw takes out a message whose waiting has ended; false if its attempt is under way.
func (in *batch) withdraw(i *item) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if i.sent {
		return false
	}
	if at := slices.Index(in.items, i); at >= 0 {
		in.items = slices.Delete(in.items, at, at+1)
		in.bytes -= len(i.event) + 1
	}
	if len(in.items) == 0 {
		in.cancel()
	}
	return true
}

// run sends the batch when there is a connection. Where it is refused as a whole, each message goes once more alone: one
// that the function will never have does not keep the others from it.
func (in *batch) run() {
	defer in.cancel()
	l, err := in.engine.acquire(in.ctx, in.fn, "", nil)
	items := in.seal()
	switch {
	case len(items) == 0:
		if l != nil {
			l.Release()
		}
		return
	case err != nil:
		tell(items, result{err: err})
		return
	}
	r := in.attempt(l, items)
	if len(items) > 1 && r.err == nil && final(in.fn, pool.NewStatusError(r.response)) {
		for _, i := range items {
			in.alone(i)
		}
		return
	}
	if r.err == nil && r.response.Status == http.StatusMultiStatus {
		tellEach(items, r)
		return
	}
	tell(items, r)
}

// seal has the batch sent as it is, without the messages that wait no longer.
func (in *batch) seal() []*item {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.items = slices.DeleteFunc(in.items, func(i *item) bool {
		i.sent = i.single.begin()
		return !i.sent
	})
	return slices.Clone(in.items)
}

// alone sends one message of the batch by itself.
func (in *batch) alone(i *item) {
	l, err := in.engine.acquire(i.single.waiting(), in.fn, i.single.m.ClientID, nil)
	if err != nil {
		i.result <- result{err: err}
		return
	}
	r := in.attempt(l, []*item{i})
	if r.err == nil && r.response.Status == http.StatusMultiStatus {
		tellEach([]*item{i}, r)
		return
	}
	i.result <- r
}

func (in *batch) attempt(l pool.Lease, items []*item) result {
	events := make([][]byte, len(items))
	for n, i := range items {
		events[n] = i.event
	}
	// The server's context, not the batch's: messages that wait no longer have their attempt all the same.
	resp, err := in.engine.attempt(items[0].single.ctx, in.fn, l, request.Batch(in.fn, events))
	return result{pod: l.Pod(), response: resp, err: err}
}

func tell(items []*item, r result) {
	for _, i := range items {
		i.result <- r
	}
}

// errParts: the function has answered 207, and not said what became of each message.
var errParts = errors.New("207 without a JSON array of one status for each event")

// tellEach tells each message its own status: 207 has them in the order of the batch, as [200, 503] or [{"status": 200}, ...].
func tellEach(items []*item, r result) {
	statuses, err := readStatuses(r.response.Body, len(items))
	for n, i := range items {
		if err != nil {
			i.result <- result{pod: r.pod, err: err}
			continue
		}
		i.result <- result{pod: r.pod, response: &pool.Response{Status: statuses[n], Header: r.response.Header, KeepAlive: r.response.KeepAlive}}
	}
}

func readStatuses(body []byte, n int) ([]int, error) {
	var parts []json.RawMessage
	if json.Unmarshal(body, &parts) != nil || len(parts) != n {
		return nil, fmt.Errorf("%w: %d events", errParts, n)
	}
	out := make([]int, n)
	for i, p := range parts {
		var part struct {
			Status int `json:"status"`
		}
		if json.Unmarshal(p, &out[i]) == nil {
			part.Status = out[i]
		} else if json.Unmarshal(p, &part) != nil {
			return nil, fmt.Errorf("%w: %d events", errParts, n)
		}
		if out[i] = part.Status; out[i] < 200 || out[i] > 599 {
			return nil, fmt.Errorf("%w: a status of %d", errParts, out[i])
		}
	}
	return out, nil
}
