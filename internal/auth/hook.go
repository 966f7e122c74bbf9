package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"eproxy/internal/config"
	"eproxy/internal/topic"
)

// Bounds of what is asked, and remembered.
const (
	questionsAtOnce  = 16
	questionsWaiting = 256
	maxAnswer        = 64 << 10 // bytes
	maxAsked         = 8 << 10  // bytes of a password
	answersKept      = 1 << 14  // at least, if there were so many; at most twice as many are
	// refusalKept is how long a refusal is remembered: clients that are refused come again at once.
	refusalKept = 5 * time.Second
)

// question is what the service is asked.
type question struct {
	ClientID string `json:"client_id"`
	Username string `json:"username"`
	Password string `json:"password"`
	Address  string `json:"address"`
}

// reply is what it says of whom it lets in. Lists that are missing say nothing.
type reply struct {
	Username      string   `json:"username"` // empty: that of the question
	Publish       []string `json:"publish"`
	Subscribe     []string `json:"subscribe"`
	DenyPublish   []string `json:"deny_publish"`
	DenySubscribe []string `json:"deny_subscribe"`
}

// said is an answer, with when it was given.
type said struct {
	result  Result
	why     string
	reply   reply
	renew   time.Time // when it is asked again
	expires time.Time // when it says nothing any more
}

// hook asks the service, and remembers what it has said.
type hook struct {
	post    func(ctx context.Context, url string, body []byte) (status int, answer []byte, err error)
	slots   chan struct{}
	mu      sync.Mutex
	waiting int
	young   map[fingerprint]*said
	old     map[fingerprint]*said
}

func newHook() *hook {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy, t.MaxIdleConnsPerHost = nil, questionsAtOnce
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &hook{slots: make(chan struct{}, questionsAtOnce), young: make(map[fingerprint]*said),
		post: func(ctx context.Context, url string, body []byte) (int, []byte, error) {
			return post(ctx, client, url, body)
		}}
}

func post(ctx context.Context, client *http.Client, url string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	return res.StatusCode, b, err
}

// byHook asks the service about a login, or remembers what it has said.
func (c *Checker) byHook(a *Accounts, l Login) Answer {
	if !utf8.Valid(l.Password) || len(l.Password) > maxAsked {
		return Answer{Result: Unusable}
	}
	l.Password = bytes.Clone(l.Password) // it is asked with again
	f := c.asked(a.cfg.HTTP, l)
	s := c.hook.remembered(f)
	if s == nil {
		s = c.ask(a.cfg.HTTP, l, f)
	}
	return a.answer(s, l)
}

// asked stands for a question.
func (c *Checker) asked(h *config.Hook, l Login) fingerprint {
	return c.memory.fingerprint(l.Username, h.URL.String()+"\n"+l.From.String()+"\n"+l.ClientID, l.Password)
}

// ask asks the service now; those who want to know the same wait together.
func (c *Checker) ask(h *config.Hook, l Login, f fingerprint) *said {
	v, _, _ := c.flights.Do("asked "+string(f[:]), func() (any, error) {
		if !c.hook.enter() {
			return &said{result: Busy}, nil
		}
		defer c.hook.leave()
		s := c.hook.question(h, l)
		if s.result != Unavailable {
			c.hook.remember(f, s)
		}
		return s, nil
	})
	return v.(*said)
}

// question asks once. What is not an answer lets nobody in.
func (h *hook) question(cfg *config.Hook, l Login) *said {
	ctx, cancel := context.WithTimeout(context.Background(), cfg.Timeout)
	defer cancel()
	now := time.Now()
	body, err := json.Marshal(question{l.ClientID, l.Username, string(l.Password), l.From.String()})
	if err != nil {
		return &said{result: Unavailable, why: err.Error()}
	}
	status, answer, err := h.post(ctx, cfg.URL.String(), body)
	switch {
	case err != nil:
		return &said{result: Unavailable, why: "auth.http: " + err.Error()}
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound:
		return &said{result: Refused, why: fmt.Sprintf("auth.http answered %d", status), renew: now.Add(refusalKept)}
	case status != http.StatusOK && status != http.StatusNoContent:
		return &said{result: Unavailable, why: fmt.Sprintf("auth.http answered %d", status)}
	}
	s := &said{renew: now.Add(cfg.Valid*2/5 + rand.N(cfg.Valid/5)), expires: now.Add(cfg.Valid)}
	if status == http.StatusOK {
		if err := s.reply.read(answer); err != nil {
			return &said{result: Unavailable, why: "auth.http: " + err.Error()}
		}
	}
	if s.reply.Username == "" {
		s.reply.Username = l.Username
	}
	if s.reply.Username == "" {
		return &said{result: Refused, why: "auth.http names no user", renew: now.Add(refusalKept)}
	}
	return s
}

// read reads an answer.
func (r *reply) read(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields() // a list that is misspelt would allow what it should not
	if d.Decode(r) != nil || d.Decode(new(any)) != io.EOF {
		return errors.New("the answer is not as it should be")
	}
	for _, list := range [][]string{r.Publish, r.Subscribe, r.DenyPublish, r.DenySubscribe} {
		for _, f := range list {
			if topic.ValidateFilter(f) != nil {
				return fmt.Errorf("the answer has %q, which is no topic filter", f)
			}
		}
	}
	return nil
}

// enter waits for a place to ask from; false: too many wait.
func (h *hook) enter() bool {
	h.mu.Lock()
	if h.waiting >= questionsWaiting {
		h.mu.Unlock()
		return false
	}
	h.waiting++
	h.mu.Unlock()
	h.slots <- struct{}{}
	h.mu.Lock()
	h.waiting--
	h.mu.Unlock()
	return true
}

func (h *hook) leave() { <-h.slots }

// remembered is what was said, while that need not be asked again.
func (h *hook) remembered(f fingerprint) *said {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.young[f]
	if s == nil {
		s = h.old[f]
	}
	if s == nil || !time.Now().Before(s.renew) {
		return nil
	}
	return s
}

func (h *hook) remember(f fingerprint, s *said) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.young) >= answersKept {
		h.old, h.young = h.young, make(map[fingerprint]*said)
	}
	h.young[f] = s
}

// answer is what an answer of the service means for a login.
func (a *Accounts) answer(s *said, l Login) Answer {
	if s.result != Accepted {
		return Answer{Result: s.result, Why: s.why}
	}
	x := &Account{Name: s.reply.Username, by: service, url: a.cfg.HTTP.URL.String(), login: l}
	x.said.Store(s)
	return Answer{Account: x}
}

// replied is what the service's user may do: what it says, and where it says nothing, what the configuration does. What either
// denies is denied.
func (a *Accounts) replied(r *reply) *config.User {
	u := *a.named(r.Username)
	if r.Publish != nil {
		u.Publish = r.Publish
	}
	if r.Subscribe != nil {
		u.Subscribe = r.Subscribe
	}
	u.DenyPublish = append(u.DenyPublish[:len(u.DenyPublish):len(u.DenyPublish)], r.DenyPublish...)
	u.DenySubscribe = append(u.DenySubscribe[:len(u.DenySubscribe):len(u.DenySubscribe)], r.DenySubscribe...)
	return &u
}

// renewRetry is the shortest time between two questions about a session that were not answered.
const renewRetry = time.Second

// Renewal is when Renew is to be called; zero: never.
func (x *Account) Renewal() time.Time {
	if s := x.said.Load(); s != nil {
		return s.renew
	}
	return time.Time{}
}

// Renew asks the service again about an account that it has named. Accepted: rights may have changed. Unavailable and Busy: it has not
// answered, and is to be asked again at the next Renewal; until the account expires it is good.
func (c *Checker) Renew(a *Accounts, x *Account) (Result, string) {
	before := x.said.Load()
	if a.cfg.HTTP == nil || a.cfg.HTTP.URL.String() != x.url {
		return Refused, "auth.http is another one"
	}
	now := c.ask(a.cfg.HTTP, x.login, c.asked(a.cfg.HTTP, x.login))
	switch {
	case now.result == Accepted && now.reply.Username != x.Name:
		return Refused, "auth.http names another user"
	case now.result == Accepted:
		x.said.Store(now)
		x.known.Store(nil)
	case now.result != Refused:
		later := *before
		later.renew = time.Now().Add(max(renewRetry, time.Until(before.expires)/4))
		x.said.Store(&later)
	}
	return now.result, now.why
}
