package page

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// Bounds of a token, bytes. Nobody guesses one of 16 random bytes in hexadecimal, however often he may try.
const (
	minToken = 32
	maxToken = 4096
)

const cookieName = "eproxy-page"

// door lets those in who know the token.
type door struct {
	token  [sha256.Size]byte // its hash: all comparisons are of the same length
	cookie string            // what a browser that has shown the token has instead
}

// openDoor reads the token from a file; line ends behind it do not belong to it.
func openDoor(file string) (*door, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("metrics.token_file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return nil, fmt.Errorf("metrics.token_file: %w", err)
	}
	token := bytes.TrimRight(b, "\r\n")
	switch {
	case len(b) > maxToken:
		return nil, fmt.Errorf("metrics.token_file: %s: is longer than %d bytes", file, maxToken)
	case len(token) < minToken:
		return nil, fmt.Errorf("metrics.token_file: %s: a token of %d bytes: it must have at least %d, as `openssl rand -hex 32` writes them", file, len(token), minToken)
	case bytes.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, fmt.Errorf("metrics.token_file: %s: a token has no spaces and only ASCII", file)
	}
	// A cookie lies on the disk of whoever looks: the token cannot be found out by it.
	cookie := sha256.Sum256(append([]byte("eproxy page cookie\x00"), token...))
	return &door{token: sha256.Sum256(token), cookie: hex.EncodeToString(cookie[:])}, nil
}

// is says whether that is the token, in a time that says nothing about it.
func (d *door) is(token string) bool {
	h := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(h[:], d.token[:]) == 1
}

// known says whether a request comes from somebody who has shown the token: by its cookie, or by the header Authorization
// (RFC 6750 section 2.1).
func (d *door) known(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") && d.is(token) {
		return true
	}
	c, err := r.Cookie(cookieName)
	return err == nil && subtle.ConstantTimeCompare([]byte(c.Value), []byte(d.cookie)) == 1
}

// shown is the token that a request shows to get a cookie: as the query parameter, or in the form of the page that asks for it.
func shown(w http.ResponseWriter, r *http.Request) (token string, err error) {
	if r.Method != http.MethodPost {
		return r.URL.Query().Get("token"), nil
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4*maxToken)
	if err := r.ParseForm(); err != nil {
		return "", errors.New("the form cannot be read")
	}
	return r.PostForm.Get("token"), nil
}

// remember gives the browser the cookie, until it is closed. No script sees it, and no other site has it sent. There is no TLS here, so that it
// cannot be Secure.
func (d *door) remember(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: d.cookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
}
