// Package control is the loader's control socket: HTTP with JSON on a Unix
// socket that only root can open. mapsctl's verbs, and what only the running
// loader knows, go through it.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"eproxy/internal/broker"
	"eproxy/internal/instances"
	"eproxy/internal/trace"
)

// Errors of the client's side.
var (
	// ErrNotRunning means that no loader listens on the socket.
	ErrNotRunning = errors.New("no loader is running")
	// ErrNoClient means that no client of that identifier is connected.
	ErrNoClient = errors.New("no such client is connected")
	// ErrRefused means that a change was not made, and nothing has changed.
	ErrRefused = errors.New("refused")
	// ErrChanged means that a change could not be made as it was wanted, nor undone: the
	// running configuration is another now.
	ErrChanged = errors.New("the running configuration has changed and could not be changed back")
	// ErrUnknown means that it is not known whether a change was made.
	ErrUnknown = errors.New("whether the change was made is not known, see what runs now")
)

const (
	// timeout bounds one request.
	timeout = 10 * time.Second
	// changeTimeout bounds a change: it waits for sources of pods, for counters of earlier
	// routes, and for a reload that is under way.
	changeTimeout = 2 * time.Minute
)

// maxChange is how long a change may be, in bytes: more than the longest topic.
const maxChange = 1 << 17

// Path is the socket of the loader whose pins are in this directory.
func Path(bpffs string) string { return filepath.Join("/run/eproxy", filepath.Base(bpffs)+".sock") }

// Sessions are the clients that a loader serves.
type Sessions interface {
	Clients() []broker.Client
	Kick(clientID string) bool
	Explain(clientID, topic string) broker.Explanation
}

// Instances are those of functions that a loader runs.
type Instances interface {
	Instances() []instances.Status
	Functions() []instances.FunctionStatus
}

// Tracer shows messages: trace.Hub.
type Tracer interface {
	Watch(ctx context.Context, f trace.Filter, begun func() error, show func(trace.Event) error) error
}

// Change is what one of mapsctl's verbs changes.
type Change struct {
	Verb     string `json:"verb"`               // of Verbs
	Function string `json:"function,omitempty"` // of all but routes del
	Pod      string `json:"pod,omitempty"`      // address:port, of pods
	Topic    string `json:"topic,omitempty"`    // of routes
	Save     bool   `json:"save,omitempty"`     // in the configuration file, too
}

// The verbs of a Change.
const (
	PodsAdd         = "pods add"
	PodsDrain       = "pods drain"
	PodsDelete      = "pods del"
	RoutesAdd       = "routes add"
	RoutesDelete    = "routes del"
	FunctionsPause  = "functions pause"
	FunctionsResume = "functions resume"
)

// Changer makes changes; an error means that nothing has changed, unless it wraps
// ErrChanged.
type Changer interface {
	Change(ctx context.Context, c Change) error
}

// Served is who answers, each its part.
type Served struct {
	Sessions  Sessions
	Changer   Changer
	Instances Instances
	Letters   Letters
	Tracer    Tracer
	Metrics   http.Handler // those that Prometheus gets
}

// Serve answers on the socket until stop is called, which removes it, and returns when whoever was answered has been left, so that what
// they used can be given up; who does not end within 10 s is not waited for. A socket
// that a dead loader left is replaced; the caller holds the lock of the pins, so
// that no other lives.
func Serve(path string, s Served) (stop func(), err error) {
	return serve(path, s, timeout)
}

// serve is Serve with a bound for one request that is no change.
func serve(path string, s Served, timeout time.Duration) (stop func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make directory of the control socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove an old control socket: %w", err)
	}
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	h := &counted{Handler: handler(s)}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, MaxHeaderBytes: 1 << 17}
	go func() { _ = srv.Serve(l) }()
	return func() {
		_ = errors.Join(srv.Close(), l.Close())
		h.wait(timeout)
	}, nil
}

// counted is a handler that knows whether it is answering.
type counted struct {
	http.Handler
	mu      sync.Mutex
	running sync.WaitGroup
	over    bool // nothing more is answered
}

// ServeHTTP answers, until wait is called.
func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	over := c.over
	if !over {
		c.running.Add(1)
	}
	c.mu.Unlock()
	if over {
		return
	}
	defer c.running.Done()
	c.Handler.ServeHTTP(w, r)
}

// wait returns when nothing is answered any more, or after this time.
func (c *counted) wait(most time.Duration) {
	c.mu.Lock()
	c.over = true
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		c.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(most):
	}
}

// listen makes the socket with mode 0600 from its first moment on. The umask is
// the process's: nothing else is created while a loader starts.
func listen(path string) (net.Listener, error) {
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return net.Listen("unix", path)
}

// allow gives a request that has been read more time. (A read deadline that passes while a
// request is handled cancels it.)
func allow(w http.ResponseWriter, d time.Duration) {
	r, until := http.NewResponseController(w), time.Now().Add(d)
	_ = errors.Join(r.SetReadDeadline(until), r.SetWriteDeadline(until))
}

func handler(s Served) http.Handler {
	mux := http.NewServeMux()
	handleLetters(mux, s.Letters)
	mux.HandleFunc("GET /v1/clients", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Sessions.Clients())
	})
	mux.HandleFunc("GET /v1/explanation", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		q := r.URL.Query()
		_ = json.NewEncoder(w).Encode(s.Sessions.Explain(q.Get("client"), q.Get("topic")))
	})
	mux.Handle("GET /v1/metrics", s.Metrics)
	mux.HandleFunc("GET /v1/trace", func(w http.ResponseWriter, r *http.Request) { answerTrace(w, r, s.Tracer) })
	mux.HandleFunc("GET /v1/instances", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Instances.Instances())
	})
	mux.HandleFunc("GET /v1/functions", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Instances.Functions())
	})
	mux.HandleFunc("DELETE /v1/clients", func(w http.ResponseWriter, r *http.Request) {
		if !s.Sessions.Kick(r.URL.Query().Get("id")) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /v1/changes", func(w http.ResponseWriter, r *http.Request) {
		var x Change
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxChange))
		d.DisallowUnknownFields()
		if err := d.Decode(&x); err != nil {
			http.Error(w, "not a change that this loader knows", http.StatusBadRequest)
			return
		}
		allow(w, changeTimeout)
		if err := s.Changer.Change(r.Context(), x); err != nil {
			status := http.StatusConflict
			if errors.Is(err, ErrChanged) {
				status = http.StatusInternalServerError
			}
			line, _, _ := strings.Cut(err.Error(), "\n")
			http.Error(w, line, status)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// Client speaks to a loader.
type Client struct {
	http    *http.Client
	path    string
	changes time.Duration // how long a change may take
}

// Dial finds the loader whose pins are in this directory.
func Dial(bpffs string) *Client {
	path := Path(bpffs)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{path: path, changes: changeTimeout, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// do makes a request; ctx bounds it and the reading of its response.
func (c *Client) do(ctx context.Context, method, target string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://loader"+target, body)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	switch {
	case err == nil:
		return res, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: nothing listens on %s", ErrNotRunning, c.path)
	case errors.Is(err, fs.ErrPermission):
		return nil, said{fs.ErrPermission, fmt.Sprintf("control socket %s: only root may use it", c.path)}
	}
	return nil, fmt.Errorf("control socket %s: %w", c.path, errors.Unwrap(err))
}

// said is what the loader says of an error, in its words.
type said struct {
	error
	text string
}

func (s said) Error() string { return s.text }

// Unwrap is which error it is.
func (s said) Unwrap() error { return s.error }

// Clients are the connected clients, by identifier.
func (c *Client) Clients(ctx context.Context) ([]broker.Client, error) {
	var out []broker.Client
	err := c.get(ctx, "/v1/clients", &out)
	return out, err
}

// Explain is what the MQTT server says of a client and a topic.
func (c *Client) Explain(ctx context.Context, clientID, topic string) (broker.Explanation, error) {
	var out broker.Explanation
	err := c.get(ctx, "/v1/explanation?"+url.Values{"client": {clientID}, "topic": {topic}}.Encode(), &out)
	return out, err
}

// Instances are those of functions that the loader runs, by function and number.
func (c *Client) Instances(ctx context.Context) ([]instances.Status, error) {
	var out []instances.Status
	err := c.get(ctx, "/v1/instances", &out)
	return out, err
}

// Functions are those that the loader runs instances of, by name.
func (c *Client) Functions(ctx context.Context) ([]instances.FunctionStatus, error) {
	var out []instances.FunctionStatus
	err := c.get(ctx, "/v1/functions", &out)
	return out, err
}

// get reads what the loader says.
func (c *Client) get(ctx context.Context, target string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, err := c.do(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if json.NewDecoder(res.Body).Decode(out) != nil {
		return fmt.Errorf("control socket %s: the response is not what a loader of this version sends", c.path)
	}
	return nil
}

// Metrics reads the loader's metrics, in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, err := c.do(ctx, http.MethodGet, "/v1/metrics", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("control socket %s: metrics: %s", c.path, res.Status)
	}
	return read(res.Body)
}

// Kick ends a client's session. It returns ErrNoClient if there is none.
func (c *Client) Kick(ctx context.Context, clientID string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	res, err := c.do(ctx, http.MethodDelete, "/v1/clients?id="+url.QueryEscape(clientID), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusNotFound:
		return fmt.Errorf("client %q: %w", clientID, ErrNoClient)
	}
	b, _ := io.ReadAll(io.LimitReader(res.Body, 200))
	return fmt.Errorf("client %q: the loader refuses (%s): %s", clientID, res.Status, strings.TrimSpace(string(b)))
}

// Change makes a change. The error wraps ErrRefused if the loader did not make it,
// ErrChanged if it could neither make it as a whole nor undo it, and ErrUnknown if the
// loader has said nothing.
func (c *Client) Change(ctx context.Context, x Change) error {
	body, err := json.Marshal(x)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.changes)
	defer cancel()
	res, err := c.do(ctx, http.MethodPost, "/v1/changes", bytes.NewReader(body))
	switch {
	case errors.Is(err, ErrNotRunning) || errors.Is(err, fs.ErrPermission):
		return err
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent {
		return nil
	}
	b, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
	why := strings.TrimSpace(string(b))
	if res.StatusCode == http.StatusInternalServerError {
		return said{ErrChanged, why}
	}
	return fmt.Errorf("%w, nothing has changed: %s", ErrRefused, why)
}
