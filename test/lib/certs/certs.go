// Package certs makes certificates for tests: an authority, what it signs, and what it revokes, as PEM files.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates.
type Authority struct {
	t      testing.TB
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
	crls   int64
	// CA is the file of its own certificate.
	CA string
	// Dir is where its files are.
	Dir string
}

// Pair is a certificate with its key.
type Pair struct {
	Cert, Key string // files
	Serial    *big.Int
}

// New makes an authority whose files lie in a directory of the test's.
func New(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, Dir: t.TempDir(), serial: 1}
	a.key = a.newKey()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:  x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), SubjectKeyId: []byte{1, 2, 3},
	}
	a.cert = a.sign(template, template, &a.key.PublicKey, a.key)
	a.CA = a.write("ca.pem", "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return k
}

func (a *Authority) sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// write replaces a file as whoever renews certificates does, by renaming.
func (a *Authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.Dir, name)
	if err := os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// Issue makes the certificate of a name, for servers on this host and at more addresses, and for clients, in
// files of that name.
func (a *Authority) Issue(name string, more ...net.IP) Pair {
	a.t.Helper()
	a.serial++
	key := a.newKey()
	c := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name, Organization: []string{"tests"}},
		DNSNames: []string{name + ".example", "localhost"}, IPAddresses: append([]net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, more...),
		EmailAddresses: []string{name + "@example"}, URIs: []*url.URL{{Scheme: "urn", Opaque: "dev:" + name}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &key.PublicKey, a.key)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return Pair{Cert: a.write(name+".pem", "CERTIFICATE", c.Raw), Key: a.write(name+"-key.pem", "EC PRIVATE KEY", der), Serial: c.SerialNumber}
}

// Revoke writes the list of what is revoked now, which is in force until then, and returns its file.
func (a *Authority) Revoke(until time.Time, revoked ...Pair) string {
	a.t.Helper()
	a.crls++
	list := &x509.RevocationList{Number: big.NewInt(a.crls), ThisUpdate: time.Now().Add(-2 * time.Hour), NextUpdate: until}
	for _, p := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: p.Serial, RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.cert, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write("crl.pem", "X509 CRL", der)
}

// Client is the configuration of a client that trusts the authority, with a certificate of its own or
// without.
func (a *Authority) Client(own *Pair) *tls.Config {
	a.t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
	c.RootCAs.AddCert(a.cert)
	if own != nil {
		p, err := tls.LoadX509KeyPair(own.Cert, own.Key)
		if err != nil {
			a.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{p}
	}
	return c
}
