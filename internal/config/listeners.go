package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
)

func (b *builder) listeners(ls []rawListener) {
	if len(ls) == 0 {
		ls = []rawListener{{Address: ":1883"}}
	}
	seen := make(map[string]bool)
	for i, l := range ls {
		path := fmt.Sprintf("$.listeners[%d]", i)
		b.address(path+".address", l.Address)
		if seen[l.Address] {
			b.fail(path+".address", "listener %q is a duplicate", l.Address)
		}
		seen[l.Address] = true
		n := Listener{Address: l.Address, Websocket: l.Websocket, TLS: b.tls(path+".tls", l.TLS)}
		if len(l.Origins) > 0 && !l.Websocket {
			b.fail(path+".origins", "listeners[%d]: origins are those of web pages: they need websocket: true", i)
		}
		for j, o := range l.Origins {
			n.Origins = append(n.Origins, b.origin(fmt.Sprintf("%s.origins[%d]", path, j), o))
		}
		for j, p := range l.ProxyProtocol {
			prefix, err := parsePrefix(p)
			if err != nil {
				b.fail(fmt.Sprintf("%s.proxy_protocol[%d]", path, j), "proxy_protocol: address %q: must be an address or a prefix, as 192.0.2.7 or 2001:db8::/32", p)
			}
			n.Proxies = append(n.Proxies, prefix)
		}
		b.cfg.Listeners = append(b.cfg.Listeners, n)
		b.cfg.listenerLines = append(b.cfg.listenerLines, b.line(path))
	}
}

// origin checks the origin of web pages, as browsers write it: scheme, host, and a port that is
// not the scheme's own.
func (b *builder) origin(path, o string) string {
	u, err := url.Parse(o)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != o {
		b.fail(path, "origin %q: must be as https://dashboard.example or http://10.1.2.3:8080", o)
	}
	return strings.ToLower(o)
}

func (b *builder) tls(path string, t *rawTLS) *TLS {
	if t == nil {
		return nil
	}
	for _, f := range []struct {
		key, file string
		needed    bool
	}{{"cert", t.Cert, true}, {"key", t.Key, true}, {"client_ca", t.ClientCA, false}, {"crl", t.CRL, false}} {
		switch {
		case f.file == "" && f.needed:
			b.fail(path, "tls: %s is missing", f.key)
		case f.file != "" && !filepath.IsAbs(f.file):
			b.fail(path+"."+f.key, "tls: %s %q: must be an absolute path", f.key, f.file)
		}
	}
	parts := []string{UsernameCommonName, UsernameSubject, UsernameDNS, UsernameEmail, UsernameURI}
	switch {
	case t.CRL != "" && t.ClientCA == "":
		b.fail(path+".crl", "tls: crl without client_ca: no certificate is asked for")
	case t.Username == "":
	case !slices.Contains(parts, t.Username):
		b.fail(path+".username", "tls: username %q: must be %s", t.Username, strings.Join(parts, ", "))
	case t.ClientCA == "":
		b.fail(path+".username", "tls: username without client_ca: no certificate is asked for")
	}
	return &TLS{Cert: t.Cert, Key: t.Key, ClientCA: t.ClientCA, CRL: t.CRL, Username: t.Username}
}

// byCertificate says whether clients can be known by their certificates: a user then needs no
// password.
func (c *Config) byCertificate() bool {
	return slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.TLS != nil && l.TLS.Username != "" })
}
