package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eproxy/internal/config"
	"eproxy/test/lib/bubble"
)

// login is the service's answer to a question.
type login struct {
	status int
	answer string
	err    error
}

// asks is a Checker whose service answers so, by user name, and the questions so far.
func asks(t *testing.T, answers map[string]login) (c *Checker, questions *[]question) {
	t.Helper()
	c, questions = New(nil), &[]question{}
	c.hook.post = func(_ context.Context, _ string, body []byte) (int, []byte, error) {
		var q question
		if err := json.Unmarshal(body, &q); err != nil {
			t.Error(err)
		}
		*questions = append(*questions, q)
		x := answers[q.Username]
		return x.status, []byte(x.answer), x.err
	}
	return c, questions
}

// hookAuth is a configuration with a service.
func hookAuth(t *testing.T) *config.Auth {
	t.Helper()
	u, err := url.Parse("http://login.local/mqtt")
	if err != nil {
		t.Fatal(err)
	}
	return &config.Auth{HTTP: &config.Hook{URL: u, Timeout: time.Second, Valid: time.Minute}}
}

// TestHookSaysWho: 200 and 204 let in, 401, 403 and 404 do not, and whatever is no answer lets nobody in.
func TestHookSaysWho(t *testing.T) {
	answers := map[string]login{
		"yes": {200, `{}`, nil}, "empty": {204, "", nil}, "named": {200, `{"username": "other"}`, nil},
		"401": {401, "", nil}, "403": {403, "", nil}, "404": {404, "", nil},
		"500": {500, `{}`, nil}, "307": {307, "", nil}, "201": {201, `{}`, nil}, "down": {0, "", errors.New("connection refused")},
		"text": {200, `yes`, nil}, "nothing": {200, ``, nil}, "two": {200, `{} {}`, nil}, "unknown": {200, `{"publsh": []}`, nil},
		"filter": {200, `{"publish": ["a/#/b"]}`, nil}, "shared": {200, `{"deny_subscribe": ["$share/g/a"]}`, nil},
		"null": {200, `null`, nil}, "null list": {200, `{"publish": null}`, nil}, "null name": {200, `{"username": null}`, nil}, "null filter": {200, `{"publish": [null]}`, nil},
		"list": {200, `[]`, nil}, "local": {200, `{}`, nil},
	}
	c, questions := asks(t, answers)
	cfg := hookAuth(t)
	cfg.Users = []config.User{{Username: "local", PasswordHash: mosquittoHash}}
	a := load(t, cfg)
	for user, want := range map[string]Result{
		"yes": Accepted, "empty": Accepted, "named": Accepted, "401": Refused, "403": Refused, "404": Refused, "500": Unavailable, "307": Unavailable,
		"201": Unavailable, "down": Unavailable, "text": Unavailable, "nothing": Unavailable, "two": Unavailable, "unknown": Unavailable, "filter": Unavailable,
		"shared": Unavailable, "null": Unavailable, "null list": Unavailable, "null name": Unavailable, "null filter": Unavailable, "list": Unavailable,
		"local": Refused, "": Unavailable,
	} {
		got := c.Check(a, Login{here, "c", user, []byte("secret")})
		if got.Result != want || want == Unavailable && got.Why == "" {
			t.Errorf("%q: %+v, want %v", user, got, want)
		}
		name := map[string]string{"named": "other"}[user]
		if name == "" {
			name = user
		}
		if want == Accepted && got.Account.Name != name {
			t.Errorf("%q: is %q", user, got.Account.Name)
		}
	}
	for _, q := range *questions {
		if q.ClientID != "c" || q.Password != "secret" || q.Address != "192.0.2.1" || q.Username == "local" {
			t.Errorf("asked %+v", q)
		}
	}
	if got := c.Check(a, Login{here, "c", "local", []byte("secret word")}); got.Result != Accepted {
		t.Errorf("an account of the configuration: %+v", got)
	}
	if got := c.Check(a, Login{here, "c", "yes", []byte("\xff")}); got.Result != Unusable {
		t.Errorf("a password that is no text: %+v", got)
	}
}

// TestHookRights: what the service says counts, and what the configuration denies is denied.
func TestHookRights(t *testing.T) {
	c, _ := asks(t, map[string]login{
		"dev":   {200, `{"publish": ["own/%u"], "deny_subscribe": ["own/#"]}`, nil},
		"plain": {204, "", nil},
	})
	cfg := hookAuth(t)
	cfg.Default = config.User{Publish: []string{"default"}, DenySubscribe: []string{"secret/#"}}
	a := load(t, cfg)
	for user, want := range map[string][4]bool{"dev": {true, false, false, false}, "plain": {false, true, true, false}} {
		u, ok := a.Rights(c.Check(a, Login{here, "c", user, nil}).Account)
		if got := [4]bool{u.MayPublish("c", "own/dev"), u.MayPublish("c", "default"), u.MaySubscribe("c", "own/x"), u.MaySubscribe("c", "secret/x")}; !ok || got != want {
			t.Errorf("%s: %v, want %v", user, got, want)
		}
	}
}

// TestHookIsAskedOnce: an answer is remembered for about half its time, a refusal for some seconds, and what is no answer not
// at all; of another password, client, or address nothing is known.
func TestHookIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, questions := asks(t, map[string]login{"yes": {204, "", nil}, "no": {403, "", nil}, "down": {500, "", nil}})
		a := load(t, hookAuth(t))
		asked := func(what, user, client, password string, want bool) {
			t.Helper()
			n := len(*questions)
			c.Check(a, Login{here, client, user, []byte(password)})
			if got := len(*questions) > n; got != want {
				t.Errorf("%s: asked %v", what, got)
			}
		}
		asked("first", "yes", "c", "p", true)
		asked("again", "yes", "c", "p", false)
		asked("other password", "yes", "c", "q", true)
		asked("other client", "yes", "d", "p", true)
		asked("refused", "no", "c", "p", true)
		asked("refused again", "no", "c", "p", false)
		asked("down", "down", "c", "p", true)
		asked("down again", "down", "c", "p", true)
		bubble.Pass(t, refusalKept)
		asked("refused, later", "no", "c", "p", true)
		asked("before half its time", "yes", "c", "p", false)
		bubble.Pass(t, 36*time.Second) // of a minute
		asked("after half its time", "yes", "c", "p", true)
	})
}

// TestHookIsRenewed: an account that the service has named is good for as long as it has said, is asked for again before, and
// survives that nobody answers until then.
func TestHookIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := map[string]login{"dev": {200, `{"publish": ["a"]}`, nil}}
		c, _ := asks(t, answers)
		a := load(t, hookAuth(t))
		x := c.Check(a, Login{here, "c", "dev", nil}).Account
		a.Rights(x)
		late := x.known.Load()
		end := x.Until()
		may := func(when, topic string, want bool) {
			t.Helper()
			u, ok := a.Rights(x)
			if got := ok && u.MayPublish("c", topic); got != want {
				t.Errorf("%s: may publish to %s: %v", when, topic, got)
			}
		}
		may("at first", "a", true)
		answers["dev"] = login{err: errors.New("down")}
		asked := 0
		for time.Now().Before(end) {
			bubble.Pass(t, time.Until(x.Renewal()))
			if !time.Now().Before(end) {
				break
			}
			if r, why := c.Renew(a, x); r != Unavailable || why == "" {
				t.Fatalf("%v, %s", r, why)
			}
			if asked++; asked > 60 {
				t.Fatal("asked all the time")
			}
			may("while nobody answers", "a", true)
		}
		may("after its time", "a", false)
		answers["dev"] = login{200, `{"publish": ["b"]}`, nil}
		if r, _ := c.Renew(a, x); r != Accepted {
			t.Fatal(r)
		}
		x.known.Store(late) // by who has judged before, and stores after
		may("renewed", "a", false)
		may("renewed", "b", true)
		if !x.Until().After(end) {
			t.Error("renewed, and not good for longer")
		}
		for what, l := range map[string]login{"refused": {403, "", nil}, "another user": {200, `{"username": "ops"}`, nil}} {
			answers["dev"] = l
			if r, _ := c.Renew(a, x); r != Refused {
				t.Errorf("%s: %v", what, r)
			}
		}
		other := hookAuth(t)
		other.HTTP.URL = &url.URL{Scheme: "http", Host: "other"}
		if r, _ := c.Renew(load(t, other), x); r != Refused {
			t.Errorf("another service: %v", r)
		}
		if _, ok := load(t, other).Rights(x); ok {
			t.Error("what another service has said counts")
		}
	})
}

// TestHookIsBounded: no more questions are asked at a time than there are places, and who would have to wait too long is refused.
func TestHookIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(nil)
		var mu sync.Mutex
		now, most := 0, 0
		release := make(chan struct{})
		c.hook.post = func(context.Context, string, []byte) (int, []byte, error) {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-release
			mu.Lock()
			now--
			mu.Unlock()
			return 204, nil, nil
		}
		a := load(t, hookAuth(t))
		var busy, in int
		var wg sync.WaitGroup
		const more = 10
		for i := range questionsAtOnce + questionsWaiting + more {
			wg.Go(func() {
				r := c.Check(a, Login{here, "c", fmt.Sprint(i), nil}).Result
				mu.Lock()
				defer mu.Unlock()
				switch r {
				case Busy:
					busy++
				case Accepted:
					in++
				}
			})
			synctest.Wait()
		}
		close(release)
		wg.Wait()
		if most != questionsAtOnce || busy != more || in != questionsAtOnce+questionsWaiting {
			t.Errorf("%d at a time, %d refused, %d let in", most, busy, in)
		}
	})
}

// hangs has the service not answer any more.
func hangs(c *Checker) {
	c.hook.post = func(ctx context.Context, _ string, _ []byte) (int, []byte, error) {
		<-ctx.Done()
		return 0, nil, ctx.Err()
	}
}

// TestHookCloses: nobody waits for a service that hangs once the Checker is closed.
func TestHookCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, a := New(nil), load(t, hookAuth(t))
		hangs(c)
		var wg sync.WaitGroup
		for i := range questionsAtOnce + 2 {
			wg.Go(func() {
				if r := c.Check(a, Login{here, "c", fmt.Sprint(i), nil}).Result; r != Unavailable && r != Busy {
					t.Errorf("%d: %v", i, r)
				}
			})
		}
		synctest.Wait()
		closed := time.Now()
		c.Close()
		wg.Wait()
		c.Check(a, Login{here, "c", "late", nil})
		if took := time.Since(closed); took != 0 {
			t.Errorf("after %s they still waited", took)
		}
	})
}

// TestFloodOfQuestions: while devices keep the places of those that connect, sessions are renewed, other addresses get their
// turn, and nobody waits for longer than CONNECT has.
func TestFloodOfQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := asks(t, map[string]login{"live": {204, "", nil}})
		cfg := hookAuth(t)
		cfg.HTTP.Timeout = 20 * time.Second
		a := load(t, cfg)
		x := c.Check(a, Login{here, "c", "live", nil}).Account
		answers := c.hook.post
		hangs(c)
		began := time.Now()
		var wg sync.WaitGroup
		for i := range questionsAtOnce + questionsWaiting {
			wg.Go(func() {
				c.Check(a, Login{here, "c", fmt.Sprint(i), nil})
				if took := time.Since(began); took >= 30*time.Second {
					t.Errorf("a question took %s", took)
				}
			})
		}
		synctest.Wait()
		wg.Go(func() {
			c.Check(a, Login{netip.MustParseAddr("192.0.2.2"), "c", "other", nil})
			if took := time.Since(began); took < questionWait {
				t.Errorf("another address was refused after %s", took)
			}
		})
		synctest.Wait()
		c.hook.post = answers
		if r, why := c.Renew(a, x); r != Accepted || time.Since(began) != 0 {
			t.Errorf("a session's renewal: %v, %s, after %s", r, why, time.Since(began))
		}
		wg.Wait()
	})
}

// TestHookOverHTTP: a question is a POST of JSON; long answers, slow ones and redirects let nobody in.
func TestHookOverHTTP(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q question
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v", r.Method, r.Header.Get("Content-Type"), err)
		}
		switch q.Username {
		case "long":
			_, _ = w.Write([]byte(`{"username": "` + strings.Repeat("x", maxAnswer) + `"}`))
		case "slow":
			<-release
		case "redirect":
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
		default:
			_, _ = w.Write([]byte(`{"username": "` + q.Username + `"}`))
		}
	}))
	defer srv.Close()
	defer close(release)
	cfg := hookAuth(t)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	cfg.HTTP.URL = u
	c, a := New(nil), load(t, cfg)
	cfg.HTTP.URL = u.ResolveReference(&url.URL{RawQuery: "key=secret"})
	for user, want := range map[string]Result{"dev": Accepted, "long": Unavailable, "redirect": Unavailable} {
		if got := c.Check(a, Login{here, "c", user, nil}); got.Result != want {
			t.Errorf("%s: %+v", user, got)
		}
	}
	cfg.HTTP.Timeout = 50 * time.Millisecond
	if got := c.Check(a, Login{here, "c", "slow", nil}); got.Result != Unavailable || strings.Contains(got.Why, "secret") {
		t.Errorf("slow: %+v", got)
	}
}
