// Package spans exports what became of messages whose trace is sampled, as spans of OpenTelemetry, by OTLP over HTTP. It never waits
// for a message, nor a message for it: what finds no room is dropped, and counted.
package spans

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"eproxy/internal/request"
	"eproxy/internal/trace"
	"eproxy/internal/tracecontext"
	"eproxy/internal/urlerr"
)

const (
	// waiting is how many spans may wait: some 2 MiB.
	waiting = 4096
	// together is how many go in one request.
	together = 512
	// linger is how long the first of them waits for others.
	linger = time.Second
	// patience is how long the collector may take to answer.
	patience = 10 * time.Second
	// parting is how long what waits is tried to be exported at the end.
	parting = 2 * time.Second
	// maxBackoff is how long it is waited at most before the collector is tried again; the first time it is linger.
	maxBackoff = 30 * time.Second
	// tellEvery is how often the log says that spans are lost, while they are.
	tellEvery = time.Minute
	// maxAnswer is how much of an answer is read.
	maxAnswer = 64 << 10
)

// Exporter exports spans. A nil one exports none.
type Exporter struct {
	url    string
	node   string
	log    *slog.Logger
	client *http.Client
	queue  chan item
	down   bool          // the last attempt failed
	end    time.Time     // after which nothing is exported any more; zero: that is not foreseen
	lost   func() uint64 // spans of the programs that found no room; may be nil
	told   lostSpans     // what the log has said
	toldAt time.Time

	sent, dropped, failed, rejected atomic.Uint64
}

// New makes an Exporter to the collector at this base URL; nil: to none.
func New(collector *url.URL, log *slog.Logger) *Exporter {
	if collector == nil {
		return nil
	}
	node, _ := os.Hostname()
	return &Exporter{url: collector.JoinPath("v1", "traces").String(), node: node, log: log, client: &http.Client{Timeout: patience}, queue: make(chan item, waiting)}
}

// LostElsewhere has counted as dropped what this function counts; before Start.
func (e *Exporter) LostElsewhere(lost func() uint64) { e.lost = lost }

// On says whether spans are exported.
func (e *Exporter) On() bool { return e != nil }

// Ended exports a message's span, if its trace is sampled. It never waits.
func (e *Exporter) Ended(t *request.Trace, event trace.Event) {
	if e == nil || t == nil || t.Context.Flags&tracecontext.Sampled == 0 {
		return
	}
	select {
	case e.queue <- item{*t, event}:
	default:
		e.dropped.Add(1)
	}
}

// Start exports in the background until stop is called, which returns when what waits then is exported, or could not be.
func (e *Exporter) Start() (stop func()) {
	if e == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// run exports until ctx ends, and then what waits.
func (e *Exporter) run(ctx context.Context) {
	var batch []item
	for {
		if batch = e.collect(ctx, batch[:0]); len(batch) > 0 {
			e.keepOn(ctx, batch)
		}
		if ctx.Err() != nil {
			e.part()
			e.toldAt = time.Time{}
			e.tell()
			return
		}
		e.tell()
	}
}

// collect waits for spans that go together. None come back when there is something else to do.
func (e *Exporter) collect(ctx context.Context, batch []item) []item {
	select {
	case x := <-e.queue:
		batch = append(batch, x)
	case <-time.After(tellEvery):
		return batch
	case <-ctx.Done():
		return batch
	}
	timer := time.NewTimer(linger)
	defer timer.Stop()
	for len(batch) < together {
		select {
		case x := <-e.queue:
			batch = append(batch, x)
		case <-timer.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
	return batch
}

// keepOn exports a batch, again and again while the collector cannot be reached or wants it later. What comes meanwhile waits.
func (e *Exporter) keepOn(ctx context.Context, batch []item) {
	for backoff := linger; ctx.Err() == nil; backoff = min(2*backoff, maxBackoff) {
		err, again := e.post(ctx, batch)
		if err != nil && ctx.Err() != nil {
			break
		}
		e.say(err, again)
		e.tell()
		switch {
		case err == nil:
			return
		case !again:
			e.failed.Add(uint64(len(batch)))
			return
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
		}
	}
	e.try(batch)
}

// say logs when the collector takes no spans any more, and when it does again.
func (e *Exporter) say(err error, again bool) {
	switch {
	case err != nil && !e.down:
		e.log.Warn("spans are not exported", "error", err, "tried_again", again)
	case err == nil && e.down:
		e.log.Info("spans are exported again", "dropped_so_far", e.droppedSoFar())
	}
	e.down = err != nil
}

// part exports what waits at the end.
func (e *Exporter) part() {
	for {
		var batch []item
		for len(batch) < together && len(e.queue) > 0 {
			batch = append(batch, <-e.queue)
		}
		if len(batch) == 0 {
			return
		}
		e.try(batch)
	}
}

// try exports a batch once, at the end. While the collector is down it is not asked.
func (e *Exporter) try(batch []item) {
	if !e.down {
		if e.end.IsZero() {
			e.end = time.Now().Add(parting)
		}
		ctx, cancel := context.WithDeadline(context.Background(), e.end)
		defer cancel()
		err, _ := e.post(ctx, batch)
		if e.down = err != nil; !e.down {
			return
		}
		e.log.Warn("spans are not exported", "error", err)
	}
	e.failed.Add(uint64(len(batch)))
}

// retryable are statuses after which the same request may succeed later (OTLP specification, failures of OTLP/HTTP).
var retryable = []int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}

// post sends spans to the collector; again: it may succeed later.
func (e *Exporter) post(ctx context.Context, batch []item) (err error, again bool) {
	body, err := encode(e.node, batch)
	if err != nil {
		return err, false
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return err, false
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := e.client.Do(req)
	if err != nil {
		return urlerr.Short(err), true
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: answered %d", urlerr.Name(req.URL), resp.StatusCode), slices.Contains(retryable, resp.StatusCode)
	}
	n := min(rejectedIn(answer), uint64(len(batch)))
	e.rejected.Add(n)
	e.sent.Add(uint64(len(batch)) - n)
	return nil, false
}

// rejectedIn is how many spans an ExportTraceServiceResponse says were rejected: field 1 of its field 1.
func rejectedIn(answer []byte) (n uint64) {
	partial, _ := field(answer, 1, protowire.BytesType)
	_, n = field(partial, 1, protowire.VarintType)
	return n
}

// field is the last of that number in a message; nil and 0 if it has none, or is malformed.
func field(b []byte, number protowire.Number, kind protowire.Type) (inner []byte, v uint64) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, 0
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return nil, 0
		}
		if num == number && typ == kind {
			inner, _ = protowire.ConsumeBytes(b)
			v, _ = protowire.ConsumeVarint(b)
		}
		b = b[n:]
	}
	return inner, v
}
