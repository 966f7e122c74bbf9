// Package metrics counts what userspace does, and serves all counters to
// Prometheus.
package metrics

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// What the kernel path reports under the same names: messages and durations with
// path="kernel", requests with the same label sets.
const (
	MessagesName = "eproxy_messages_total"
	MessagesHelp = "Routed messages that ended."
	DurationName = "eproxy_message_duration_seconds"
	DurationHelp = "From PUBLISH to the function's response."
	RequestsName = "eproxy_function_requests_total"
	RequestsHelp = "Requests to functions; code 0: no response."
)

var (
	MessagesLabels = []string{"route", "function", "path", "qos", "outcome"}
	DurationLabels = []string{"route", "path"}
	RequestsLabels = []string{"function", "pod", "code"}
)

// Buckets of durations are powers of two in nanoseconds, from 2^FirstBucket
// (33 microseconds) to 2^LastBucket (34 s), the programs' own.
const (
	FirstBucket = 15
	LastBucket  = 35
)

// Bound is the upper bound of bucket n in seconds.
func Bound(n int) float64 { return float64(uint64(1)<<n) / 1e9 }

// Metrics are the counters of the fallback path.
type Metrics struct {
	Registry    *prometheus.Registry
	messages    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	requests    *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
	refused     *prometheus.CounterVec
	gone        *prometheus.CounterVec
	connect     *prometheus.CounterVec
	strays      *prometheus.CounterVec
	trouble     *prometheus.CounterVec

	// The series that each message counts in, found once.
	ended    sync.Map // messageKey: *messageSeries
	answered sync.Map // requestKey: prometheus.Counter
	ready    atomic.Bool

	more []prometheus.TransactionalGatherer
}

// New makes a registry with the fallback's counters, except for Requests.
func New() *Metrics {
	m := &Metrics{Registry: prometheus.NewRegistry()}
	m.Registry.MustRegister(build(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collectors.NewGoCollector())
	m.messages = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: MessagesName, Help: MessagesHelp}, MessagesLabels)
	var buckets []float64
	for n := FirstBucket; n <= LastBucket; n++ {
		buckets = append(buckets, Bound(n))
	}
	m.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: DurationName, Help: DurationHelp, Buckets: buckets}, DurationLabels)
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: RequestsName, Help: RequestsHelp}, RequestsLabels)
	m.deadLetters = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "eproxy_dead_letters_total", Help: "Messages written to a dead letter file."}, []string{"function"})
	m.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "eproxy_refused_total", Help: "Connections and packets that the MQTT server refused."}, []string{"reason"})
	m.gone = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "eproxy_interfaces_gone_total", Help: "Interfaces that were deleted while programs were attached to them."}, []string{"interface"})
	m.connect = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "eproxy_connect_failures_total", Help: "Keep-alive connections to pods that did not come up."}, []string{"function", "pod"})
	m.trouble = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "eproxy_pipeline_troubles_total", Help: "Connections to pods on which one of several requests in flight was not answered as it should be."}, []string{"function", "pod", "reason"})
	m.strays = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "eproxy_stray_connections_total", Help: "Connections of devices that the kernel path never sees."}, []string{"reason"})
	m.Registry.MustRegister(m.messages, m.duration, m.deadLetters, m.refused, m.gone, m.connect, m.trouble, m.strays)
	return m
}

// Requests are the requests that userspace has sent. Where the kernel path sends
// some, too, both are reported together.
func (m *Metrics) Requests() prometheus.Collector { return m.requests }

// Message counts a routed message that userspace finished.
func (m *Metrics) Message(route, function string, qos byte, outcome string, took time.Duration) {
	key := messageKey{route, function, outcome, qos}
	found, ok := m.ended.Load(key)
	if !ok {
		found, _ = m.ended.LoadOrStore(key, &messageSeries{
			m.messages.WithLabelValues(route, function, "fallback", strconv.Itoa(int(qos)), outcome),
			m.duration.WithLabelValues(route, "fallback"),
		})
	}
	s := found.(*messageSeries)
	s.count.Inc()
	s.duration.Observe(took.Seconds())
}

type messageKey struct {
	route, function, outcome string
	qos                      byte
}

type messageSeries struct {
	count    prometheus.Counter
	duration prometheus.Observer
}

type requestKey struct {
	function, pod string
	status        int
}

// Refused counts what the server did not accept.
func (m *Metrics) Refused(reason string) { m.refused.WithLabelValues(reason).Inc() }

// Request counts one HTTP exchange.
func (m *Metrics) Request(function, pod string, status int) {
	key := requestKey{function, pod, status}
	found, ok := m.answered.Load(key)
	if !ok {
		found, _ = m.answered.LoadOrStore(key, m.requests.WithLabelValues(function, pod, strconv.Itoa(status)))
	}
	found.(prometheus.Counter).Inc()
}

// InterfaceGone counts an interface that was deleted under the programs.
func (m *Metrics) InterfaceGone(name string) { m.gone.WithLabelValues(name).Inc() }

// Stray counts a connection of a device that no program sees: translated, or elsewhere.
func (m *Metrics) Stray(reason string) { m.strays.WithLabelValues(reason).Inc() }

// ConnectFailed counts a connection to a pod that did not come up.
func (m *Metrics) ConnectFailed(function, pod string) { m.connect.WithLabelValues(function, pod).Inc() }

// PipelineTrouble counts a connection to a pod that ended with one of several requests unanswered.
func (m *Metrics) PipelineTrouble(function, pod, reason string) {
	m.trouble.WithLabelValues(function, pod, reason).Inc()
}

// DeadLetter counts a dead letter.
func (m *Metrics) DeadLetter(function string) { m.deadLetters.WithLabelValues(function).Inc() }

// Ready says whether clients are served: what /readyz answers. It is not so at first.
func (m *Metrics) Ready(yes bool) { m.ready.Store(yes) }

// answerReady is /readyz: 503 while clients are not served, or not any more.
func (m *Metrics) answerReady(w http.ResponseWriter, _ *http.Request) {
	if !m.ready.Load() {
		http.Error(w, "clients are not served", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

// Handler serves all counters in the formats of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return compressed(promhttp.HandlerForTransactional(transaction{m}, promhttp.HandlerOpts{DisableCompression: true}))
}

// compressed has what is served compressed in the fastest way for whom it may be: promhttp's own, gzip's default, takes seven
// times as long for text that gets a tenth smaller.
var compressed = func() func(http.Handler) http.HandlerFunc {
	wrap, err := gzhttp.NewWrapper(gzhttp.CompressionLevel(gzip.BestSpeed))
	if err != nil {
		panic(err) // of the options above only
	}
	return wrap
}()

// Serve serves /metrics, /healthz and /readyz until ctx ends, and everything else by rest, if there is one (nil: not found); an
// empty address serves nothing.
func (m *Metrics) Serve(ctx context.Context, address string, rest http.Handler) error {
	if address == "" {
		return nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("metrics listener: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", m.Handler())
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/readyz", m.answerReady)
	if rest != nil {
		mux.Handle("/", rest)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	go func() {
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			return
		}
	}()
	return nil
}
