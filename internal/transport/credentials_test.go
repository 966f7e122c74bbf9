package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"eproxy/internal/config"
	"eproxy/test/lib/certs"
)

// try makes a TLS connection and says what the server made of it, and whether the session was resumed.
func try(t *testing.T, l *Listener, c *tls.Config) (resumed bool, err error) {
	t.Helper()
	client, end := pair(t)
	done := open(l, end)
	go func() { // TLS 1.3: the client has done before the server has judged its certificate
		tc := tls.Client(client, c)
		_, _ = tc.Read(make([]byte, 1))
		_ = tc.Close()
	}()
	o := <-done
	if o.err != nil {
		return false, o.err
	}
	if _, err := o.stream.Conn.Write([]byte{0}); err != nil { // with the session's ticket
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, o.stream.Conn)
	return o.stream.Conn.(encrypted).ConnectionState().DidResume, nil
}

// look has the files looked at with the next handshake.
func look(l *Listener) {
	l.credentials.mu.Lock()
	defer l.credentials.mu.Unlock()
	l.credentials.looked = time.Time{}
}

// TestClientCertificates: where certificates are asked for, nobody comes without one of the authority's.
func TestClientCertificates(t *testing.T) {
	a, others := certs.New(t), certs.New(t)
	server, device, stranger := a.Issue("server"), a.Issue("device"), others.Issue("device")
	l := newListener(t, config.Listener{TLS: &config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: a.CA}})
	if _, err := try(t, l, a.Client(&device)); err != nil {
		t.Errorf("with a certificate: %v", err)
	}
	if _, err := try(t, l, a.Client(nil)); !errors.Is(err, ErrHandshake) {
		t.Errorf("without a certificate: %v", err)
	}
	if _, err := try(t, l, a.Client(&stranger)); !errors.Is(err, ErrHandshake) {
		t.Errorf("with another authority's: %v", err)
	}
	old := a.Client(&device)
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	if _, err := try(t, l, old); !errors.Is(err, ErrHandshake) {
		t.Errorf("TLS 1.1: %v", err)
	}
}

// TestRevocation: a revoked certificate is refused from the next handshake on, and its session's ticket with it; so
// is every certificate whose issuer's list is out of date.
func TestRevocation(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		a := certs.New(t)
		server, good, bad := a.Issue("server"), a.Issue("good"), a.Issue("bad")
		later := time.Now().Add(time.Hour)
		l := newListener(t, config.Listener{TLS: &config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: a.CA, CRL: a.Revoke(later)}})
		client := func(p certs.Pair) *tls.Config {
			c := a.Client(&p)
			c.MaxVersion, c.ClientSessionCache = version, tls.NewLRUClientSessionCache(4)
			return c
		}
		cg, cb := client(good), client(bad)
		for i, c := range []*tls.Config{cg, cb, cg, cb} {
			if resumed, err := try(t, l, c); err != nil || resumed != (i > 1) {
				t.Errorf("TLS %x, before: connection %d: resumed %v, %v", version, i, resumed, err)
			}
		}
		a.Revoke(later, bad)
		look(l)
		if _, err := try(t, l, cg); err != nil {
			t.Errorf("TLS %x: the other certificate: %v", version, err)
		}
		if _, err := try(t, l, cb); !errors.Is(err, errRevoked) {
			t.Errorf("TLS %x: the revoked certificate: %v", version, err)
		}
		a.Revoke(time.Now().Add(-time.Minute))
		look(l)
		if _, err := try(t, l, cg); !errors.Is(err, errNoList) {
			t.Errorf("TLS %x: a list that is out of date: %v", version, err)
		}
	}
}

// TestResumedIsVerified: what is verified of a certificate is verified of a resumed session as well, which shows
// no certificate.
func TestResumedIsVerified(t *testing.T) {
	a := certs.New(t)
	server, device := a.Issue("server"), a.Issue("device")
	soon := time.Now().Add(time.Hour)
	l := newListener(t, config.Listener{TLS: &config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: a.CA, CRL: a.Revoke(soon)}})
	c := a.Client(&device)
	c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if _, err := try(t, l, c); err != nil {
		t.Fatal(err)
	}
	l.credentials.loaded.lists[0].NextUpdate = time.Now().Add(-time.Minute) // time goes by, no file changes
	if resumed, err := try(t, l, c); !errors.Is(err, errNoList) {
		t.Errorf("resumed %v, %v; want that there is no list", resumed, err)
	}
}

// TestRenewal: a renewed certificate is shown from the next handshake on; a file that cannot be used changes
// nothing and is told of once.
func TestRenewal(t *testing.T) {
	a := certs.New(t)
	server := a.Issue("server")
	var told []string
	cfg := config.Listener{TLS: &config.TLS{Cert: server.Cert, Key: server.Key}}
	l, err := New(&cfg, func(m string, args ...any) { told = append(told, m+": "+args[1].(error).Error()) })
	if err != nil {
		t.Fatal(err)
	}
	serial := func() string {
		look(l)
		client, end := pair(t)
		done := open(l, end)
		tc := tls.Client(client, a.Client(nil))
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		<-done
		return tc.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	if got := serial(); got != server.Serial.String() {
		t.Errorf("serial %s, want %s", got, server.Serial)
	}
	renewed := a.Issue("server")
	if got := serial(); got != renewed.Serial.String() {
		t.Errorf("serial %s after the renewal, want %s", got, renewed.Serial)
	}
	if err := os.WriteFile(server.Cert, []byte("half a cert"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := serial(); got != renewed.Serial.String() {
			t.Errorf("serial %s with a broken file, want %s", got, renewed.Serial)
		}
	}
	if len(told) != 1 || !strings.Contains(told[0], server.Cert) {
		t.Errorf("told: %q", told)
	}
}

// TestUnusableFiles: a listener does not begin with files that cannot be used; the error names them.
func TestUnusableFiles(t *testing.T) {
	a := certs.New(t)
	server, other := a.Issue("server"), a.Issue("other")
	for name, c := range map[string]struct {
		tls  config.TLS
		want string
	}{
		"no certificate":    {config.TLS{Cert: "/none.pem", Key: server.Key}, "/none.pem"},
		"another's key":     {config.TLS{Cert: server.Cert, Key: other.Key}, other.Key},
		"no authority":      {config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: "/none.pem"}, "/none.pem"},
		"authority's a key": {config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: server.Key}, server.Key},
		"no list":           {config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: a.CA, CRL: "/none.pem"}, "/none.pem"},
		"a list that is no": {config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: a.CA, CRL: a.CA}, a.CA},
	} {
		_, err := New(&config.Listener{TLS: &c.tls}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s named", name, err, c.want)
		}
	}
}
