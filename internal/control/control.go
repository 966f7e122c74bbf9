// Package control is the loader's control socket: HTTP with JSON on a Unix
// socket that only root can open. mapsctl's verbs, and what only the running
// loader knows, go through it.
package control

import (
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
	"syscall"
	"time"

	"eproxy/internal/broker"
)

// Errors of the client's side.
var (
	// ErrNotRunning means that no loader listens on the socket.
	ErrNotRunning = errors.New("no loader is running")
	// ErrNoClient means that no client of that identifier is connected.
	ErrNoClient = errors.New("no such client is connected")
)

// timeout bounds one request.
const timeout = 10 * time.Second

// Path is the socket of the loader whose pins are in this directory.
func Path(bpffs string) string { return filepath.Join("/run/eproxy", filepath.Base(bpffs)+".sock") }

// Sessions are the clients that a loader serves.
type Sessions interface {
	Clients() []broker.Client
	Kick(clientID string) bool
}

// Serve answers on the socket until stop is called, which removes it. A socket
// that a dead loader left is replaced; the caller holds the lock of the pins, so
// that no other lives.
func Serve(path string, s Sessions) (stop func(), err error) {
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
	srv := &http.Server{Handler: handler(s), ReadHeaderTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, MaxHeaderBytes: 1 << 17}
	go func() { _ = srv.Serve(l) }()
	return func() { _ = errors.Join(srv.Close(), l.Close()) }, nil
}

// listen makes the socket with mode 0600 from its first moment on. The umask is
// the process's: nothing else is created while a loader starts.
func listen(path string) (net.Listener, error) {
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return net.Listen("unix", path)
}

func handler(s Sessions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/clients", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Clients())
	})
	mux.HandleFunc("DELETE /v1/clients", func(w http.ResponseWriter, r *http.Request) {
		if !s.Kick(r.URL.Query().Get("id")) {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// Client speaks to a loader.
type Client struct {
	http *http.Client
	path string
}

// Dial finds the loader whose pins are in this directory.
func Dial(bpffs string) *Client {
	path := Path(bpffs)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{path: path, http: &http.Client{Timeout: timeout, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

func (c *Client) do(ctx context.Context, method, target string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://loader"+target, nil)
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
		return nil, fmt.Errorf("control socket %s: only root may use it", c.path)
	}
	return nil, fmt.Errorf("control socket %s: %w", c.path, errors.Unwrap(err))
}

// Clients are the connected clients, by identifier.
func (c *Client) Clients(ctx context.Context) ([]broker.Client, error) {
	res, err := c.do(ctx, http.MethodGet, "/v1/clients")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var out []broker.Client
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return nil, fmt.Errorf("control socket %s: the response is not what a loader of this version sends", c.path)
	}
	return out, nil
}

// Kick ends a client's session. It returns ErrNoClient if there is none.
func (c *Client) Kick(ctx context.Context, clientID string) error {
	res, err := c.do(ctx, http.MethodDelete, "/v1/clients?id="+url.QueryEscape(clientID))
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
