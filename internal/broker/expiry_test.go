package broker

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/config"
	"eproxy/test/lib/bubble"
)

// TestSessionEndsWithItsAccount: at the moment at which the account expires its session is over, on both paths, and its
// client is disconnected; not before, and nothing is left of one that ended earlier.
func TestSessionEndsWithItsAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := mayDo()
		var refused outcomes
		s, err := New(Options{Config: cfg, Recorder: &refused, Frontend: func(*Server) (Frontend, error) { return nobody{}, nil }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		open := func(client string, left time.Duration) (*Session, *notedPeer) {
			id := Identity{ClientID: client, Username: "dev", Account: accountOf(t, cfg, "dev"), Remote: netip.MustParseAddrPort("192.0.2.1:1")}
			id.Account.Expires = time.Now().Add(left)
			p := &notedPeer{}
			return s.Open(id, &Connect{ClientID: client, Version: 5}, p, nil), p
		}
		short, peer := open("short", time.Hour)
		long, _ := open("long", 2*time.Hour)
		gone, _ := open("gone", time.Hour)
		gone.Stop()
		bubble.Pass(t, time.Hour-time.Nanosecond)
		mustMay(t, short, "before", "a", true)
		if short.Over() || peer.over() {
			t.Error("the session ended before its account")
		}
		bubble.Pass(t, time.Nanosecond)
		mustMay(t, long, "of another account", "a", true)
		if !short.Over() || !peer.over() || long.Over() {
			t.Errorf("over: %v, disconnected: %v, another one: %v", short.Over(), peer.over(), long.Over())
		}
		if refused.count("login_expired") != 1 {
			t.Errorf("counted %d times, want once", refused.count("login_expired"))
		}
		late, _ := open("late", 0)
		if !late.Over() {
			t.Error("an account that has expired has a session")
		}
		id := late.Identity // as its will would be judged
		if r := s.rules.Load().rights(id); r.mayPublish("a") || r.maySubscribe("a") {
			t.Error("an expired account has rights")
		}
	})
}

// TestLoginIsRenewed: a session whose login a service has accepted goes on while that says so, has the rights that it says
// then, and ends when it says no.
func TestLoginIsRenewed(t *testing.T) {
	var answer atomic.Pointer[string]
	say := func(s string) { answer.Store(&s) }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s := *answer.Load(); s != "" {
			_, _ = io.WriteString(w, s)
			return
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &config.Config{Auth: config.Auth{HTTP: &config.Hook{URL: u, Timeout: 10 * time.Second, Valid: time.Hour}}}
	cfg.Limits.InflightPerClient = 1
	var refused outcomes
	s, err := New(Options{Config: cfg, Recorder: &refused, Frontend: func(*Server) (Frontend, error) { return nobody{}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	say(`{"publish": ["a"]}`)
	c := &Connect{ClientID: "c", Username: "dev", Version: 5}
	id, code := s.Authenticate(c)
	if code != CodeSuccess {
		t.Fatalf("refused with %#x", code)
	}
	p := &notedPeer{}
	x := s.Open(id, c, p, nil)
	mustMay(t, x, "at first", "a", true)
	if x.renewing == nil || x.expiring == nil {
		t.Error("nobody asks again")
	}
	say(`{"publish": ["b"]}`)
	x.renew() // as its timer does
	mustMay(t, x, "renewed", "a", false)
	mustMay(t, x, "renewed", "b", true)
	say("")
	x.renew()
	if !x.Over() || refused.count("login_withdrawn") != 1 {
		t.Errorf("over: %v, counted %d times", x.Over(), refused.count("login_withdrawn"))
	}
}
