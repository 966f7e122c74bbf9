package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"

	"eproxy/internal/passhash"
)

// auth reads who may do what.
func (b *builder) auth(a *rawAuth) {
	if a == nil {
		b.cfg.Auth.AllowAnonymous = true
		return
	}
	b.cfg.Auth.AllowAnonymous = a.AllowAnonymous
	b.deny(&a.Deny)
	b.cfg.Auth.Default = b.filters("$.auth.default", "auth.default", a.Default)
	b.cfg.Auth.PasswordFile = b.absolute("$.auth.password_file", "auth.password_file", a.PasswordFile)
	b.cfg.Auth.JWT = b.jwt(a.JWT)
	b.cfg.Auth.HTTP = b.hook(a.HTTP)
	seen := make(map[string]bool)
	for i := range a.Users {
		b.user(fmt.Sprintf("$.auth.users[%d]", i), i, &a.Users[i], seen)
	}
}

// user reads one account.
func (b *builder) user(path string, i int, u *rawUser, seen map[string]bool) {
	if u.Username == "" {
		b.fail(path, "auth.users[%d]: user without a username", i)
	}
	if seen[u.Username] {
		b.fail(path+".username", "user %q is a duplicate", u.Username)
	}
	seen[u.Username] = true
	if u.PasswordHash != "" || !b.knownOtherwise() {
		if err := passhash.Check(u.PasswordHash); err != nil {
			b.fail(path+".password_hash", "user %q: password_hash %v", u.Username, err)
		}
	}
	n := b.filters(path, fmt.Sprintf("user %q", u.Username), rawACL{u.Publish, u.Subscribe, u.DenyPublish, u.DenySubscribe})
	n.Username, n.PasswordHash = u.Username, u.PasswordHash
	b.cfg.Auth.Users = append(b.cfg.Auth.Users, n)
}

// knownOtherwise says whether clients can be known by something else than a hash in the configuration: a user then
// needs none.
func (b *builder) knownOtherwise() bool {
	a := &b.cfg.Auth
	return b.cfg.byCertificate() || a.PasswordFile != "" || a.JWT != nil || a.HTTP != nil
}

// filters reads what a user may do.
func (b *builder) filters(path, who string, a rawACL) User {
	for _, x := range []struct {
		key     string
		filters []string
	}{{"publish", a.Publish}, {"subscribe", a.Subscribe}, {"deny_publish", a.DenyPublish}, {"deny_subscribe", a.DenySubscribe}} {
		for i, f := range x.filters {
			if err := ValidateRight(f); err != nil {
				b.fail(fmt.Sprintf("%s.%s[%d]", path, x.key, i), "%s: filter %q: %v", who, f, err)
			}
		}
	}
	return User{Publish: a.Publish, Subscribe: a.Subscribe, DenyPublish: a.DenyPublish, DenySubscribe: a.DenySubscribe}
}

// absolute checks the path of a file, which may be missing.
func (b *builder) absolute(path, what, file string) string {
	if file != "" && !filepath.IsAbs(file) {
		b.fail(path, "%s %q: must be an absolute path", what, file)
	}
	return file
}

// Defaults and bounds of a Hook.
const (
	defaultHookTimeout = 5 * time.Second
	maxHookTimeout     = 20 * time.Second // CONNECT has 30 s
	defaultHookValid   = 5 * time.Minute
	minHookValid       = 10 * time.Second
)

// hook reads which service is asked.
func (b *builder) hook(r *rawHook) *Hook {
	if r == nil {
		return nil
	}
	const path = "$.auth.http"
	h := &Hook{Timeout: b.duration(path+".timeout", r.Timeout, defaultHookTimeout), Valid: b.duration(path+".valid", r.Valid, defaultHookValid)}
	u, err := url.Parse(r.URL)
	if h.URL = u; err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		b.fail(path+".url", "auth.http.url %q: must be as https://login.example/mqtt", r.URL)
	}
	if h.Timeout > maxHookTimeout {
		b.fail(path+".timeout", "auth.http.timeout %s: must be at most %s", h.Timeout, maxHookTimeout)
	}
	if h.Valid > 0 && h.Valid < minHookValid {
		b.fail(path+".valid", "auth.http.valid %s: must be at least %s", h.Valid, minHookValid)
	}
	return h
}

// jwt reads which tokens are taken for passwords.
func (b *builder) jwt(r *rawJWT) *JWT {
	if r == nil {
		return nil
	}
	const path = "$.auth.jwt"
	j := &JWT{
		SecretFile:    b.absolute(path+".secret_file", "auth.jwt.secret_file", r.SecretFile),
		PublicKeyFile: b.absolute(path+".public_key_file", "auth.jwt.public_key_file", r.PublicKeyFile),
		JWKSFile:      b.absolute(path+".jwks_file", "auth.jwt.jwks_file", r.JWKSFile),
		Issuer:        r.Issuer, Audience: r.Audience,
		Username: or(r.Username, "sub"), Publish: or(r.Publish, "publish"), Subscribe: or(r.Subscribe, "subscribe"),
	}
	if len(j.Files()) == 0 {
		b.fail(path+".jwks_file", "auth.jwt: no keys: name a secret_file, a public_key_file or a jwks_file")
	}
	return j
}

func (b *builder) deny(d *rawDeny) {
	for i, s := range d.Addresses {
		p, err := parsePrefix(s)
		if err != nil {
			b.fail(fmt.Sprintf("$.auth.deny.addresses[%d]", i), "auth.deny: address %q: must be an address or a prefix, as 192.0.2.7 or 2001:db8::/32", s)
		}
		b.cfg.Auth.Deny.Addresses = append(b.cfg.Auth.Deny.Addresses, p)
	}
	for i, s := range d.Clients {
		if s == "" {
			b.fail(fmt.Sprintf("$.auth.deny.clients[%d]", i), "auth.deny: client identifier is empty")
		}
	}
	b.cfg.Auth.Deny.Clients = d.Clients
}

// parsePrefix reads an address, which stands for itself alone, or a prefix. IPv4-mapped ones (RFC 4291 section 2.5.5.2) are of
// IPv4, as clients' addresses are.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		a = a.Unmap().WithZone("")
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && p.Addr().Is4In6() {
		const mapped = 96 // bits
		if p.Bits() < mapped {
			return p, errors.New("addresses of both IPv4 and IPv6")
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped)
	}
	return p.Masked(), err
}
