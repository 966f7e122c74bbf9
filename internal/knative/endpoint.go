package knative

import (
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// Bounds of an endpoint: whoever reaches the pod reaches it.
const (
	connections = 16
	readTimeout = 5 * time.Second
	idleTimeout = 90 * time.Second
	maxHeader   = 8 << 10
)

// endpoint answers scrapes in a pod.
type endpoint struct {
	server *http.Server
	stat   atomic.Pointer[[]byte] // the latest Stat
}

// serve answers at a listener, which close closes.
func serve(l net.Listener, log *slog.Logger) *endpoint {
	e := &endpoint{}
	e.stat.Store(new([]byte))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", e.answer)
	e.server = &http.Server{Handler: mux, ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: readTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go func() { _ = e.server.Serve(netutil.LimitListener(l, connections)) }()
	return e
}

func (e *endpoint) close() { _ = e.server.Close() }

// set has a Stat answered from now on.
func (e *endpoint) set(s Stat) {
	b := s.Append(make([]byte, 0, MaxStat))
	e.stat.Store(&b)
}

func (e *endpoint) answer(w http.ResponseWriter, r *http.Request) {
	if !accepts(r.Header.Values("Accept")) {
		http.Error(w, "only "+ContentType+" is to be had here", http.StatusNotAcceptable)
		return
	}
	w.Header().Set("Content-Type", ContentType)
	_, _ = w.Write(*e.stat.Load())
}

// accepts says whether a client takes the format of a Stat.
func accepts(values []string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if t, _, err := mime.ParseMediaType(part); err == nil && (t == ContentType || t == "*/*" || t == "application/*") {
				return true
			}
		}
	}
	return len(values) == 0
}
