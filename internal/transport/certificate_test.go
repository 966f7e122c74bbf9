package transport

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"testing"
	"time"

	"eproxy/internal/config"
	"eproxy/test/lib/certs"
)

// TestFollowTellsWhatHandshakesLoaded: that a handshake was the first to load what has changed keeps nobody from judging the
// sessions that there are.
func TestFollowTellsWhatHandshakesLoaded(t *testing.T) {
	a := certs.New(t)
	server, bad := a.Issue("server"), a.Issue("bad")
	later := time.Now().Add(time.Hour)
	l := newListener(t, config.Listener{TLS: &config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: a.CA, CRL: a.Revoke(later)}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	told := 0
	l.Follow(ctx, func() {
		if told++; told == 2 {
			cancel()
			return
		}
		a.Revoke(later, bad)
		look(l)
		l.credentials.current() // as a handshake has them, before anything looks because of the change
	})
	if told != 2 {
		t.Errorf("told %d times, want once at the beginning and once of the change", told)
	}
}

// certificateOf reads a file.
func certificateOf(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRevokedWhateverTheDates: a certificate in a list that is not in force is revoked, unless another that is says nothing of
// it; and nothing hides that.
func TestRevokedWhateverTheDates(t *testing.T) {
	a := certs.New(t)
	good, bad := certificateOf(t, a.Issue("good").Cert), a.Issue("bad")
	ca, revoked := certificateOf(t, a.CA), certificateOf(t, bad.Cert)
	hour := time.Now().Add(time.Hour)
	list := func(from, until time.Time, entries ...certs.Pair) *x509.RevocationList {
		lists, err := readLists(a.Revoke(hour, entries...))
		if err != nil {
			t.Fatal(err)
		}
		lists[0].ThisUpdate, lists[0].NextUpdate = from, until
		return lists[0]
	}
	past := hour.Add(-3 * time.Hour)
	ahead, over, without := list(hour.Add(-time.Minute), hour, bad), list(past, past, bad), list(past, hour)
	one := []*x509.Certificate{revoked, ca}
	below := []*x509.Certificate{good, revoked, ca} // of good's issuer there is no list
	other := []*x509.Certificate{good, good, ca}
	for name, c := range map[string]struct {
		lists  []*x509.RevocationList
		chains [][]*x509.Certificate
		want   error
	}{
		"not yet in force":                  {[]*x509.RevocationList{ahead}, [][]*x509.Certificate{one}, errRevoked},
		"not yet in force, beside another":  {[]*x509.RevocationList{without, ahead}, [][]*x509.Certificate{one}, errRevoked},
		"out of date":                       {[]*x509.RevocationList{over}, [][]*x509.Certificate{one}, errRevoked},
		"out of date, and dropped since":    {[]*x509.RevocationList{over, without}, [][]*x509.Certificate{one}, nil},
		"above one without a list":          {[]*x509.RevocationList{ahead}, [][]*x509.Certificate{below}, errRevoked},
		"another chain is without a list":   {[]*x509.RevocationList{ahead}, [][]*x509.Certificate{one, other}, errRevoked},
		"another certificate, out of date":  {[]*x509.RevocationList{over}, [][]*x509.Certificate{{good, ca}}, errNoList},
		"another certificate, not in force": {[]*x509.RevocationList{ahead}, [][]*x509.Certificate{{good, ca}}, errNoList},
	} {
		if err := (&loaded{lists: c.lists}).verifyChains(c.chains); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestLiveSessionIsRevoked: a session ends with a list that has its certificate and is not in force yet, and survives one that is
// out of date.
func TestLiveSessionIsRevoked(t *testing.T) {
	a := certs.New(t)
	server, device := a.Issue("server"), a.Issue("device")
	l := newListener(t, config.Listener{TLS: &config.TLS{Cert: server.Cert, Key: server.Key, ClientCA: a.CA, CRL: a.Revoke(time.Now().Add(time.Hour))}})
	c := newCertificate(l.credentials, l.credentials.current(), []*x509.Certificate{certificateOf(t, device.Cert)})
	a.Revoke(time.Now().Add(-time.Minute))
	look(l)
	if err := c.Verify(); err != nil {
		t.Errorf("a list that is out of date: %v", err)
	}
	a.Revoke(time.Now().Add(time.Hour), device)
	look(l)
	for _, list := range l.credentials.current().lists {
		list.ThisUpdate = time.Now().Add(time.Minute)
	}
	if err := c.Verify(); !errors.Is(err, errRevoked) {
		t.Errorf("a list that is not yet in force: %v", err)
	}
}
