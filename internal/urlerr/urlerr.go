// Package urlerr keeps secrets out of what is logged about URLs: a query, or a user's name and password, may be one.
package urlerr

import (
	"errors"
	"fmt"
	"net/url"
)

// Name is a URL without all that may be secret: its scheme, host and path.
func Name(u *url.URL) string {
	short := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return short.String()
}

// Short is an error of net/http or net/url with the Name of its URL in place of the whole, or without one that is none; other
// errors stay as they are.
func Short(err error) error {
	var e *url.Error
	if !errors.As(err, &e) {
		return err
	}
	u, bad := url.Parse(e.URL)
	if bad != nil {
		return e.Err
	}
	return fmt.Errorf("%s: %w", Name(u), e.Err)
}
