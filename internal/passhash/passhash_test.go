package passhash

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// As mosquitto_passwd 2.0.11 wrote them for "secret word".
const (
	sha512Hash = "$6$DOb0hMMhYBbva/fU$qhlLsYJuZPSh+13iUddujzgewABbnir7lQZ15UEUeXLKU8w1FVgx5lMlkBhBeeVeFvwx21a2IiLo6XirjvKi5Q=="
	pbkdf2Hash = "$7$101$i946ScUALfeOzLoh$2ssOCAkumtfflgK0BzzIZPmCRyBizfFHLbQBwimScgJkJYaPJnqn4n4wzNazpJtgYwegBu2/maeCLWGAZdaGAg=="
	manyHash   = "$7$5000$JREYAIg1KXzQynWY$+S0NAzOZRBjOXD9b+UTtuuTiR4cs1hOLQuRqwdH8eLvsQ00Va2gxf+uq3k865aAM5TlGMv15bUA5/FyKQuChdg=="
)

func bcryptOf(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(h), "$2a$", "$2y$", 1)
}

func TestHashesOfOtherPrograms(t *testing.T) {
	for _, h := range []string{sha512Hash, pbkdf2Hash, manyHash, bcryptOf(t, "secret word")} {
		if err := Check(h); err != nil {
			t.Errorf("%s: %v", h, err)
		}
		if err := Compare([]byte(h), []byte("secret word")); err != nil {
			t.Errorf("%s: %v", h, err)
		}
		for _, wrong := range []string{"", "secret", "secret word ", "secret word\x00", "Secret word"} {
			if Sees(h, []byte(wrong)) && Compare([]byte(h), []byte(wrong)) == nil {
				t.Errorf("%s: %q is let in", h, wrong)
			}
		}
	}
}

// TestBadHashesAreRefused: what is no hash, or one that would keep a processor for long, is said to be so, and is
// nobody's password.
func TestBadHashesAreRefused(t *testing.T) {
	dear := strings.Replace(bcryptOf(t, "x"), "$04$", "$17$", 1)
	for hash, want := range map[string]string{
		"":             "is not a bcrypt hash",
		"secret":       "is not a bcrypt hash",
		"$5$aaaa$bbbb": "is not a bcrypt hash",
		strings.Replace(sha512Hash, "$6$", "$8$", 1):         "is not a bcrypt hash",
		strings.TrimSuffix(sha512Hash, "="):                  "is not a bcrypt hash",
		sha512Hash[:len(sha512Hash)-8]:                       "is not a bcrypt hash",
		sha512Hash + "$":                                     "is not a bcrypt hash",
		"$6$$" + strings.Split(sha512Hash, "$")[3]:           "is not a bcrypt hash",
		strings.Replace(pbkdf2Hash, "$101$", "$0$", 1):       "is not a bcrypt hash",
		strings.Replace(pbkdf2Hash, "$101$", "$-1$", 1):      "is not a bcrypt hash",
		strings.Replace(pbkdf2Hash, "$101$", "$$", 1):        "is not a bcrypt hash",
		strings.Replace(pbkdf2Hash, "$101$", "$4000001$", 1): "has 4000001 iterations",
		dear: "has the cost 17",
	} {
		if err := Check(hash); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %q", hash, err, want)
		}
	}
	if Compare([]byte("$6$x$"), []byte("")) == nil || Compare(nil, nil) == nil {
		t.Error("no hash is somebody's password")
	}
}

// TestWhatHashesDoNotSee: of a long password bcrypt sees a part; one with a NUL is the same as another one for most.
func TestWhatHashesDoNotSee(t *testing.T) {
	long := []byte(strings.Repeat("t", MaxBcrypt+1))
	for _, x := range []struct {
		hash     string
		password []byte
		want     bool
	}{
		{bcryptOf(t, "x"), long[1:], true}, {bcryptOf(t, "x"), long, false}, {bcryptOf(t, "x"), []byte("a\x00a"), false},
		{pbkdf2Hash, long, true}, {pbkdf2Hash, []byte("secret word\x00"), false}, {sha512Hash, []byte("a\x00a"), false},
	} {
		if got := Sees(x.hash, x.password); got != x.want {
			t.Errorf("%s: of %q: %v", x.hash, x.password, got)
		}
	}
}
