package auth

import (
	"sync/atomic"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/filewatch"
)

// by is what a client was known by.
type by int

const (
	password by = iota
	certificate
	token
	service
)

// Account is who a client has proven to be, and by what: it can be asked of other
// accounts, later, whether they would let it in.
type Account struct {
	Name    string
	Expires time.Time // from when on it is nobody's any more; zero: never

	by    by
	hash  string // of the password that the client knew
	token string // that it had
	url   string // of the service that has let it in
	login Login  // by which that was asked
	said  atomic.Pointer[said]

	known atomic.Pointer[known]
}

// known is what some accounts have said of an Account.
type known struct {
	in   *Accounts
	said *said        // by which it was judged
	user *config.User // nil: it is none of theirs
}

// Accounts are those of one configuration, with what its files said when they were
// read. They never change.
type Accounts struct {
	cfg    *config.Auth
	stamp  filewatch.Stamp // of the files
	users  map[string]*config.User
	hashes map[string]string // of passwords, by user name
	all    []string          // the same, always in the same order
	tokens *tokens           // nil: there are none
}

// Load reads the accounts of a configuration. Errors say which file, and which line
// of it.
func Load(cfg *config.Auth) (*Accounts, error) {
	a := &Accounts{cfg: cfg, stamp: filewatch.Look(cfg.Files()), users: make(map[string]*config.User), hashes: make(map[string]string)}
	for i := range cfg.Users {
		u := &cfg.Users[i]
		a.users[u.Username] = u
		if u.PasswordHash != "" {
			a.add(u.Username, u.PasswordHash)
		}
	}
	if cfg.PasswordFile != "" {
		if err := a.readPasswords(cfg.PasswordFile); err != nil {
			return nil, err
		}
	}
	if cfg.JWT != nil {
		var err error
		if a.tokens, err = loadTokens(cfg.JWT); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (a *Accounts) add(name, hash string) {
	a.hashes[name] = hash
	a.all = append(a.all, hash)
}

// Stale says whether the files are others than those that were read.
func (a *Accounts) Stale() bool { return !a.stamp.Same(filewatch.Look(a.cfg.Files())) }

// Count is how many there are, with and without passwords.
func (a *Accounts) Count() int {
	n := len(a.hashes)
	for name := range a.users {
		if a.hashes[name] == "" {
			n++
		}
	}
	return n
}

// other is the hash of some user that has a password, for one that does not exist, or has none and is known by
// something else: they look alike. Empty: nobody has one.
func (a *Accounts) other(m *memory, name string) string {
	if len(a.all) == 0 {
		return ""
	}
	return a.all[m.choose(name, len(a.all))]
}

// Certified is the account of a client whose certificate names it. false: there is no such account.
func (a *Accounts) Certified(name string) (*Account, bool) {
	if !a.exists(name) {
		return nil, false
	}
	return &Account{Name: name, by: certificate}, true
}

// exists says whether an account is known by name.
func (a *Accounts) exists(name string) bool {
	_, user := a.users[name]
	_, hash := a.hashes[name]
	return name != "" && (user || hash)
}

// Until is from when on the account is nobody's any more, as it is known now; zero: never.
func (x *Account) Until() time.Time {
	if s := x.said.Load(); s != nil {
		return s.expires
	}
	return x.Expires
}

// Rights are what an Account may do under these accounts; false if it would not be let
// in any more. nil is an anonymous client's.
func (a *Accounts) Rights(x *Account) (*config.User, bool) {
	if x == nil {
		return &a.cfg.Default, a.cfg.AllowAnonymous
	}
	if end := x.Until(); !end.IsZero() && !time.Now().Before(end) {
		return nil, false
	}
	k, s := x.known.Load(), x.said.Load()
	if k == nil || k.in != a || k.said != s { // else Renew may come between judging and storing
		k = &known{a, s, a.judge(x, s)}
		x.known.Store(k)
	}
	return k.user, k.user != nil
}

// judge finds an Account again, by what a service has said of it; nil: it would not be let in.
func (a *Accounts) judge(x *Account, s *said) *config.User {
	switch {
	case x.by == password && x.hash != "" && a.hashes[x.Name] == x.hash, x.by == certificate && a.exists(x.Name):
		return a.named(x.Name)
	case x.by == token && a.tokens != nil:
		if c, err := a.tokens.verify(x.token); err == nil && c.name == x.Name {
			return a.claimed(c)
		}
	case x.by == service && a.cfg.HTTP != nil && a.cfg.HTTP.URL.String() == x.url:
		return a.replied(&s.reply)
	}
	return nil
}

// named is what the configuration says of a user, or of those of whom it says nothing.
func (a *Accounts) named(name string) *config.User {
	if u := a.users[name]; u != nil {
		return u
	}
	u := a.cfg.Default
	u.Username = name
	return &u
}
