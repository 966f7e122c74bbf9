package netns

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// behaviour is how a Go function answers; n counts its requests from 1.
type behaviour func(n int64, w http.ResponseWriter, r *http.Request)

func ok(_ int64, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") }

func noContent(_ int64, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }

func closing(n int64, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	ok(n, w, r)
}

func chunked(_ int64, w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "ok")
	w.(http.Flusher).Flush()
	_, _ = io.WriteString(w, "ay\n")
}

// slowness is how long slow functions take.
const slowness = 2 * time.Second

func slow(n int64, w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(slowness):
	case <-r.Context().Done():
	}
	ok(n, w, r)
}

// everyThird fails two of three requests.
func everyThird(n int64, w http.ResponseWriter, r *http.Request) {
	if n%3 != 0 {
		w.WriteHeader(500)
		return
	}
	ok(n, w, r)
}

// requestsPerConnection is what limited servers allow.
const requestsPerConnection = 100

type connectionKey struct{}

// limited announces the end of a connection with its last request; countPerConnection
// must have counted.
func limited(n int64, w http.ResponseWriter, r *http.Request) {
	if r.Context().Value(connectionKey{}).(*atomic.Int64).Add(1) >= requestsPerConnection {
		closing(n, w, r)
		return
	}
	ok(n, w, r)
}

func countPerConnection(s *http.Server) {
	s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, new(atomic.Int64))
	}
}
