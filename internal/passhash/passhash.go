// Package passhash reads the hashes that passwords are kept as: bcrypt, as htpasswd -nbB writes it, and the two
// forms of mosquitto_passwd, $6$ (SHA-512 with a salt) and $7$ (PBKDF2 with SHA-512).
package passhash

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// Bounds of what one comparison costs: some four seconds of a processor. Each step of the cost doubles it.
const (
	maxCost       = 16
	maxIterations = 4_000_000
)

// MaxBcrypt is the length of the longest password, in bytes, that bcrypt sees all of.
const MaxBcrypt = 72

// Forms names the forms of a hash, for errors.
const Forms = "a bcrypt hash, as htpasswd -nbB writes, or one of mosquitto_passwd ($6$ or $7$)"

var (
	errForm  = errors.New("is not " + Forms)
	errWrong = errors.New("another password")
)

// bcryptHash is the form of a bcrypt hash: version, cost, and 22 and 31 characters of salt and hash. $2y$ is what
// htpasswd writes, the same as $2b$ and $2a$.
var bcryptHash = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)

// Check says what is wrong with a hash; nil: nothing.
func Check(hash string) error {
	if m, ok := parseMosquitto(hash); ok {
		if m.iterations > maxIterations {
			return fmt.Errorf("has %d iterations: more than %d would keep each login waiting for seconds", m.iterations, maxIterations)
		}
		return nil
	}
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case err != nil || !bcryptHash.MatchString(hash):
		return errForm
	case cost > maxCost:
		return fmt.Errorf("has the cost %d: more than %d would keep each login waiting for seconds", cost, maxCost)
	}
	return nil
}

// Compare says whether a hash is that of a password: nil if it is.
func Compare(hash, password []byte) error {
	m, ok := parseMosquitto(string(hash))
	if !ok {
		return bcrypt.CompareHashAndPassword(hash, password)
	}
	if subtle.ConstantTimeCompare(m.of(password), m.hash) != 1 {
		return errWrong
	}
	return nil
}

// Sees says whether a hash is that of the whole password and of no other. bcrypt ends at 72 bytes, and repeats what
// is shorter with a NUL in between: "a" and "a\x00a" have one hash. PBKDF2 fills up with NULs: "a" and "a\x00" have one.
func Sees(hash string, password []byte) bool {
	_, ok := parseMosquitto(hash)
	return (ok || len(password) <= MaxBcrypt) && bytes.IndexByte(password, 0) < 0
}

// mosquitto is a hash of mosquitto_passwd.
type mosquitto struct {
	iterations int // of PBKDF2; 0: one round of SHA-512
	salt, hash []byte
}

// parseMosquitto reads $6$salt$hash and $7$iterations$salt$hash, salt and hash in Base64.
func parseMosquitto(s string) (m mosquitto, ok bool) {
	parts := strings.Split(s, "$")
	switch {
	case len(parts) == 4 && parts[0] == "" && parts[1] == "6":
	case len(parts) == 5 && parts[0] == "" && parts[1] == "7":
		n, err := strconv.Atoi(parts[2])
		if err != nil || n < 1 {
			return m, false
		}
		m.iterations = n
	default:
		return m, false
	}
	var err, saltErr error
	m.salt, saltErr = base64.StdEncoding.DecodeString(parts[len(parts)-2])
	m.hash, err = base64.StdEncoding.DecodeString(parts[len(parts)-1])
	return m, err == nil && saltErr == nil && len(m.salt) > 0 && len(m.hash) == sha512.Size
}

// of is the hash of a password with the same salt.
func (m mosquitto) of(password []byte) []byte {
	if m.iterations == 0 {
		h := sha512.New()
		h.Write(password)
		h.Write(m.salt)
		return h.Sum(nil)
	}
	key, err := pbkdf2.Key(sha512.New, string(password), m.salt, m.iterations, sha512.Size)
	if err != nil { // only in FIPS mode, of short salts: nobody's hash
		return nil
	}
	return key
}
