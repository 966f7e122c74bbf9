package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"eproxy/internal/config"
)

// Bounds of tokens and of their keys.
const (
	maxToken   = 8 << 10 // bytes
	maxKeys    = 1 << 20 // bytes of a file with keys
	minSecret  = 32      // bytes, those of the hash (RFC 7518 section 3.2)
	minModulus = 2048    // bits (RFC 7518 section 3.3)
	algHS256   = "HS256"
	algRS256   = "RS256"
	algES256   = "ES256"
)

// tokens verifies JSON Web Tokens with the keys of one configuration.
type tokens struct {
	cfg    *config.JWT
	parser *jwt.Parser
	keys   []key
}

// key verifies signatures of one algorithm only, so that nobody can have a public key taken for a secret.
type key struct {
	alg  string
	id   string // kid; empty: it has none
	with jwt.VerificationKey
}

// loadTokens reads the keys.
func loadTokens(cfg *config.JWT) (*tokens, error) {
	t := &tokens{cfg: cfg}
	for _, f := range []struct {
		what, path string
		read       func([]byte) ([]key, error)
	}{{"secret_file", cfg.SecretFile, readSecret}, {"public_key_file", cfg.PublicKeyFile, readPublicKey}, {"jwks_file", cfg.JWKSFile, readKeySet}} {
		if f.path == "" {
			continue
		}
		b, err := readFile(f.path, maxKeys)
		if err != nil {
			return nil, fmt.Errorf("jwt: %s: %w", f.what, err)
		}
		keys, err := f.read(b)
		if err != nil {
			return nil, fmt.Errorf("jwt: %s %s: %w", f.what, f.path, err)
		}
		t.keys = append(t.keys, keys...)
	}
	options := []jwt.ParserOption{jwt.WithValidMethods([]string{algHS256, algRS256, algES256}), jwt.WithExpirationRequired(), jwt.WithStrictDecoding()}
	if cfg.Issuer != "" {
		options = append(options, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		options = append(options, jwt.WithAudience(cfg.Audience))
	}
	t.parser = jwt.NewParser(options...)
	return t, nil
}

// readSecret reads a secret as it is, but for the end of its line.
func readSecret(b []byte) ([]key, error) {
	secret := []byte(strings.TrimRight(string(b), "\r\n"))
	if len(secret) < minSecret {
		return nil, fmt.Errorf("a secret of %d bytes: it must have at least %d, as `openssl rand -hex 32` writes them", len(secret), minSecret)
	}
	return []key{{alg: algHS256, with: secret}}, nil
}

// readPublicKey reads an RSA key, or the certificate of one.
func readPublicKey(b []byte) ([]key, error) {
	k, err := jwt.ParseRSAPublicKeyFromPEM(b)
	if err != nil {
		return nil, errors.New("no RSA public key or certificate in PEM")
	}
	return rsaKey("", k)
}

func rsaKey(id string, k *rsa.PublicKey) ([]key, error) {
	if n := k.N.BitLen(); n < minModulus {
		return nil, fmt.Errorf("an RSA key of %d bits: it must have at least %d", n, minModulus)
	}
	return []key{{alg: algRS256, id: id, with: k}}, nil
}

// readKeySet reads a JSON Web Key Set. Keys for other purposes, or of other kinds, are left out (RFC 7517 section 5).
func readKeySet(b []byte) ([]key, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, errors.New("no JSON Web Key Set: it must be as {\"keys\": [...]} (RFC 7517 section 5)")
	}
	var keys []key
	for i, m := range set.Keys {
		if m.USE != "" && m.USE != jwkset.UseSig {
			continue
		}
		j, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipX5UScheme: true})
		if err != nil {
			if m.KTY == jwkset.KtyRSA || m.KTY == jwkset.KtyEC { // the library's words name its types
				return nil, fmt.Errorf("key %d, kid %q: no key of kind %s (RFC 7518 section 6), or one that its own x5c or alg is not for", i+1, m.KID, m.KTY)
			}
			continue
		}
		some, err := signatureKey(m, j.Key())
		if err != nil {
			return nil, fmt.Errorf("key %d, kid %q: %w", i+1, m.KID, err)
		}
		keys = append(keys, some...)
	}
	if len(keys) == 0 {
		return nil, errors.New("no key for RS256 or ES256 in it")
	}
	return keys, nil
}

// signatureKey is the key of a set; none: it is for another algorithm.
func signatureKey(m jwkset.JWKMarshal, k any) ([]key, error) {
	switch k := k.(type) {
	case *rsa.PublicKey:
		if m.ALG == "" || m.ALG == algRS256 {
			return rsaKey(m.KID, k)
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() && (m.ALG == "" || m.ALG == algES256) {
			return []key{{alg: algES256, id: m.KID, with: k}}, nil
		}
	}
	return nil, nil
}

// errNoKey is that of a token that none of the keys is for.
var errNoKey = errors.New("signed with a key that is not known")

// errMalformed is that of a token that has the form of one only at first sight.
var errMalformed = errors.New("malformed: it must be three parts in Base64, the first two JSON objects (RFC 7519 section 7.2)")

// candidates are the keys that may have signed a token: those of its algorithm and, where both have one, of its key
// identifier.
func (t *tokens) candidates(j *jwt.Token) (any, error) {
	var set jwt.VerificationKeySet
	id, _ := j.Header["kid"].(string)
	for _, k := range t.keys {
		if k.alg == j.Method.Alg() && (id == "" || k.id == "" || k.id == id) {
			set.Keys = append(set.Keys, k.with)
		}
	}
	if len(set.Keys) == 0 {
		return nil, errNoKey
	}
	return set, nil
}

// claims are what a token says that counts here.
type claims struct {
	name               string
	expires            time.Time
	publish, subscribe []string // nil: it does not say
}

// verify checks a token, at this moment.
func (t *tokens) verify(raw string) (*claims, error) {
	all := jwt.MapClaims{}
	switch _, err := t.parser.ParseWithClaims(raw, all, t.candidates); {
	case errors.Is(err, jwt.ErrTokenMalformed): // the library's words name its types
		return nil, errMalformed
	case err != nil:
		return nil, err
	}
	expires, err := all.GetExpirationTime()
	if err != nil || expires == nil {
		return nil, jwt.ErrTokenRequiredClaimMissing
	}
	c := &claims{expires: expires.Time}
	c.name, _ = all[t.cfg.Username].(string)
	if c.name == "" || strings.ContainsRune(c.name, 0) {
		return nil, fmt.Errorf("claim %q is no user name", t.cfg.Username)
	}
	if c.publish, err = filtersOf(all, t.cfg.Publish); err != nil {
		return nil, err
	}
	c.subscribe, err = filtersOf(all, t.cfg.Subscribe)
	return c, err
}

// filtersOf reads a claim that is a filter or a list of them; nil: the token does not have it.
func filtersOf(all jwt.MapClaims, name string) ([]string, error) {
	value, ok := all[name]
	if !ok {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	out := []string{}
	for _, x := range list {
		f, ok := x.(string)
		if !ok || config.ValidateRight(f) != nil {
			return nil, fmt.Errorf("claim %q is no list of topic filters", name)
		}
		out = append(out, f)
	}
	return out, nil
}

// isToken says whether a password has the form of a signed token (RFC 7515 section 7.1): three parts, the first of
// which names an algorithm.
func isToken(password []byte) bool {
	if len(password) > maxToken {
		return false
	}
	parts := strings.Split(string(password), ".")
	if len(parts) != 3 {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return false
	}
	var head struct{ Alg string }
	return json.Unmarshal(b, &head) == nil && head.Alg != ""
}

// byToken says whether a token lets its client in.
func (a *Accounts) byToken(raw string) Answer {
	c, err := a.tokens.verify(raw)
	if err != nil {
		return Answer{Result: Refused, Why: "token: " + err.Error()}
	}
	x := &Account{Name: c.name, Expires: c.expires, by: token, token: raw}
	x.known.Store(&known{a, nil, a.claimed(c)})
	return Answer{Account: x}
}

// claimed is what a token's user may do: what its claims say, and where they say nothing, what the configuration does.
// What that denies is denied, whatever a token says.
func (a *Accounts) claimed(c *claims) *config.User {
	u := *a.named(c.name)
	if c.publish != nil {
		u.Publish = c.publish
	}
	if c.subscribe != nil {
		u.Subscribe = c.subscribe
	}
	return &u
}
