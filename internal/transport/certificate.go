package transport

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"eproxy/internal/filewatch"
)

// Certificate is that of a client, which was verified at its handshake.
type Certificate struct {
	// Expires is when it is out of date.
	Expires time.Time

	owner *credentials
	chain []*x509.Certificate    // as the client has sent it, its own first
	by    atomic.Pointer[loaded] // what it was verified by last
}

func newCertificate(owner *credentials, by *loaded, chain []*x509.Certificate) *Certificate {
	c := &Certificate{owner: owner, chain: chain, Expires: chain[0].NotAfter}
	c.by.Store(by)
	return c
}

// Verify says whether the certificate would be accepted now: its authority is still one, and it is not revoked. That no list is
// in force says nothing about a certificate that was verified by one; that a list has it does, whatever the list's dates: the
// certificate is not judged again before the files change.
func (c *Certificate) Verify() error {
	now := c.owner.current()
	if c.by.Load() == now {
		return nil
	}
	options := x509.VerifyOptions{Roots: now.server.ClientCAs, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, x := range c.chain[1:] {
		options.Intermediates.AddCert(x)
	}
	chains, err := c.chain[0].Verify(options)
	if err != nil {
		return fmt.Errorf("certificate is not valid any more: %w", err)
	}
	if now.server.VerifyConnection != nil {
		if err := now.verifyChains(chains); err != nil && !errors.Is(err, errNoList) {
			return err
		}
	}
	c.by.Store(now)
	return nil
}

// Follow calls changed whenever clients' certificates may have become invalid, first at its beginning, until ctx ends. It
// returns at once where none are asked for.
func (l *Listener) Follow(ctx context.Context, changed func()) {
	if l.credentials == nil || l.credentials.cfg.ClientCA == "" {
		return
	}
	var told *loaded // what changed was called for last: a handshake may have loaded the files before they are looked at here
	look := func() {
		if now := l.credentials.refresh(); now != told {
			told = now
			changed()
		}
	}
	filewatch.Follow(ctx, []string{l.credentials.cfg.ClientCA, l.credentials.cfg.CRL}, look, func(err error) {
		if err != nil {
			l.credentials.warn("certificates cannot be watched", "error", err)
		}
	})
}
