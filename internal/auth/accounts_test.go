package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"eproxy/internal/config"
)

// writeFile replaces a file and returns its path.
func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, cfg *config.Auth) *Accounts {
	t.Helper()
	a, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// mosquittoHash is that of "secret word", as mosquitto_passwd wrote it.
const mosquittoHash = "$7$101$i946ScUALfeOzLoh$2ssOCAkumtfflgK0BzzIZPmCRyBizfFHLbQBwimScgJkJYaPJnqn4n4wzNazpJtgYwegBu2/maeCLWGAZdaGAg=="

func TestPasswordFile(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, dir, "passwd", "# devices\n\ndev:"+mosquittoHash+"\r\nops:"+mosquittoHash)
	cfg := &config.Auth{
		PasswordFile: file, Users: []config.User{{Username: "ops", Publish: []string{"ops/#"}}, {Username: "cert"}},
		Default: config.User{Publish: []string{"dev/%u"}, DenySubscribe: []string{"secret/#"}},
	}
	a := load(t, cfg)
	c := New(nil)
	for _, x := range []struct {
		user, password string
		want           Result
	}{
		{"dev", "secret word", Accepted}, {"ops", "secret word", Accepted}, {"dev", "secret", Refused}, {"nobody", "secret word", Refused},
		{"cert", "secret word", Refused}, {"cert", "", Refused}, {"dev", "secret word\x00", Unusable}, {"", "secret word", Refused}, {"# devices", "", Refused},
	} {
		if got := c.Check(a, Login{here, "c", x.user, []byte(x.password)}); got.Result != x.want {
			t.Errorf("%q with %q: %v, want %v", x.user, x.password, got.Result, x.want)
		}
	}
	dev := c.Check(a, Login{here, "c", "dev", []byte("secret word")}).Account
	ops := c.Check(a, Login{here, "c", "ops", []byte("secret word")}).Account
	if u, ok := a.Rights(dev); !ok || !u.MayPublish("c", "dev/dev") || u.MayPublish("c", "ops/x") || u.MaySubscribe("c", "secret/x") {
		t.Errorf("dev: %+v", u)
	}
	if u, ok := a.Rights(ops); !ok || u.MayPublish("c", "dev/dev") || !u.MayPublish("c", "ops/x") || !u.MaySubscribe("c", "secret/x") {
		t.Errorf("ops: %+v", u)
	}
	if a.Stale() || a.Count() != 3 {
		t.Errorf("stale: %v, %d accounts", a.Stale(), a.Count())
	}
	// ops is removed, dev stays, and with another password is another one.
	writeFile(t, dir, "passwd", "dev:"+mosquittoHash+"\n")
	if !a.Stale() {
		t.Error("the file has changed, and nobody knows")
	}
	b := load(t, cfg)
	if _, ok := b.Rights(dev); !ok {
		t.Error("an account that has not changed is gone")
	}
	if _, ok := b.Rights(ops); ok {
		t.Error("who was removed may still be connected")
	}
	writeFile(t, dir, "passwd", "dev:"+strings.Replace(mosquittoHash, "i946", "j946", 1)+"\n")
	if _, ok := load(t, cfg).Rights(dev); ok {
		t.Error("who knows only the password of before may still be connected")
	}
}

// TestBadPasswordFileIsRefusedWhole: with the file and the line.
func TestBadPasswordFileIsRefusedWhole(t *testing.T) {
	good := "dev:" + mosquittoHash + "\n"
	users := []config.User{{Username: "ops", PasswordHash: mosquittoHash}}
	for text, want := range map[string]string{
		good + "nobody\n":                 `passwd:2: must be name:hash, as mosquitto_passwd and htpasswd -B write it`,
		good + ":" + mosquittoHash:        `passwd:2: must be name:hash`,
		"\n#x\nops2:plain\n":              `passwd:3: user "ops2": the hash is not a bcrypt hash`,
		good + "\n" + good:                `passwd:3: user "dev" is a duplicate of line 1`,
		"ops:" + mosquittoHash + "\n":     `passwd:1: user "ops" has a password in the configuration, too`,
		good + strings.Repeat("x", 1<<21): `passwd:2: the line is too long`,
		"":                                `password_file: `,
		"  \n":                            `passwd: is empty`,
	} {
		file := writeFile(t, t.TempDir(), "passwd", text)
		if _, err := Load(&config.Auth{PasswordFile: file, Users: users}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
	missing := filepath.Join(t.TempDir(), "passwd")
	if _, err := Load(&config.Auth{PasswordFile: missing}); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("no file: %v", err)
	}
	if _, err := Load(&config.Auth{PasswordFile: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("a directory: %v", err)
	}
}

// issuer signs tokens in every way there is.
type issuer struct {
	secret     []byte
	rsa, other *rsa.PrivateKey
	ec         *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{secret: []byte("0123456789abcdef0123456789abcdef")}
	var err error
	if i.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if i.other, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if i.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	return i
}

// publicKey is the RSA key in PEM.
func (i *issuer) publicKey(t *testing.T, k *rsa.PrivateKey) string {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}))
}

func b64(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }

// keySet has the RSA keys that are named, and the EC key.
func (i *issuer) keySet(t *testing.T, keys map[string]*rsa.PrivateKey) string {
	t.Helper()
	all := []map[string]string{
		{"kty": "EC", "kid": "e", "crv": "P-256", "x": base64.RawURLEncoding.EncodeToString(i.ec.X.FillBytes(make([]byte, 32))), "y": base64.RawURLEncoding.EncodeToString(i.ec.Y.FillBytes(make([]byte, 32)))},
		{"kty": "RSA", "kid": "encrypts", "use": "enc", "n": b64(i.other.N), "e": "AQAB"},
		{"kty": "later", "kid": "unknown"},
	}
	for id, k := range keys {
		all = append(all, map[string]string{"kty": "RSA", "kid": id, "n": b64(k.N), "e": "AQAB"})
	}
	b, err := json.Marshal(map[string]any{"keys": all})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// sign makes a token of claims, which begin with those of a good one.
func sign(t *testing.T, m jwt.SigningMethod, key any, kid string, more jwt.MapClaims) string {
	t.Helper()
	all := jwt.MapClaims{"sub": "dev", "exp": time.Now().Add(time.Hour).Unix(), "iss": "us", "aud": []string{"eproxy", "x"}}
	for k, v := range more {
		if all[k] = v; v == nil {
			delete(all, k)
		}
	}
	j := jwt.NewWithClaims(m, all)
	if kid != "" {
		j.Header["kid"] = kid
	}
	raw, err := j.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTokens(t *testing.T) {
	i := newIssuer(t)
	dir := t.TempDir()
	pub := i.publicKey(t, i.rsa)
	cfg := &config.Auth{JWT: &config.JWT{
		SecretFile:    writeFile(t, dir, "secret", string(i.secret)+"\n"),
		PublicKeyFile: writeFile(t, dir, "key.pem", pub),
		JWKSFile:      writeFile(t, dir, "keys.json", i.keySet(t, map[string]*rsa.PrivateKey{"r": i.rsa})),
		Issuer:        "us", Audience: "eproxy", Username: "sub", Publish: "pub", Subscribe: "subs",
	}}
	a := load(t, cfg)
	c := New(nil)
	hs := func(more jwt.MapClaims) string { return sign(t, jwt.SigningMethodHS256, i.secret, "", more) }
	body := func(token string) string { return token[:strings.LastIndex(token, ".")] }
	signature := func(token string) string { return token[strings.LastIndex(token, "."):] }
	for _, x := range []struct {
		name, token string
		want        string // of the reason; empty: it is let in
	}{
		{"HS256", hs(nil), ""},
		{"RS256", sign(t, jwt.SigningMethodRS256, i.rsa, "", nil), ""},
		{"RS256 by name", sign(t, jwt.SigningMethodRS256, i.rsa, "r", nil), ""},
		{"ES256", sign(t, jwt.SigningMethodES256, i.ec, "e", nil), ""},
		{"audience as text", hs(jwt.MapClaims{"aud": "eproxy"}), ""},
		{"RS256 by another key", sign(t, jwt.SigningMethodRS256, i.other, "", nil), "verification error"},
		{"RS256 by a key for encryption", sign(t, jwt.SigningMethodRS256, i.other, "encrypts", nil), "verification error"},
		{"HS256 with the public key", sign(t, jwt.SigningMethodHS256, []byte(pub), "", nil), "signature is invalid"},
		{"HS384", sign(t, jwt.SigningMethodHS384, i.secret, "", nil), "signing method HS384 is invalid"},
		{"PS256", sign(t, jwt.SigningMethodPS256, i.rsa, "", nil), "signing method PS256 is invalid"},
		{"none", sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", nil), "signing method none is invalid"},
		{"ES256 by no key", sign(t, jwt.SigningMethodES256, i.ec, "x", nil), "signed with a key that is not known"},
		{"changed", body(hs(jwt.MapClaims{"sub": "ops"})) + signature(hs(nil)), "signature is invalid"},
		{"expired", hs(jwt.MapClaims{"exp": time.Now().Add(-time.Second).Unix()}), "expired"},
		{"for ever", hs(jwt.MapClaims{"exp": nil}), "exp claim is required"},
		{"not yet", hs(jwt.MapClaims{"nbf": time.Now().Add(time.Hour).Unix()}), "not valid yet"},
		{"of others", hs(jwt.MapClaims{"iss": "them"}), "invalid issuer"},
		{"of nobody", hs(jwt.MapClaims{"iss": nil}), "iss claim is required"},
		{"for others", hs(jwt.MapClaims{"aud": "x"}), "invalid audience"},
		{"no user", hs(jwt.MapClaims{"sub": nil}), `claim "sub" is no user name`},
		{"empty user", hs(jwt.MapClaims{"sub": ""}), `claim "sub" is no user name`},
		{"user of a number", hs(jwt.MapClaims{"sub": 7}), `claim "sub" is no user name`},
		{"user with a NUL", hs(jwt.MapClaims{"sub": "a\x00b"}), `claim "sub" is no user name`},
		{"filters of a number", hs(jwt.MapClaims{"pub": 7}), `claim "pub" is no list of topic filters`},
		{"shared filter", hs(jwt.MapClaims{"subs": "$share/g/a"}), `claim "subs" is no list of topic filters`},
		{"list of claims", strings.Split(hs(nil), ".")[0] + ".W10" + signature(hs(nil)), "malformed: it must be three parts"},
		{"bad filter", hs(jwt.MapClaims{"subs": []string{"a", "a/#/b"}}), `claim "subs" is no list of topic filters`},
	} {
		for _, user := range []string{"", "dev", "whoever"} {
			got := c.Check(a, Login{here, "c", user, []byte(x.token)})
			switch {
			case x.want == "" && (got.Result != Accepted || got.Account == nil || got.Account.Name != "dev"):
				t.Errorf("%s: %+v", x.name, got)
			case x.want != "" && (got.Result != Refused || !strings.Contains(got.Why, x.want) || got.Account != nil):
				t.Errorf("%s: %+v, want %s", x.name, got, x.want)
			}
		}
	}
	long := hs(jwt.MapClaims{"x": strings.Repeat("x", maxToken)})
	if got := c.Check(a, Login{here, "c", "dev", []byte(long)}); got.Result != Refused {
		t.Errorf("a token of %d bytes: %v", len(long), got.Result)
	}
	for _, p := range []string{"", "a.b.c", "..", "e30.e30.e30"} {
		if got := c.Check(a, Login{here, "c", "dev", []byte(p)}); got.Result != Refused || got.Why != "" {
			t.Errorf("password %q: %+v", p, got)
		}
	}
}

// TestBadTokenIsNotAnonymous: who shows a token that is not good is refused, also where he need not show any.
func TestBadTokenIsNotAnonymous(t *testing.T) {
	i := newIssuer(t)
	cfg := &config.Auth{AllowAnonymous: true, JWT: &config.JWT{SecretFile: writeFile(t, t.TempDir(), "secret", string(i.secret)), Username: "sub"}}
	c, a := New(nil), load(t, cfg)
	expired := sign(t, jwt.SigningMethodHS256, i.secret, "", jwt.MapClaims{"exp": 1})
	for _, x := range []struct {
		user, password string
		want           Result
	}{{"", "", Accepted}, {"", expired, Refused}, {"dev", expired, Refused}, {"dev", "x", Refused}} {
		if got := c.Check(a, Login{here, "c", x.user, []byte(x.password)}); got.Result != x.want {
			t.Errorf("%q with %.5q: %v", x.user, x.password, got)
		}
	}
}

// TestClaimsAreRights: a token's filters count where it has any, what the configuration denies is denied all the same.
func TestClaimsAreRights(t *testing.T) {
	i := newIssuer(t)
	cfg := &config.Auth{
		JWT:     &config.JWT{SecretFile: writeFile(t, t.TempDir(), "secret", string(i.secret)), Username: "user", Publish: "acl_pub", Subscribe: "acl_sub"},
		Users:   []config.User{{Username: "ops", Publish: []string{"ops/#"}, DenyPublish: []string{"ops/secret"}}},
		Default: config.User{Publish: []string{"default/%u"}, Subscribe: []string{"default"}, DenySubscribe: []string{"secret/#"}},
	}
	c, a := New(nil), load(t, cfg)
	rights := func(more jwt.MapClaims) *config.User {
		t.Helper()
		x := c.Check(a, Login{here, "c", "u", []byte(sign(t, jwt.SigningMethodHS256, i.secret, "", more))})
		u, ok := a.Rights(x.Account)
		if x.Account == nil || !ok {
			t.Fatalf("%v: %+v", more, x)
		}
		return u
	}
	for _, x := range []struct {
		claims  jwt.MapClaims
		publish []string // that it may, of those below
		receive []string
	}{
		{jwt.MapClaims{"user": "dev"}, []string{"default/dev"}, []string{"default"}},
		{jwt.MapClaims{"user": "ops"}, []string{"ops/x"}, []string{"default", "secret/x", "own/dev"}},
		{jwt.MapClaims{"user": "dev", "acl_pub": []string{"own/%u"}}, []string{"own/dev"}, []string{"default"}},
		{jwt.MapClaims{"user": "dev", "acl_pub": "own/#", "acl_sub": "#"}, []string{"own/dev"}, []string{"default", "own/dev"}},
		{jwt.MapClaims{"user": "dev", "acl_pub": []string{}, "acl_sub": []string{}}, nil, nil},
		{jwt.MapClaims{"user": "ops", "acl_pub": "#", "acl_sub": "secret/#"}, []string{"default/dev", "ops/x", "own/dev"}, []string{"secret/x"}},
	} {
		u := rights(x.claims)
		var publish, receive []string
		for _, name := range []string{"default/dev", "ops/x", "ops/secret", "own/dev"} {
			if u.MayPublish("c", name) {
				publish = append(publish, name)
			}
		}
		for _, name := range []string{"default", "secret/x", "own/dev"} {
			if u.MaySubscribe("c", name) {
				receive = append(receive, name)
			}
		}
		if !slices.Equal(publish, x.publish) || !slices.Equal(receive, x.receive) {
			t.Errorf("%v: may publish %q and receive %q, want %q and %q", x.claims, publish, receive, x.publish, x.receive)
		}
	}
}

// TestKeysAreReplaced: who was let in by a key that is gone, or by claims that do not count any more, is not let in.
func TestKeysAreReplaced(t *testing.T) {
	i := newIssuer(t)
	dir := t.TempDir()
	set := func(keys map[string]*rsa.PrivateKey) string { return writeFile(t, dir, "keys.json", i.keySet(t, keys)) }
	cfg := &config.Auth{JWT: &config.JWT{JWKSFile: set(map[string]*rsa.PrivateKey{"1": i.rsa}), Username: "sub"}}
	a := load(t, cfg)
	x := New(nil).Check(a, Login{here, "c", "", []byte(sign(t, jwt.SigningMethodRS256, i.rsa, "1", nil))}).Account
	may := func(when string, cfg *config.Auth, want bool) {
		t.Helper()
		if _, ok := load(t, cfg).Rights(x); ok != want {
			t.Errorf("%s: %v", when, ok)
		}
	}
	may("the same keys", cfg, true)
	set(map[string]*rsa.PrivateKey{"1": i.rsa, "2": i.other})
	if !a.Stale() {
		t.Error("keys have changed, and nobody knows")
	}
	may("one more key", cfg, true)
	other := *cfg.JWT
	other.Issuer = "them"
	may("another issuer", &config.Auth{JWT: &other}, false)
	other = *cfg.JWT
	other.Username = "iss"
	may("another name", &config.Auth{JWT: &other}, false)
	may("no tokens", &config.Auth{Users: []config.User{{Username: "dev", PasswordHash: mosquittoHash}}}, false)
	set(map[string]*rsa.PrivateKey{"2": i.other})
	may("the key is gone", cfg, false)
}

// TestBadKeysAreRefused: with the file.
func TestBadKeysAreRefused(t *testing.T) {
	i := newIssuer(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ key, text, want string }{
		{"secret", "short\n", "a secret of 5 bytes: it must have at least 32"},
		{"secret", "", "is empty"},
		{"public", "x", "no RSA public key or certificate in PEM"},
		{"public", i.publicKey(t, small), "an RSA key of 1024 bits: it must have at least 2048"},
		{"jwks", "{", "no JSON Web Key Set"},
		{"jwks", "[]", "no JSON Web Key Set"},
		{"jwks", `{"keys": []}`, "no key for RS256 or ES256"},
		{"jwks", `{"keys": [{"kty": "RSA", "kid": "a", "n": "AQ", "e": "AQAB"}]}`, `key 1, kid "a": `},
		{"jwks", i.keySet(t, map[string]*rsa.PrivateKey{"s": small}), `key 4, kid "s": an RSA key of 1024 bits`},
		{"jwks", `{"keys": [{"kty": "oct", "kid": "a", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}`, "no key for RS256 or ES256"},
	} {
		file := writeFile(t, t.TempDir(), "keys", x.text)
		j := map[string]*config.JWT{"secret": {SecretFile: file}, "public": {PublicKeyFile: file}, "jwks": {JWKSFile: file}}[x.key]
		if _, err := Load(&config.Auth{JWT: j}); err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "jwkset") {
			t.Errorf("%s %.40q: %v, want %s", x.key, x.text, err, x.want)
		}
	}
}

// FuzzTokens: whatever is sent for a token, nobody is let in without a signature.
func FuzzTokens(f *testing.F) {
	dir := f.TempDir()
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		f.Fatal(err)
	}
	a, err := Load(&config.Auth{JWT: &config.JWT{SecretFile: file, Username: "sub"}})
	if err != nil {
		f.Fatal(err)
	}
	c := New(nil)
	f.Add("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJkZXYifQ.AAAA")
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJkZXYiLCJleHAiOjk5OTk5OTk5OTl9.")
	f.Fuzz(func(t *testing.T, raw string) {
		if got := c.Check(a, Login{here, "c", "dev", []byte(raw)}); got.Result == Accepted {
			t.Errorf("%q: %+v", raw, got.Account)
		}
	})
}
