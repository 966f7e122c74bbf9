// Package auth checks passwords at CONNECT. A bcrypt hash takes a processor for
// tens of milliseconds, on purpose; this package sees to it that nobody can make
// the machine spend more than one processor on them, that who was right once
// costs nothing the next time, and that a wrong user name looks like a wrong
// password.
package auth

import (
	"bytes"
	"net/netip"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sync/singleflight"

	"eproxy/internal/config"
)

// Result is what became of a login.
type Result int

// Results of Check.
const (
	Accepted Result = iota
	Refused         // no such user, wrong password, or no user name where one is needed
	Unusable        // a password that bcrypt cannot tell from others
	Busy            // too many other logins wait for their turn
)

// MaxPassword is the length of the longest password, in bytes: bcrypt does not see
// what follows.
const MaxPassword = 72

// Compare says whether a bcrypt hash is that of a password: nil if it is.
type Compare func(hash, password []byte) error

// Bcrypt is the Compare of everything but tests.
var Bcrypt Compare = bcrypt.CompareHashAndPassword

// Checker checks logins. Its methods may be called by any goroutine.
type Checker struct {
	compare Compare
	memory  *memory
	turns   turns
	flights singleflight.Group // logins that are being checked, by fingerprint
}

// New makes a checker.
func New(compare Compare) *Checker { return &Checker{compare: compare, memory: newMemory()} }

// Close refuses everybody who waits, and from then on everybody who would have to.
func (c *Checker) Close() { c.turns.close() }

// Check says whether a client at an address may log in to one of the accounts. It
// waits for its turn if the password has to be hashed; the accounts may have been
// replaced when it returns. Who is remembered is so for a password hash: another
// hash is compared again.
func (c *Checker) Check(a *config.Auth, from netip.Addr, username string, password []byte) Result {
	switch {
	case username == "" || len(a.Users) == 0:
		if a.AllowAnonymous {
			return Accepted
		}
		return Refused
	case !usable(password):
		return Unusable
	}
	hash, exists := "", false
	if u := a.User(username); u != nil {
		hash, exists = u.PasswordHash, u.PasswordHash != ""
	}
	if !exists {
		hash = other(a.Users, c.memory.choose(username, len(a.Users)))
	}
	f := c.memory.fingerprint(username, hash, password)
	if exists && c.memory.has(f) {
		return Accepted
	}
	// Devices of a fleet that share a password wait together for one answer.
	r, _, _ := c.flights.Do(string(f[:]), func() (any, error) { return c.hash(from, hash, password, f, exists), nil })
	return r.(Result)
}

// hash compares a password with a hash, in its turn. A user that does not exist
// takes as long as one that does.
func (c *Checker) hash(from netip.Addr, hash string, password []byte, f fingerprint, exists bool) Result {
	if !c.turns.take(from) {
		return Busy
	}
	defer c.turns.end()
	if exists && c.memory.has(f) {
		return Accepted // since Check looked
	}
	if c.compare([]byte(hash), password) != nil || !exists {
		return Refused
	}
	c.memory.add(f)
	return Accepted
}

// other is the hash of some user that has a password, from one of them on: who has none, and is known by
// a certificate, looks like one that does not exist. Empty: nobody has one.
func other(users []config.User, from int) string {
	for i := range users {
		if h := users[(from+i)%len(users)].PasswordHash; h != "" {
			return h
		}
	}
	return ""
}

// usable says whether bcrypt sees the whole password. It ends at 72 bytes, and
// repeats what is shorter with a NUL in between: "a" and "a\x00a" have one hash.
func usable(password []byte) bool {
	return len(password) <= MaxPassword && bytes.IndexByte(password, 0) < 0
}
