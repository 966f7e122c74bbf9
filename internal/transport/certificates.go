package transport

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
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

func (l *loaded) verifyChains(chains [][]*x509.Certificate) error {
	err := errNoList
	for _, chain := range chains {
		if err = l.verifyChain(chain, time.Now()); err == nil {
			return nil
		}
	}
	return err
}

func (l *loaded) verifyChain(chain []*x509.Certificate, now time.Time) error {
	for i, cert := range chain[:len(chain)-1] {
		if err := l.verifyOne(cert, chain[i+1], now); err != nil {
			return err
		}
	}
	return nil
}

func (l *loaded) verifyOne(cert, issuer *x509.Certificate, now time.Time) error {
	err := errNoList
	for _, list := range l.lists {
		if list.CheckSignatureFrom(issuer) != nil || now.Before(list.ThisUpdate) || !list.NextUpdate.IsZero() && now.After(list.NextUpdate) {
			continue
		}
		err = nil
		for _, r := range list.RevokedCertificateEntries {
			if r.SerialNumber.Cmp(cert.SerialNumber) == 0 {
				return errRevoked
			}
		}
	}
	return err
}
