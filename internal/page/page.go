package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eproxy/internal/config"
	"eproxy/internal/metrics"
)

// maxViewers is how many may look at the same time: each has a goroutine and a connection.
const maxViewers = 8

// writeTimeout is how long a viewer may take to receive an event, before it loses its place to others.
const writeTimeout = 10 * time.Second

//go:embed page.html
var html []byte

//go:embed login.html
var login []byte

// entered leads from the address with the token to the one without. It is no redirect, because a cookie that is SameSite=Strict does
// not come along on one that began with a link of another site.
const entered = `<!DOCTYPE html><meta charset="utf-8"><title>eproxy</title><meta http-equiv="refresh" content="0;url=/">`

// Page serves the page.
type Page struct {
	door    *door
	feed    *feed
	policy  string // Content-Security-Policy
	viewers chan struct{}
	slow    time.Duration // writeTimeout
}

// Check says why there would be no page as the configuration asks for it.
func Check(cfg config.Metrics) error {
	if !cfg.Page {
		return nil
	}
	_, err := openDoor(cfg.TokenFile)
	return err
}

// New makes the page of what a process counts, if the configuration asks for one; nil otherwise. It reads the metrics until
// ctx ends.
func New(ctx context.Context, cfg config.Metrics, counters prometheus.Gatherer) (*Page, error) {
	if !cfg.Page {
		return nil, nil
	}
	d, err := openDoor(cfg.TokenFile)
	if err != nil {
		return nil, err
	}
	p := &Page{door: d, feed: newFeed(counters), policy: policy(html, login), viewers: make(chan struct{}, maxViewers), slow: writeTimeout}
	go p.feed.run(ctx, every)
	return p, nil
}

// Serve serves a process's metrics, and the page where the configuration asks for it (otherwise it is nil), until ctx ends.
func Serve(ctx context.Context, cfg *config.Config, m *metrics.Metrics) (*Page, error) {
	p, err := New(ctx, cfg.Metrics, m)
	if err != nil {
		return nil, err
	}
	p.Routes(cfg.Routes)
	var rest http.Handler
	if p != nil {
		rest = p
	}
	return p, m.Serve(ctx, cfg.Metrics.Listen, rest)
}

// Routes says which routes there are: also those without messages are shown. It does nothing without a page.
func (p *Page) Routes(routes []*config.Route) {
	if p != nil {
		p.feed.routes.Store(&routes)
	}
}

// policy allows what is in the pages themselves, by its hash, and nothing else (CSP Level 3).
func policy(pages ...[]byte) string {
	sources := func(tag string) (out string) {
		for _, page := range pages {
			_, rest, found := bytes.Cut(page, []byte("<"+tag+">"))
			if inner, _, closed := bytes.Cut(rest, []byte("</"+tag+">")); found && closed {
				h := sha256.Sum256(inner)
				out += fmt.Sprintf(" 'sha256-%s'", base64.StdEncoding.EncodeToString(h[:]))
			}
		}
		return out
	}
	return "default-src 'none'; script-src" + sources("script") + "; style-src" + sources("style") +
		"; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}

// ServeHTTP serves the page under /, its events under /events, to those who have shown the token.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", p.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // the address may have the token in it
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if r.URL.Path != "/" && r.URL.Path != "/events" {
		http.NotFound(w, r)
		return
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if !reads && (r.URL.Path != "/" || r.Method != http.MethodPost) {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "the page is to be read only", http.StatusMethodNotAllowed)
		return
	}
	switch {
	case r.URL.Path == "/" && (r.Method == http.MethodPost || r.URL.Query().Has("token")):
		p.enter(w, r)
	case !p.door.known(r):
		h.Set("WWW-Authenticate", `Bearer realm="eproxy"`)
		write(w, http.StatusUnauthorized, login)
	case r.URL.Path == "/events":
		p.events(w, r)
	default:
		write(w, http.StatusOK, html)
	}
}

// enter exchanges the token for a cookie.
func (p *Page) enter(w http.ResponseWriter, r *http.Request) {
	token, err := shown(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !p.door.is(token) {
		write(w, http.StatusUnauthorized, login)
		return
	}
	p.door.remember(w)
	write(w, http.StatusOK, []byte(entered))
}

func write(w http.ResponseWriter, status int, page []byte) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page)
}

// events sends the last 15 minutes, and then each reading (server-sent events, HTML Living Standard section 9.2). Who is slow misses
// readings; none is kept for him.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	select {
	case p.viewers <- struct{}{}:
		defer func() { <-p.viewers }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d are looking already", maxViewers), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	out := http.NewResponseController(w)
	send := func(event string, data []byte) bool {
		if err := out.SetWriteDeadline(time.Now().Add(p.slow)); err != nil {
			return false
		}
		if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event, data); err != nil {
			return false
		}
		return out.Flush() == nil
	}
	history, now, next := p.feed.latest()
	for going := send("history", history); going; {
		if now != nil && !send("now", now) {
			return
		}
		select {
		case <-next:
			_, now, next = p.feed.latest()
		case <-p.feed.ended:
			_, _ = io.WriteString(w, "event: end\ndata: {}\n\n")
			return
		case <-r.Context().Done():
			return
		}
	}
}
