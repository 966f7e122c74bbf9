package page

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eproxy/internal/config"
	"eproxy/internal/metrics"
)

const token = "0123456789abcdef0123456789abcdef"

func tokenFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// open serves a page of metrics that do not matter; stop is what its process's end is.
func open(t *testing.T) (p *Page, s *httptest.Server, stop context.CancelFunc) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	p, err := New(ctx, config.Metrics{Listen: "x", Page: true, TokenFile: tokenFile(t, token+"\n")}, metrics.New().Registry)
	if err != nil {
		t.Fatal(err)
	}
	s = httptest.NewServer(p)
	t.Cleanup(s.Close)
	t.Cleanup(stop)
	return p, s, stop
}

// reply is a response whose body is closed at the end of the test.
type reply struct {
	StatusCode int
	Header     http.Header
	Body       io.ReadCloser
}

func (r reply) cookies() []*http.Cookie { return (&http.Response{Header: r.Header}).Cookies() }

func ask(t *testing.T, method, address string, header ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return do(t, r)
}

// do sends a request and follows no redirection.
func do(t *testing.T, r *http.Request) reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // also for the body
	t.Cleanup(cancel)
	resp, err := http.DefaultTransport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return reply{resp.StatusCode, resp.Header, resp.Body}
}

// enter sends the form.
func enter(t *testing.T, address, token string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(url.Values{"token": {token}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return do(t, r)
}

// TestOffUnlessConfigured: without page there is none, and no route is minded.
func TestOffUnlessConfigured(t *testing.T) {
	p, err := New(t.Context(), config.Metrics{Listen: "x"}, metrics.New().Registry)
	if p != nil || err != nil {
		t.Error(p, err)
	}
	p.Routes(nil)
	p.States(nil)
}

// TestDoor: who sees the page: who has the token, in the header or as the cookie that it is exchanged for.
func TestDoor(t *testing.T) {
	p, s, _ := open(t)
	cookie := cookieName + "=" + p.door.cookie
	for _, c := range []struct {
		method, path string
		header       []string
		want         int
	}{
		{"GET", "/", nil, 401},
		{"GET", "/events", nil, 401},
		{"GET", "/", []string{"Authorization", "Bearer " + token}, 200},
		{"GET", "/", []string{"Authorization", "bearer " + token}, 200},
		{"HEAD", "/events", []string{"Authorization", "Bearer " + token}, 200},
		{"GET", "/", []string{"Authorization", "Bearer " + token[1:]}, 401},
		{"GET", "/", []string{"Authorization", "Bearer "}, 401},
		{"GET", "/", []string{"Authorization", "Basic " + token}, 401},
		{"GET", "/", []string{"Authorization", token}, 401},
		{"GET", "/", []string{"Cookie", cookie}, 200},
		{"HEAD", "/events", []string{"Cookie", cookie}, 200},
		{"GET", "/", []string{"Cookie", cookieName + "=" + token}, 401},
		{"GET", "/", []string{"Cookie", cookieName + "="}, 401},
		{"GET", "/events?token=" + token, nil, 401},
		{"GET", "/?token=" + token, nil, 200},
		{"GET", "/?token=" + token[1:], nil, 401},
		{"GET", "/?token=", nil, 401},
		{"GET", "/?token=x", []string{"Cookie", cookie}, 401},
		{"POST", "/", nil, 401},
		{"POST", "/events", []string{"Cookie", cookie}, 405},
		{"DELETE", "/", []string{"Cookie", cookie}, 405},
		{"GET", "/other", []string{"Cookie", cookie}, 404},
	} {
		r := ask(t, c.method, s.URL+c.path, c.header...)
		if r.StatusCode != c.want {
			t.Errorf("%s %s %q: status %d, want %d", c.method, c.path, c.header, r.StatusCode, c.want)
		}
		if got := r.Header.Get("Set-Cookie") != ""; got != (c.path == "/?token="+token) {
			t.Errorf("%s %s %q: a cookie is set: %v", c.method, c.path, c.header, got)
		}
	}
}

// TestCookie: the token goes into no cookie, no script reads it, no other site has it sent, and it opens the page; by a form, too.
func TestCookie(t *testing.T) {
	_, s, _ := open(t)
	for _, r := range []reply{enter(t, s.URL, token), ask(t, "GET", s.URL+"/?token="+token)} {
		if r.StatusCode != 200 || len(r.cookies()) != 1 {
			t.Fatal(r.StatusCode, r.cookies())
		}
		c := r.cookies()[0]
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || strings.Contains(c.Value, token) || c.Path != "/" || c.Domain != "" {
			t.Errorf("%v", c)
		}
		if got := ask(t, "GET", s.URL, "Cookie", c.Name+"="+c.Value).StatusCode; got != 200 {
			t.Errorf("with the cookie: %d", got)
		}
	}
	if r := enter(t, s.URL, strings.Repeat("x", 5*maxToken)); r.StatusCode != 400 {
		t.Errorf("a form that is too long: %d", r.StatusCode)
	}
}

// TestTokenFile: bad ones are refused, with what is wrong and where, and without what is in them.
func TestTokenFile(t *testing.T) {
	for _, text := range []string{"", "\n", "short", strings.Repeat("x", maxToken+1), token + " " + token, token + "\n" + token, token + "ä"} {
		file := tokenFile(t, text)
		_, err := New(t.Context(), config.Metrics{Page: true, TokenFile: file}, metrics.New().Registry)
		if err == nil || !strings.HasPrefix(err.Error(), "metrics.token_file: "+file) || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	if _, err := New(t.Context(), config.Metrics{Page: true, TokenFile: "/none"}, metrics.New().Registry); err == nil || !strings.Contains(err.Error(), "/none") {
		t.Error(err)
	}
}

// TestHeaders: no script or style but the page's own, by hash; nothing from elsewhere, nothing kept.
func TestHeaders(t *testing.T) {
	_, s, _ := open(t)
	for _, r := range []reply{ask(t, "GET", s.URL), ask(t, "GET", s.URL, "Authorization", "Bearer "+token), ask(t, "HEAD", s.URL+"/events", "Authorization", "Bearer "+token)} {
		csp := r.Header.Get("Content-Security-Policy")
		if !regexp.MustCompile(`^default-src 'none'; script-src 'sha256-[^ ]{44}'; style-src( 'sha256-[^ ]{44}'){2}; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'$`).MatchString(csp) {
			t.Error(csp)
		}
		for k, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"} {
			if got := r.Header.Get(k); got != want {
				t.Errorf("%s: %q, want %q", k, got, want)
			}
		}
	}
}

// TestTextIsNoMarkup: the page never makes markup of texts, and takes nothing from elsewhere.
func TestTextIsNoMarkup(t *testing.T) {
	for _, s := range []string{"innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "onclick=", "style=", "src=", "http://", "https://"} {
		text := strings.ReplaceAll(string(html)+string(login), `"http://www.w3.org/2000/svg"`, "")
		if strings.Contains(text, s) {
			t.Errorf("the page has %s", s)
		}
	}
}

// watch begins to look.
func watch(t *testing.T, s *httptest.Server) (reply, *bufio.Reader) {
	t.Helper()
	r := ask(t, "GET", s.URL+"/events", "Authorization", "Bearer "+token)
	return r, bufio.NewReader(r.Body)
}

// event reads one; none if the stream is over.
func event(t *testing.T, b *bufio.Reader) (name, data string) {
	t.Helper()
	for {
		l, err := b.ReadString('\n')
		if err != nil {
			return "", ""
		}
		switch k, v, _ := strings.Cut(strings.TrimSuffix(l, "\n"), ": "); k {
		case "event":
			name = v
		case "data":
			data = v
		case "":
			return name, data
		}
	}
}

// TestViewersAreBounded: one more than there may be is refused, until one of them has gone.
func TestViewersAreBounded(t *testing.T) {
	p, s, _ := open(t)
	var first reply
	for range maxViewers {
		r, b := watch(t, s)
		if name, _ := event(t, b); r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/event-stream" || name != "history" {
			t.Fatal(r.StatusCode, name)
		}
		first = r
	}
	if r, _ := watch(t, s); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %d", r.StatusCode)
	}
	_ = first.Body.Close()
	p.viewers <- struct{}{} // waits until the place is free
	<-p.viewers
	if r, _ := watch(t, s); r.StatusCode != 200 {
		t.Errorf("after one has gone: %d", r.StatusCode)
	}
}

// TestSlowViewer: who does not read loses his place.
func TestSlowViewer(t *testing.T) {
	p, s, _ := open(t)
	p.slow = 10 * time.Millisecond
	_, b := watch(t, s)
	if name, _ := event(t, b); name != "history" {
		t.Fatal(name)
	}
	long := &view{Routes: []line{{Name: strings.Repeat("x", 1<<20)}}}
	for late := time.Now().Add(15 * time.Second); len(p.viewers) > 0; {
		if time.Now().After(late) {
			t.Fatal("he has his place still")
		}
		p.feed.publish(long)
	}
}

// TestEventsEnd: with the process, also for who is looking.
func TestEventsEnd(t *testing.T) {
	_, s, stop := open(t)
	_, b := watch(t, s)
	if name, _ := event(t, b); name != "history" {
		t.Fatal(name)
	}
	stop()
	for name := ""; name != "end"; {
		if name, _ = event(t, b); name == "" {
			t.Fatal("the stream is over without saying so")
		}
	}
	if name, _ := event(t, b); name != "" {
		t.Errorf("%s after the end", name)
	}
}

// counts are metrics that a test sets.
func counts(t *testing.T) (*prometheus.Registry, *prometheus.CounterVec, *prometheus.CounterVec) {
	t.Helper()
	reg := prometheus.NewRegistry()
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{Name: metrics.MessagesName}, metrics.MessagesLabels)
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "eproxy_refused_total"}, []string{"reason"})
	reg.MustRegister(messages, refused)
	return reg, messages, refused
}

// TestFeed: a viewer gets the time line, then each reading, and who comes later gets what he has missed; no more than 15 minutes.
func TestFeed(t *testing.T) {
	reg, messages, _ := counts(t)
	f := newFeed(reg)
	c := messages.WithLabelValues("a/#", "f", "kernel", "1", "delivered")
	at := time.UnixMilli(1_000_000)
	const readings = points + 20
	_, _, next := f.latest()
	for n := range readings {
		c.Add(30)
		f.read(at.Add(time.Duration(n) * every))
	}
	<-next
	history, now, _ := f.latest()
	var h struct{ Points []point }
	var v view
	if err := json.Unmarshal(history, &h); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(now, &v); err != nil {
		t.Fatal(err)
	}
	if len(h.Points) != points-1 || cap(f.line) != points {
		t.Errorf("%d points of %d, room for %d", len(h.Points), points, cap(f.line))
	}
	for i, p := range append(h.Points, v.All) {
		if want := at.Add(time.Duration(readings-points+i) * every).UnixMilli(); p.At != want || p.Rate != 10 || p.Share != 100 {
			t.Fatalf("point %d: %+v", i, p)
		}
	}
	if v.All.Total != number(30*readings) {
		t.Errorf("%v messages", v.All.Total)
	}
}

// TestLook: totals are the metrics', routes without messages are there, refusals have their meaning; what is not known is null.
func TestLook(t *testing.T) {
	reg, messages, refused := counts(t)
	f := newFeed(reg)
	f.routes.Store(&[]*config.Route{{Filter: "a/#", Functions: []string{"f"}}, {Filter: "b", Functions: []string{"f", "g"}}})
	f.read(time.UnixMilli(0))
	messages.WithLabelValues("a/#", "f", "kernel", "1", "delivered").Add(6)
	messages.WithLabelValues("a/#", "f", "fallback", "1", "failed").Add(2)
	refused.WithLabelValues("malformed").Add(4)
	f.read(time.UnixMilli(2000))
	_, now, _ := f.latest()
	for _, want := range []string{
		`"all":{"at":2000,"total":8,"rate":4,"share":75,"p50":null,"p99":null,"errors":1}`,
		`"routes":[{"name":"a/#","function":"f","total":8,"rate":4,"in_flight":null,"waiting":null,"p50":null,"p99":null,"share":75,"errors":1},{"name":"b","function":"f","total":0,`,
		`{"name":"b","function":"g","total":0,`,
		`"functions":[{"name":"f","total":8,"rate":4,`, `{"name":"g","total":0,`,
		`"refused":[{"name":"malformed","meaning":"bytes that are no MQTT packet","total":4,"rate":2}]`,
	} {
		if !strings.Contains(string(now), want) {
			t.Errorf("no %s in %s", want, now)
		}
	}
}

// TestStatesOfFunctions: a function that the process runs has its state, why, and when its next message is expected; also one that no route
// leads to. Of others none is said, and without anybody who knows no function has one.
func TestStatesOfFunctions(t *testing.T) {
	reg, messages, _ := counts(t)
	f := newFeed(reg)
	p := &Page{feed: f}
	p.Routes([]*config.Route{{Filter: "a/#", Functions: []string{"f", "elsewhere"}}})
	f.read(time.UnixMilli(0))
	messages.WithLabelValues("a/#", "f", "kernel", "1", "delivered").Add(6)
	f.read(time.UnixMilli(2000))
	if _, now, _ := f.latest(); strings.Contains(string(now), `"state"`) {
		t.Errorf("states that nobody knows: %s", now)
	}
	p.States(func() []State {
		return []State{
			{Function: "f", Name: "paged-out", Instances: 1, Most: 4, Policy: "selector", Reason: "it had 40 MiB in memory, and has 2; it stays", NextFrom: 1764518400, NextTo: 1764518470.5},
			{Function: "unrouted", Name: "stopped", Most: 1, Reason: "it was stopped because others need its memory (runtime.memory)"},
		}
	})
	f.read(time.UnixMilli(4000))
	_, now, _ := f.latest()
	var v view
	if err := json.Unmarshal(now, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Functions) != 3 || v.Functions[0].Name != "elsewhere" || v.Functions[0].State != nil {
		t.Errorf("%s", now)
	}
	for _, want := range []string{
		`{"name":"f","total":6,"rate":0,`,
		`"state":{"name":"paged-out","instances":1,"most":4,"policy":"selector","reason":"it had 40 MiB in memory, and has 2; it stays","next_from":1764518400,"next_to":1764518470.5}}`,
		`{"name":"unrouted","total":0,`,
		`"state":{"name":"stopped","instances":0,"most":1,"policy":"","reason":"it was stopped because others need its memory (runtime.memory)","next_from":0,"next_to":0}}`,
	} {
		if !strings.Contains(string(now), want) {
			t.Errorf("no %s in %s", want, now)
		}
	}
}

// TestViewIsBounded: of many routes the busiest are shown, and how many more there are.
func TestViewIsBounded(t *testing.T) {
	more := map[string]int{}
	var all []line
	for n := range 300 {
		all = append(all, line{Name: fmt.Sprintf("%03d", n), Rate: number(n % 150)})
	}
	got := most(more, "routes", 100, all)
	if len(got) != 100 || more["routes"] != 200 || got[0].Name != "100" || got[99].Name != "299" {
		t.Errorf("%d, %v more, from %s to %s", len(got), more, got[0].Name, got[len(got)-1].Name)
	}
}

// TestNumber: JSON has neither NaN nor infinity.
func TestNumber(t *testing.T) {
	b, err := json.Marshal([]number{number(math.NaN()), number(math.Inf(1)), 0, 1e9, 1.23456})
	if err != nil || string(b) != "[null,null,0,1000000000,1.2346]" {
		t.Error(string(b), err)
	}
}

// TestServed: the page is beside /metrics, which stays as it is, and ends with the process.
func TestServed(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	free := httptest.NewServer(nil)
	address := free.Listener.Addr().String()
	free.Close()
	cfg := &config.Config{Metrics: config.Metrics{Listen: address, Page: true, TokenFile: tokenFile(t, token)}}
	if _, err := Serve(ctx, cfg, metrics.New()); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/": 401, "/events": 401, "/metrics": 200, "/healthz": 200, "/readyz": 503} {
		if got := ask(t, "GET", "http://"+address+path).StatusCode; got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	r := ask(t, "GET", "http://"+address+"/events", "Authorization", "Bearer "+token)
	stop()
	_, _ = io.Copy(io.Discard, r.Body) // comes to its end
}
