package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"eproxy/test/lib/load"
)

// arrivalLog is what the function has read since it was asked last.
type arrivalLog struct {
	Count       int
	First, Last time.Time
	P50, P99    time.Duration // from sending to having read the body
}

// mostArrivals bounds what the function remembers.
const mostArrivals = 1 << 20

// noteArrivals serves the log at a Unix socket, where GET takes it and PEEK does not, and returns what reads a body.
func noteArrivals(ctx context.Context, path string) (read func(io.Reader), err error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var log arrivalLog
	var delays []time.Duration
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodGet && len(delays) > 0 {
			slices.Sort(delays)
			log.P50, log.P99 = delays[len(delays)/2], delays[len(delays)*99/100]
		}
		_ = json.NewEncoder(w).Encode(log)
		if r.Method == http.MethodGet {
			log, delays = arrivalLog{}, delays[:0]
		}
	})}
	go func() { _ = srv.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	return func(body io.Reader) {
		b, _ := io.ReadAll(body)
		now := time.Now()
		sent, ok := load.Stamp(b)
		mu.Lock()
		defer mu.Unlock()
		if log.Count++; log.Count == 1 {
			log.First = now
		}
		log.Last = now
		if ok && len(delays) < mostArrivals {
			delays = append(delays, now.Sub(sent))
		}
	}, nil
}

// arrivals is the log of a function elsewhere.
type arrivals struct {
	path   string
	client *http.Client
}

func newArrivals(path string) *arrivals {
	return &arrivals{path, &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}}
}

func (a *arrivals) ask(ctx context.Context, method string) (log arrivalLog, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://function/", nil)
	if err != nil {
		return log, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return log, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&log); err != nil {
		return log, fmt.Errorf("log of the function: %w", err)
	}
	return log, nil
}

// take returns the log and begins a new one.
func (a *arrivals) take(ctx context.Context) (arrivalLog, error) { return a.ask(ctx, http.MethodGet) }

// How long a chain may take to have delivered all, and without delivering anything.
const (
	drainLimit = 20 * time.Second
	stallLimit = time.Second
)

// await waits until the function has read so many messages, or gets no more.
func (a *arrivals) await(ctx context.Context, want int) error {
	moved, had := time.Now(), -1
	for end := moved.Add(drainLimit); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		log, err := a.ask(ctx, "PEEK")
		if err != nil {
			return err
		}
		if log.Count >= want || time.Since(moved) > stallLimit {
			return nil
		}
		if log.Count != had {
			moved, had = time.Now(), log.Count
		}
	}
	return nil
}
