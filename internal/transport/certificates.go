package transport

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"eproxy/internal/config"
)

// loaded is what a listener's files say.
type loaded struct {
	server *tls.Config
	lists  []*x509.RevocationList
}

// load reads a listener's files. Errors name the file.
func load(cfg *config.TLS) (*loaded, error) {
	cert, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", cfg.Cert, cfg.Key, err)
	}
	l := &loaded{server: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}
	if cfg.ClientCA == "" {
		return l, nil
	}
	b, err := os.ReadFile(cfg.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("client_ca: %w", err)
	}
	l.server.ClientCAs = x509.NewCertPool()
	if !l.server.ClientCAs.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("client_ca %s: no certificate in it", cfg.ClientCA)
	}
	l.server.ClientAuth = tls.RequireAndVerifyClientCert
	if cfg.CRL == "" {
		return l, nil
	}
	if l.lists, err = readLists(cfg.CRL); err != nil {
		return nil, err
	}
	l.server.VerifyConnection = l.verify
	return l, nil
}

// readLists reads certificate revocation lists, each in PEM.
func readLists(name string) ([]*x509.RevocationList, error) {
	rest, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("crl: %w", err)
	}
	var lists []*x509.RevocationList
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("crl %s: %w", name, err)
		}
		for _, x := range list.Extensions {
			if x.Critical { // of a part of the certificates, or what has changed (RFC 5280 section 5.2)
				return nil, fmt.Errorf("crl %s: a list with the critical extension %s is not a complete one", name, x.Id)
			}
		}
		lists = append(lists, list)
	}
	if len(lists) == 0 {
		return nil, fmt.Errorf("crl %s: no X509 CRL in it", name)
	}
	return lists, nil
}

// Reasons why a client's certificate is refused that its signatures do not tell.
var (
	errRevoked = errors.New("certificate is revoked")
	errNoList  = errors.New("no revocation list of the certificate's issuer is in force")
)

// verify refuses a client all of whose chains have a certificate that is revoked, or of whose issuer there is no
// list in force (RFC 5280 section 6.3). It is asked for resumed sessions, too.
func (l *loaded) verify(s tls.ConnectionState) error { return l.verifyChains(s.VerifiedChains) }

// verifyChains judges by the best of the chains. That one is revoked counts more than that there is no list for another: live
// sessions bear the latter.
func (l *loaded) verifyChains(chains [][]*x509.Certificate) error {
	worst := errNoList
	for _, chain := range chains {
		err := l.verifyChain(chain, time.Now())
		if err == nil {
			return nil
		}
		if errors.Is(err, errRevoked) {
			worst = err
		}
	}
	return worst
}

// verifyChain looks at all of a chain's certificates: one without a list must not hide one that is revoked.
func (l *loaded) verifyChain(chain []*x509.Certificate, now time.Time) error {
	var worst error
	for i, cert := range chain[:len(chain)-1] {
		err := l.verifyOne(cert, chain[i+1], now)
		if errors.Is(err, errRevoked) {
			return err
		}
		if err != nil {
			worst = err
		}
	}
	return worst
}

// verifyOne looks for a certificate in the lists of its issuer. One whose time is yet to come, as by a clock that is ahead of
// this one, revokes already. One that is out of date does where none is in force; else that one may have dropped the certificate
// (RFC 5280 section 5.3.1, removeFromCRL).
func (l *loaded) verifyOne(cert, issuer *x509.Certificate, now time.Time) error {
	err, once := errNoList, false
	for _, list := range l.lists {
		if list.CheckSignatureFrom(issuer) != nil {
			continue
		}
		over := !list.NextUpdate.IsZero() && now.After(list.NextUpdate)
		has := slices.ContainsFunc(list.RevokedCertificateEntries, func(r x509.RevocationListEntry) bool {
			return r.SerialNumber.Cmp(cert.SerialNumber) == 0
		})
		switch {
		case has && !over:
			return errRevoked
		case has:
			once = true
		case !over && !now.Before(list.ThisUpdate):
			err = nil
		}
	}
	if err != nil && once {
		return errRevoked
	}
	return err
}
