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
	"eproxy/internal/urlerr"
)

// Bounds of what is asked, and remembered.
const (
	questionsAtOnce  = 16 // for clients that connect, and as many for those that are connected
	questionsWaiting = 256
	// questionWait is how long a question waits for its turn: with the longest timeout less than CONNECT's 30 s.
	questionWait = 8 * time.Second
	maxAnswer    = 64 << 10 // bytes
	maxAsked     = 8 << 10  // bytes of a password
	answersKept  = 1 << 14  // at least, if there were so many; at most twice as many are
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
	post   func(ctx context.Context, url string, body []byte) (status int, answer []byte, err error)
	ctx    context.Context // of all questions
	cancel context.CancelFunc
	// Whoever can open connections can fill the queue of those that connect; that of those that are connected is another.
	connecting, connected *turns

	mu    sync.Mutex
	young map[fingerprint]*said
	old   map[fingerprint]*said
}

func newHook() *hook {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy, t.MaxIdleConnsPerHost = nil, 2*questionsAtOnce
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	h := &hook{connecting: newTurns(questionsAtOnce, questionsWaiting), connected: newTurns(questionsAtOnce, questionsWaiting), young: make(map[fingerprint]*said),
		post: func(ctx context.Context, url string, body []byte) (int, []byte, error) {
			return post(ctx, client, url, body)
		}}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h
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
		s = c.ask(a.cfg.HTTP, l, f, "connecting", c.hook.connecting)
	}
	return a.answer(s, l)
}

// asked stands for a question.
func (c *Checker) asked(h *config.Hook, l Login) fingerprint {
	return c.memory.fingerprint(l.Username, h.URL.String()+"\n"+l.From.String()+"\n"+l.ClientID, l.Password)
}

// ask asks the service now, in the turn of those that are named; those among them who want to know the same wait together.
func (c *Checker) ask(h *config.Hook, l Login, f fingerprint, who string, t *turns) *said {
	v, _, _ := c.flights.Do(who+" "+string(f[:]), func() (any, error) {
		wait, cancel := context.WithTimeout(c.hook.ctx, questionWait)
		defer cancel()
		if !t.take(wait, l.From) {
			return &said{result: Busy, why: "auth.http: too many questions wait"}, nil
		}
		defer t.end()
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
	ctx, cancel := context.WithTimeout(h.ctx, cfg.Timeout)
	defer cancel()
	now := time.Now()
	body, err := json.Marshal(question{l.ClientID, l.Username, string(l.Password), l.From.String()})
	if err != nil {
		return &said{result: Unavailable, why: err.Error()}
	}
	status, answer, err := h.post(ctx, cfg.URL.String(), body)
	switch {
	case err != nil:
		return &said{result: Unavailable, why: "auth.http: " + urlerr.Short(err).Error()}
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
	var keys map[string]json.RawMessage
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields() // a list that is misspelt would allow what it should not
	if json.Unmarshal(b, &keys) != nil || keys == nil || d.Decode(r) != nil {
		return errors.New("the answer is not as it should be")
	}
	for key, value := range keys {
		if string(value) == "null" { // would be as if it were left out, which may allow everything
			return fmt.Errorf("the answer's %.32q is null", key)
		}
	}
	for _, list := range [][]string{r.Publish, r.Subscribe, r.DenyPublish, r.DenySubscribe} {
		for _, f := range list {
			if err := config.ValidateRight(f); err != nil {
				return fmt.Errorf("the answer has %.128q: %w", f, err)
			}
		}
	}
	return nil
}

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
	now := c.ask(a.cfg.HTTP, x.login, c.asked(a.cfg.HTTP, x.login), "connected", c.hook.connected)
	switch {
	case now.result == Accepted && now.reply.Username != x.Name:
		return Refused, "auth.http names another user"
	case now.result == Accepted:
		x.said.Store(now)
	case now.result != Refused:
		later := *before
		later.renew = time.Now().Add(max(renewRetry, time.Until(before.expires)/4))
		x.said.Store(&later)
	}
	return now.result, now.why
}
