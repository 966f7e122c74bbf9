package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"eproxy/internal/config"
	"eproxy/internal/passhash"
)

var (
	here  = netip.MustParseAddr("192.0.2.1")
	wrong = errors.New("wrong")
)

// plain is a Compare for which a hash is "hash of " and the password; it counts.
type plain struct {
	mu    sync.Mutex
	calls []string // hash and password
}

func (p *plain) compare(hash, password []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, string(hash)+", "+string(password))
	if string(hash) != "hash of "+string(password) {
		return wrong
	}
	return nil
}

func (p *plain) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

func users(names ...string) *config.Auth {
	a := &config.Auth{}
	for _, n := range names {
		a.Users = append(a.Users, config.User{Username: n, PasswordHash: "hash of " + n + "'s"})
	}
	return a
}

// check is what becomes of a login.
func check(t *testing.T, c *Checker, cfg *config.Auth, user, password string) Result {
	t.Helper()
	a, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c.Check(a, Login{here, "c", user, []byte(password)}).Result
}

func TestWhoIsRightOnceIsRemembered(t *testing.T) {
	var p plain
	c := New(p.compare)
	a := &config.Auth{}
	check := func(user, password string, want Result, calls int) {
		t.Helper()
		before := p.count()
		if got := check(t, c, a, user, password); got != want || p.count()-before != calls {
			t.Errorf("%s with %q: %v after %d comparisons, want %v after %d", user, password, got, p.count()-before, want, calls)
		}
	}
	check("dev", "dev's", Refused, 0) // before there are users
	a = users("dev", "ops")
	check("dev", "dev's", Accepted, 1)
	check("dev", "dev's", Accepted, 0)
	check("dev", "ops's", Refused, 1)
	check("dev", "ops's", Refused, 1) // not remembered
	check("ops", "ops's", Accepted, 1)
	check("ops", "dev's", Refused, 1)

	a = users("dev", "ops")
	a.Users[0].PasswordHash = "hash of other"
	check("dev", "dev's", Refused, 1)
	check("dev", "other", Accepted, 1)
	check("ops", "ops's", Accepted, 0) // whose hash is the same

	a = users("ops")
	check("dev", "other", Refused, 1)
}

// TestUnknownUserIsCompared: a user that does not exist costs the same comparison
// as one that does, with a hash in use, and is refused whatever comes of it.
func TestUnknownUserIsCompared(t *testing.T) {
	hashes := make(map[string]bool)
	c := New(func(hash, _ []byte) error { hashes[string(hash)] = true; return nil })
	a := users("cheap", "dear")
	for i := range 200 {
		name := fmt.Sprintf("nobody-%d", i)
		for range 2 {
			if r := check(t, c, a, name, "cheap's"); r != Refused {
				t.Fatalf("%s: %v", name, r)
			}
		}
		first := c.memory.choose(name, 2)
		if again := c.memory.choose(name, 2); again != first {
			t.Errorf("%s is compared with another hash the second time, which real users are not", name)
		}
	}
	for _, u := range a.Users {
		if !hashes[u.PasswordHash] {
			t.Errorf("no unknown user takes as long as %s", u.Username)
		}
	}
}

func TestAnonymousIsTheEmptyName(t *testing.T) {
	var p plain
	c := New(p.compare)
	for _, x := range []struct {
		name      string
		anonymous bool
		users     []string
		want      map[string]Result
	}{
		{"nobody", false, nil, map[string]Result{"": Refused, "any": Refused}},
		{"everybody", true, nil, map[string]Result{"": Accepted, "any": Accepted}},
		{"users only", false, []string{"dev"}, map[string]Result{"": Refused, "any": Refused}},
		{"users and anonymous", true, []string{"dev"}, map[string]Result{"": Accepted, "any": Refused}},
	} {
		a := users(x.users...)
		a.AllowAnonymous = x.anonymous
		for user, want := range x.want {
			if got := check(t, c, a, user, "x"); got != want {
				t.Errorf("%s: user %q: %v, want %v", x.name, user, got, want)
			}
		}
	}
}

// TestPasswordsThatBcryptCannotTellApart are refused, known user or not.
func TestPasswordsThatBcryptCannotTellApart(t *testing.T) {
	token := strings.Repeat("t", passhash.MaxBcrypt)
	long, err := bcrypt.GenerateFromPassword([]byte(token), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	short, err := bcrypt.GenerateFromPassword([]byte("a"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	c := New(nil)
	a := &config.Auth{Users: []config.User{{Username: "long", PasswordHash: string(long)}, {Username: "short", PasswordHash: string(short)}}}
	for _, x := range []struct {
		user, password string
		hash           []byte
		want           Result
	}{
		{"long", token, long, Accepted}, {"short", "a", short, Accepted}, {"long", token[1:], long, Refused},
		{"long", token + "1", long, Unusable}, {"long", token + "2", long, Unusable},
		{"short", "a\x00a", short, Unusable}, {"short", "a\x00", short, Unusable},
		{"nobody", token + "1", nil, Unusable}, {"nobody", "a\x00", nil, Unusable},
	} {
		if got := check(t, c, a, x.user, x.password); got != x.want {
			t.Errorf("%s with %q: %v, want %v", x.user, x.password, got, x.want)
		}
		if x.want == Unusable && x.hash != nil && x.password != "a\x00" && bcrypt.CompareHashAndPassword(x.hash, []byte(x.password)) != nil {
			t.Errorf("%s with %q: bcrypt itself refuses it; is the check still needed?", x.user, x.password)
		}
	}
}

// TestOneHashAtATime: however many log in at a time, one hash is computed, and each
// login that can be remembered once.
func TestOneHashAtATime(t *testing.T) {
	const clients = 48 // with two passwords each: fewer than may wait
	var now, most atomic.Int64
	var p plain
	c := New(func(hash, password []byte) error {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		for range 100 {
			runtime.Gosched() // lets others in, if they may
		}
		return p.compare(hash, password)
	})
	a := users("dev")
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			if r := check(t, c, a, "dev", "dev's"); r != Accepted {
				t.Errorf("right password: %v", r)
			}
			if r := check(t, c, a, "dev", fmt.Sprintf("guess %d", i)); r != Refused {
				t.Errorf("wrong password: %v", r)
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 || p.count() != clients+1 {
		t.Errorf("%d at a time, %d in all, want 1 and %d", most.Load(), p.count(), clients+1)
	}
}

func TestRememberedLoginsAreBounded(t *testing.T) {
	m := newMemory()
	print := func(i int) fingerprint { return m.fingerprint(fmt.Sprint(i), "", nil) }
	for i := range 3 * remembered {
		m.add(print(i))
		if !m.has(print(0)) {
			t.Fatalf("what is used all the time is forgotten after %d others", i)
		}
	}
	if n := len(m.young) + len(m.old); n > 2*remembered {
		t.Errorf("%d remembered", n)
	}
	if m.has(print(1)) || !m.has(print(3*remembered-remembered/2)) {
		t.Error("not the oldest are forgotten")
	}
	if newMemory().fingerprint("a", "b", nil) == m.fingerprint("a", "b", nil) {
		t.Error("two processes have one key")
	}
	if m.fingerprint("a", "bc", nil) == m.fingerprint("ab", "c", nil) {
		t.Error("two users have one fingerprint")
	}
}
