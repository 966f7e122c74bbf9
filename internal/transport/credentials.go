package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"eproxy/internal/config"
	"eproxy/internal/filewatch"
)

// ErrHandshake is that of a connection whose TLS handshake failed.
var ErrHandshake = errors.New("TLS handshake")

// credentials are a listener's certificates. Files that have changed are loaded with the next handshake,
// so that renewed certificates and revocations count without a restart; while one cannot be used, what was
// loaded before stays.
type credentials struct {
	cfg  *config.TLS
	warn Warn

	mu     sync.Mutex
	looked time.Time // when the files were looked at
	seen   filewatch.Stamp
	loaded *loaded
}

// lookInterval is how often the files are looked at, at most.
const lookInterval = time.Second

// newCredentials loads a listener's certificates.
func newCredentials(cfg *config.TLS, warn Warn) (*credentials, error) {
	c := &credentials{cfg: cfg, warn: warn, looked: time.Now()}
	c.seen = filewatch.Look(c.files())
	var err error
	if c.loaded, err = load(cfg); err != nil {
		return nil, err
	}
	return c, nil
}

// files are those of the credentials; some may be empty.
func (c *credentials) files() []string {
	return []string{c.cfg.Cert, c.cfg.Key, c.cfg.ClientCA, c.cfg.CRL}
}

// refresh is current, whenever the files were looked at last.
func (c *credentials) refresh() *loaded {
	c.mu.Lock()
	c.looked = time.Time{}
	c.mu.Unlock()
	return c.current()
}

// current are the certificates as the files have them now.
func (c *credentials) current() *loaded {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) < lookInterval {
		return c.loaded
	}
	c.looked = now
	seen := filewatch.Look(c.files())
	if seen.Same(c.seen) {
		return c.loaded
	}
	l, err := load(c.cfg)
	c.seen = seen
	if err != nil {
		c.warn("certificates have changed and cannot be used: those of before stay", "error", err)
		return c.loaded
	}
	c.loaded = l
	return l
}

// handshake makes a TLS connection of a client's, with a certificate where one is asked for. The session
// tickets of a client whose certificate was revoked since are refused with it: what is verified of a
// certificate is verified of a resumed session, too.
func (c *credentials) handshake(conn net.Conn) (*tls.Conn, *Certificate, error) {
	by := c.current()
	t := tls.Server(conn, by.server)
	if err := t.Handshake(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	if by.server.ClientCAs == nil {
		return t, nil, nil
	}
	return t, newCertificate(c, by, t.ConnectionState().PeerCertificates), nil
}

// username is the part of a client's certificate that is its user name; ok is false where none is wanted.
func (c *credentials) username(t *tls.Conn) (name string, ok bool) {
	peers := t.ConnectionState().PeerCertificates
	if c.cfg.Username == "" || len(peers) == 0 {
		return "", false
	}
	cert := peers[0]
	first := func(names []string) string {
		if len(names) == 0 {
			return ""
		}
		return names[0]
	}
	switch c.cfg.Username {
	case config.UsernameSubject:
		return cert.Subject.String(), true
	case config.UsernameDNS:
		return first(cert.DNSNames), true
	case config.UsernameEmail:
		return first(cert.EmailAddresses), true
	case config.UsernameURI:
		if len(cert.URIs) == 0 {
			return "", true
		}
		return cert.URIs[0].String(), true
	default:
		return cert.Subject.CommonName, true
	}
}

// encrypted is a TLS connection as a Conn.
type encrypted struct{ *tls.Conn }

// Finish sends close_notify (RFC 8446 section 6.1).
func (e encrypted) Finish() { _ = e.CloseWrite() }
