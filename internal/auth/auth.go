// Package auth says who a client is at CONNECT, and later whether it still is: by
// passwords, tokens (JWT) and certificates. A password hash takes a processor for
// tens of milliseconds, on purpose; this package sees to it that nobody can make
// the machine spend more than one processor on them, that who was right once
// costs nothing the next time, and that a wrong user name looks like a wrong
// password.
package auth

import (
	"context"
	"net/netip"

	"golang.org/x/sync/singleflight"

	"eproxy/internal/passhash"
)

// Result is what became of a login.
type Result int

// Results of Check.
const (
	Accepted    Result = iota
	Refused            // no such user, wrong password or token, or no user name where one is needed
	Unusable           // a password that its hash cannot tell from others
	Busy               // too many other logins wait for their turn
	Unavailable        // the service that is to be asked has not answered
)

// Compare says whether a hash is that of a password: nil if it is.
type Compare func(hash, password []byte) error

// Login is what a client says of itself.
type Login struct {
	From     netip.Addr
	ClientID string
	Username string
	Password []byte
}

// Answer is what became of a login.
type Answer struct {
	Result  Result
	Account *Account // of who is accepted; nil: it is anonymous, whatever name it gave
	Why     string   // more about a refusal, for operators; empty: there is no more
}

// Checker checks logins. Its methods may be called by any goroutine.
type Checker struct {
	compare Compare
	memory  *memory
	turns   *turns             // to hash passwords
	flights singleflight.Group // logins that are being checked, by fingerprint
	hook    *hook
}

// New makes a checker; compare nil: passhash.Compare.
func New(compare Compare) *Checker {
	if compare == nil {
		compare = passhash.Compare
	}
	return &Checker{compare: compare, memory: newMemory(), turns: newTurns(1, maxWaiting), hook: newHook()}
}

// Close refuses everybody who waits, also for a service's answer, and from then on everybody who would have to.
func (c *Checker) Close() {
	c.turns.close()
	c.hook.cancel()
}

// Check says whether a client may log in to one of the accounts. It
// waits for its turn if the password has to be hashed; the accounts may have been
// replaced when it returns. Who is remembered is so for a password hash: another
// hash is compared again.
func (c *Checker) Check(a *Accounts, l Login) Answer {
	switch {
	case a.tokens != nil && isToken(l.Password):
		return a.byToken(string(l.Password))
	case l.Username == "" || !a.cfg.Logins():
		if a.cfg.AllowAnonymous {
			return Answer{}
		}
		if a.cfg.HTTP != nil {
			return c.byHook(a, l)
		}
		return Answer{Result: Refused}
	}
	hash, exists := a.hashes[l.Username]
	if !exists && a.cfg.HTTP != nil {
		return c.byHook(a, l)
	}
	if !exists {
		hash = a.other(c.memory, l.Username)
	}
	switch {
	case hash == "": // nobody has a password
		return Answer{Result: Refused}
	case !passhash.Sees(hash, l.Password):
		return Answer{Result: Unusable}
	}
	if r := c.password(l, hash, exists); r != Accepted {
		return Answer{Result: r}
	}
	return Answer{Account: &Account{Name: l.Username, by: password, hash: hash}}
}

// password compares a password with a hash, which is another user's if there is none of that name.
func (c *Checker) password(l Login, hash string, exists bool) Result {
	f := c.memory.fingerprint(l.Username, hash, l.Password)
	if exists && c.memory.has(f) {
		return Accepted
	}
	// Devices of a fleet that share a password wait together for one answer.
	r, _, _ := c.flights.Do(string(f[:]), func() (any, error) { return c.hash(l, hash, f, exists), nil })
	return r.(Result)
}

// hash compares a password with a hash, in its turn. A user that does not exist
// takes as long as one that does.
func (c *Checker) hash(l Login, hash string, f fingerprint, exists bool) Result {
	if !c.turns.take(context.Background(), l.From) {
		return Busy
	}
	defer c.turns.end()
	if exists && c.memory.has(f) {
		return Accepted // since Check looked
	}
	if c.compare([]byte(hash), l.Password) != nil || !exists {
		return Refused
	}
	c.memory.add(f)
	return Accepted
}
